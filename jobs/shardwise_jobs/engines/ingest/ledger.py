"""A run's ledger, added up: what the blocks did, what is missing, and whether too much failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from shardwise.engine.blocks import count
from shardwise.engine.errors import BadInput, TooManyFailedItems
from shardwise_api.runs import IngestRunSpec
from shardwise_api.sharding import shard_items
from shardwise_api.wire import ItemCounts

from .phase_timer import Phase
from .stores import BlockRecord

_MAX_SAID = 3


@dataclass(slots=True)
class LedgerSum:
    """Committed blocks, added up."""

    blocks: int = 0
    done: int = 0
    """Chunks that are rows, written here or found there; until `lose` also those whose row nobody could write."""
    failed: int = 0
    inserted: int = 0
    deduplicated: int = 0
    millis: dict[str, float] = field(default_factory=dict)
    failures: list[tuple[int, str]] = field(default_factory=list)
    """(item, reason), in order once `of` has added all up."""

    @classmethod
    def of(cls, records: Iterable[BlockRecord]) -> LedgerSum:
        """Add up records."""
        total = cls()
        for record in records:
            total.add(record)
        total.failures.sort()
        return total

    def add(self, record: BlockRecord) -> None:
        """Add a record."""
        self.blocks += 1
        self.done += record.chunks - record.failed
        self.failed += record.failed
        self.inserted += record.inserted
        self.deduplicated += record.deduplicated
        self.failures.extend(record.failures)
        for phase, millis in record.millis.items():
            self.millis[phase] = self.millis.get(phase, 0.0) + millis

    def lose(self, failures: list[tuple[int, str]], *, number: int) -> None:
        """Count chunks as failed that the ledger has as done; `failures` names the first few of them."""
        self.done -= number
        self.deduplicated -= number
        self.failed += number
        self.failures = sorted([*self.failures, *failures])

    @property
    def items(self) -> ItemCounts:
        """The counts as progress and status show them."""
        return ItemCounts(done=self.done, failed=self.failed)

    @property
    def figures(self) -> dict[str, float]:
        """What became of the chunks, and where the time went: a phase's seconds, all workers together."""
        seconds = {f"{phase}Seconds": round(self.millis.get(phase, 0.0) / 1000, 3) for phase in Phase}
        return {"inserted": self.inserted, "deduplicated": self.deduplicated, **seconds}


def blocks_of(spec: IngestRunSpec, *, shard: int, total: int) -> int:
    """Return how many blocks a shard has."""
    return count(len(items_of(spec, shard=shard, total=total)), block_size=spec.block_size)


def items_of(spec: IngestRunSpec, *, shard: int, total: int) -> range:
    """Return the items of a shard."""
    return shard_items(strategy=spec.sharding.strategy, shards=spec.sharding.shards, shard=shard, total=total)


def items_of_block(spec: IngestRunSpec, *, shard: int, block: int, total: int) -> range:
    """Return the items of a shard's block."""
    return items_of(spec, shard=shard, total=total)[block * spec.block_size : (block + 1) * spec.block_size]


def missing_blocks(records: Iterable[BlockRecord], spec: IngestRunSpec, *, total: int) -> dict[int, int]:
    """Return shard -> number of blocks that the ledger lacks, empty when all are there."""
    found: Counter[int] = Counter(record.shard for record in records)
    lacking = {shard: blocks_of(spec, shard=shard, total=total) - found[shard] for shard in range(spec.sharding.shards)}
    return {shard: number for shard, number in lacking.items() if number}


def require_whole_blocks(records: Iterable[BlockRecord], spec: IngestRunSpec, *, total: int) -> None:
    """Raise when a block has not all of its chunks, so that none can be lost without a word.

    Raises:
        BadInput: with the first such block.
    """
    for record in records:
        expected = len(items_of_block(spec, shard=record.shard, block=record.block, total=total))
        if record.chunks != expected:
            raise BadInput(
                f"block {record.block} of shard {record.shard} has {record.chunks} chunks in the ledger, {expected} in "
                "the input that this run was prepared for: it was another one when the block was worked; give the run "
                "another metadata.name to ingest the input as it is now"
            )


def require_few_failed(*, failed: int, total: int, spec: IngestRunSpec, reasons: list[str], way_out: str = "") -> None:
    """Raise when more items failed than the manifest tolerates.

    Raises:
        TooManyFailedItems: with the way out, if there is one to name, and the first few reasons.
    """
    fraction = spec.items.max_failed_fraction
    if failed > fraction * total:
        listed = "; ".join(reasons[:_MAX_SAID])
        hint = f"; {way_out}" if way_out else ""
        raise TooManyFailedItems(
            f"{failed} of {total} items failed, spec.items.maxFailedFraction {fraction:g} allows "
            f"{int(fraction * total)}{hint}: {listed}"
        )
