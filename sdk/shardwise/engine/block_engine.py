"""What an engine's author writes. The rest, which nobody should have to remember, is `block_run`'s."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, get_args, get_origin

from shardwise_api.wire import ItemCounts

from .files import OutputFolder
from .sources.base import Item, Source
from .spec import EngineSpec, Spec
from .stores import BlockRecord, BlockStore, FileBlockStore

_MAX_REASON = 200
MAX_LISTED = 10
"""Failed items that are told one by one, of a block and of a run."""


class Block:
    """A run of items, worked and committed together: block b has items [b * blockSize, (b + 1) * blockSize)."""

    def __init__(self, number: int, items: list[Item]) -> None:
        self.number = number
        self.items = [item for item in items if item.failure is None]
        """Those that have a value, in order."""
        self._size = len(items)
        self._failures = {item.number: item.failure for item in items if item.failure is not None}
        self._skipped: set[int] = set()

    @property
    def values(self) -> list[Any]:
        """What the items are, in order."""
        return [item.value for item in self.items]

    def fail(self, item: Item, reason: str) -> None:
        """Count an item as failed, which `items.maxFailedFraction` may tolerate; the reason is for a person."""
        self._failures[item.number] = reason

    def skip(self, item: Item) -> None:
        """Count an item as passed over, which is no failure."""
        self._skipped.add(item.number)

    def record(self, *, digest: str) -> BlockRecord:
        """Return the row of the ledger that the block has once it is worked."""
        skipped = self._skipped - self._failures.keys()
        failures = sorted(self._failures.items())[:MAX_LISTED]
        return BlockRecord(
            block=self.number,
            items=self._size,
            done=self._size - len(self._failures) - len(skipped),
            failed=len(self._failures),
            skipped=len(skipped),
            failures=tuple((number, reason[:_MAX_REASON]) for number, reason in failures),
            digest=digest,
        )


class Ledger:
    """The committed blocks of a run, in order, and what was made of them."""

    def __init__(self, records: list[BlockRecord], engine: BlockEngine[Any], store: BlockStore) -> None:
        self.records = records
        self._engine = engine
        self._store = store

    @property
    def items(self) -> ItemCounts:
        """How many items went which way."""
        return ItemCounts(
            done=sum(record.done for record in self.records),
            failed=sum(record.failed for record in self.records),
            skipped=sum(record.skipped for record in self.records),
        )

    @property
    def failures(self) -> list[tuple[int, str]]:
        """The first few failed items: (number, reason)."""
        return sorted(failure for record in self.records for failure in record.failures)[:MAX_LISTED]

    def payloads(self) -> Iterator[Any]:
        """Yield what `process` returned for each block, in order of block."""
        yield from map(self._engine.decode, self._store.payloads(self.records))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The result of a run."""

    files: Mapping[str, str | bytes] = field(default_factory=dict)
    """Artefacts by name: written to the run's output."""
    digest: str | None = None
    """Hexadecimal SHA-256 of the result; absent: of the files' contents, in order of their names."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    """Anything else that a person wants to read in the run's summary; JSON."""


class BlockEngine(ABC, Generic[Spec]):
    """An engine whose work is blocks of items; `Spec` is the model of its settings.

    An author says what the input is, what is made of a block, and what all of it comes to. `process` must be pure: the
    same block gives the same payload, in any process and at any time. A block may be worked more than once; it counts
    once.
    """

    spec_model: ClassVar[type[EngineSpec]] = EngineSpec

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for base in getattr(cls, "__orig_bases__", ()):
            origin, given = get_origin(base), get_args(base)
            if isinstance(origin, type) and issubclass(origin, BlockEngine) and isinstance(given[0], type):
                cls.spec_model = given[0]

    def __init__(self, spec: Spec, *, run: str, output: OutputFolder, at: str) -> None:
        self.spec = spec
        """The settings, as the manifest has them, relative paths made absolute."""
        self.run = run
        """The run's uid: what is stored for one run is no other's."""
        self.output = output
        """The folder of the run's artefacts."""
        self._at = at

    def field(self, name: str) -> str:
        """Return how a person finds a field of the spec in the manifest: what a source's errors begin with."""
        return f"{self._at}.{name}"

    @abstractmethod
    def open_source(self) -> Source:
        """Return the input. It is opened in every worker."""

    @abstractmethod
    def process(self, block: Block) -> Any:
        """Return what a block's items come to: bytes, or what JSON can say (keys are texts). Pure."""

    @abstractmethod
    def summarize(self, ledger: Ledger) -> Summary:
        """Return what all blocks come to; called once all are there, and may be repeated."""

    def identity(self) -> Mapping[str, Any]:
        """Return the settings that a block's payload rests on: a run whose settings changed does not go on.

        By default all of them. The input's content is compared in any case, so where it lies may be left out.
        """
        return self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)

    def setup(self) -> None:
        """Prepare for `process`, once in each worker that has blocks to work: load a model here."""

    def open_store(self) -> BlockStore:
        """Return where the run's blocks are kept; opening it writes nothing."""
        return FileBlockStore(self.output.child(f"blocks/{self.run}"))

    def encode(self, payload: Any) -> bytes:
        """Return a payload as it is stored: equal payloads as equal bytes."""
        if isinstance(payload, bytes):
            return b"b" + payload
        return b"j" + json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def decode(self, stored: bytes) -> Any:
        """Return the payload that was stored."""
        return stored[1:] if stored[:1] == b"b" else json.loads(stored[1:])
