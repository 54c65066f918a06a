"""Where a run's blocks are kept: what was made of each, and a ledger of which are done. A block counts once.

Whoever commits a block that is committed already changes nothing, and learns what counts: a worker that was taken for
dead, and one that took its place, may both come to the same block, with another number of shards too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

from .errors import Unavailable, WorkError
from .files import OutputFolder

_AT_ONCE = 256
"""Files that are asked for together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """A row of the ledger: which items a block had, and what became of them."""

    block: int
    items: int
    done: int
    failed: int = 0
    skipped: int = 0
    failures: tuple[tuple[int, str], ...] = ()
    """The first few failed items: (number, reason)."""
    digest: str
    """SHA-256 of the payload."""

    def to_json(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the record of a JSON text."""
        fields: dict[str, Any] = json.loads(text)
        failures = tuple((int(item), str(reason)) for item, reason in fields.pop("failures"))
        return cls(failures=failures, **fields)


class BlockStore(Protocol):
    """The blocks of one run. Opening one writes nothing."""

    def identity(self) -> str | None:
        """Return what `begin` recorded, None when the run was never begun."""

    def begin(self, identity: str) -> str:
        """Record what the run is unless that is recorded, and return what is recorded; make what is missing."""

    def blocks(self) -> set[int]:
        """Return the numbers of the committed blocks."""

    def commit(self, record: BlockRecord, payload: bytes) -> BlockRecord:
        """Keep a block, whole or not at all, unless it is kept; return the record that counts, this or the earlier one.

        Raises:
            Unavailable: another try may succeed, and does no harm.
        """

    def ledger(self, within: range | None = None) -> Iterator[BlockRecord]:
        """Yield the records of the committed blocks, of those `within` a range if given, in order of block."""

    def payloads(self, records: Sequence[BlockRecord]) -> Iterator[bytes]:
        """Yield what was committed with each of these records."""

    def close(self) -> None:
        """Give up what is held."""


def digest_of(payload: bytes) -> str:
    """Return a payload's digest, as a record has it."""
    return hashlib.sha256(payload).hexdigest()


def checked(record: BlockRecord, payload: bytes) -> bytes:
    """Return a payload that is what was committed.

    Raises:
        WorkError: it is another one.
    """
    if digest_of(payload) != record.digest:
        raise WorkError(f"block {record.block} is not what was committed: its store was damaged, or written by others")
    return payload


class FileBlockStore:
    """Blocks as files in a folder, local or of any place that fsspec knows: a part and a record for each.

    The part is written first and the record last, and only if there is none: the record is the commit. It names its
    part by content, so that of two that commit the same block at once each has a part of its own, and one counts.
    """

    def __init__(self, folder: OutputFolder) -> None:
        self._folder = folder
        self._records = folder.child("ledger")
        self._parts = folder.child("parts")

    def identity(self) -> str | None:
        """See `BlockStore.identity`."""
        return self._folder.read_text("identity.json")

    def begin(self, identity: str) -> str:
        """See `BlockStore.begin`."""
        if self._folder.create_bytes("identity.json", identity.encode()):
            return identity
        return self.identity() or identity

    def blocks(self) -> set[int]:
        """See `BlockStore.blocks`."""
        return {int(name.removesuffix(".json")) for name in self._records.names() if _is_record(name)}

    def commit(self, record: BlockRecord, payload: bytes) -> BlockRecord:
        """See `BlockStore.commit`."""
        name = _record_name(record.block)
        self._parts.create_bytes(_part_name(record), payload)
        if self._records.create_bytes(name, record.to_json().encode()):
            return record
        counted = self._records.read_bytes(name)
        if counted is None:
            raise Unavailable(f"the record of block {record.block} was there, and is gone")
        return BlockRecord.from_json(counted)

    def ledger(self, within: range | None = None) -> Iterator[BlockRecord]:
        """See `BlockStore.ledger`."""
        names = [_record_name(block) for block in sorted(self.blocks()) if within is None or block in within]
        for place in range(0, len(names), _AT_ONCE):
            yield from map(BlockRecord.from_json, self._records.read_all(names[place : place + _AT_ONCE]))

    def payloads(self, records: Sequence[BlockRecord]) -> Iterator[bytes]:
        """See `BlockStore.payloads`."""
        # One at a time: a payload may be large.
        for record in records:
            (payload,) = self._parts.read_all([_part_name(record)])
            yield checked(record, payload)

    def close(self) -> None:
        """See `BlockStore.close`."""


def _record_name(block: int) -> str:
    return f"{block:09}.json"


def _is_record(name: str) -> bool:
    return name.endswith(".json") and name[:-5].isdigit()


def _part_name(record: BlockRecord) -> str:
    return f"{record.block:09}-{record.digest[:16]}"
