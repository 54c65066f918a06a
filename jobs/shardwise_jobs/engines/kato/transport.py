"""The two ways to make a worker's block count, behind one interface: written to the store, or learned by a server.

Transport Direct is here, since it needs nothing but the store: no client of a server is loaded for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from shardwise.engine.backoff import retrying

from .hierarchy import SampleTree, sum_up
from .names import node_id
from .stores.base import BlockRecord, PatternStore, StoreUnavailable

Guarantee = Literal["ExactlyOnce", "AtLeastOnce"]
"""What a crash at the worst moment can do to a count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkedBlock:
    """One block of a shard, worked out and ready to be committed."""

    number: int
    trees: list[SampleTree]
    """Samples to learn, in order of item."""
    failures: list[tuple[int, str]] = field(default_factory=list)
    """Failed items: (index, reason)."""
    skipped: int = 0
    """Items too short to learn from."""


class Transport(Protocol):
    """Commits blocks of one shard in order; a block committed twice counts once (or says that it can't know)."""

    def last_block(self) -> int:
        """Return the number of the shard's last committed block, -1 when there is none."""

    def records(self) -> list[BlockRecord]:
        """Return the shard's ledger rows in order of block."""

    def commit(self, block: WorkedBlock) -> BlockRecord:
        """Make the block count and return its ledger row (the one that is kept, if it was there already)."""

    def close(self) -> None:
        """Give back connections and sessions; never raises."""


MAX_LISTED_FAILURES = 10
"""Failed items that a ledger row lists; all are counted."""


class DirectTransport:
    """Commits one shard's blocks into a pattern store. See `transport.Transport`."""

    def __init__(
        self, *, store: PatternStore, knowledge_base: str, node_names: tuple[str, ...], run: str, shard: int
    ) -> None:
        self._store = store
        self._node_ids = [node_id(knowledge_base, name) for name in node_names]
        self._run = run
        self._shard = shard

    def last_block(self) -> int:
        """See `Transport.last_block`."""
        return retrying(lambda: self._store.last_block(run=self._run, shard=self._shard), on=StoreUnavailable)

    def records(self) -> list[BlockRecord]:
        """See `Transport.records`."""
        return list(self._store.ledger(run=self._run, shard=self._shard))

    def commit(self, block: WorkedBlock) -> BlockRecord:
        """See `Transport.commit`; the guard makes it safe to try again after any error."""
        levels = len(self._node_ids)
        record = BlockRecord(
            run=self._run,
            shard=self._shard,
            block=block.number,
            done=len(block.trees),
            failed=len(block.failures),
            skipped=block.skipped,
            learns=tuple(sum(len(tree.levels[level]) for tree in block.trees) for level in range(levels)),
            failures=tuple(block.failures[:MAX_LISTED_FAILURES]),
        )
        learned = sum_up(block.trees, levels=levels)
        batches = {node: batch for node, batch in zip(self._node_ids, learned, strict=True) if batch}
        retrying(lambda: self._store.commit_block(batches=batches, record=record), on=StoreUnavailable)
        return record

    def close(self) -> None:
        """See `Transport.close`."""
        self._store.close()
