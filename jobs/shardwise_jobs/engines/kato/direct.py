"""Transport Direct: the worker writes patterns into the store itself, a block at a time."""

from __future__ import annotations

from shardwise.engine.backoff import retrying

from .hierarchy import sum_up
from .names import node_id
from .stores.base import BlockRecord, PatternStore, StoreUnavailable
from .transport import MAX_LISTED_FAILURES, WorkedBlock


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
