"""A shard's blocks on their way to the store: while one is written, the next ones get their codes and vectors.

So many blocks are under way that whoever gives codes never waits for the end of one, and no more, which bounds the
memory. Blocks are committed in order, each in one transaction with its ledger row; what is under way when the work
ends is given up, and has left nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from shardwise.engine.errors import TooManyFailedItems

from .phase_timer import PhaseTimer, WithWriting
from .row_builder import row_of
from .source import Entry
from .stages import Failed, Stages
from .stores import BlockRecord, Row, RowStore

MAX_LISTED = 10
_MAX_REASON = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block as the input has it."""

    number: int
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where rows go, and what they say of where they come from."""

    store: RowStore
    run: str
    shard: int
    dataset: str
    embed_model: str


@dataclass(slots=True, kw_only=True)
class _Worked:
    rows: list[Row] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)


def ahead_of(*, workers: int, block_size: int) -> int:
    """Return how many blocks to have under way, so that `workers` calls are too: one more to fill up, one to write."""
    return -(-workers // block_size) + 2


class Pipeline:
    """Takes blocks through the stages and into the store, in one event loop."""

    def __init__(
        self,
        *,
        stages: Stages,
        target: Target,
        clock: PhaseTimer,
        ahead: int,
        max_failed: float,
        check: Callable[[], None],
        committed: Callable[[BlockRecord], None],
    ) -> None:
        """Prepare.

        `check` is called between two blocks and raises when the work should end; `committed` is told of each block.
        `max_failed` is how many chunks of this shard may fail.
        """
        self._stages = stages
        self._target = target
        self._clock = clock
        self._ahead = ahead
        self._max_failed = max_failed
        self._check = check
        self._committed = committed

    async def run(self, blocks: Iterable[Block], *, failed: int = 0) -> None:
        """Work all blocks; `failed` chunks of the shard have failed before.

        Raises:
            TooManyFailedItems: before the block that is too much is written, so that it may be worked again.
        """
        coming = iter(blocks)
        under_way: deque[tuple[Block, asyncio.Task[_Worked]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
            try:
                while True:
                    self._check()
                    while len(under_way) < self._ahead and (block := next(coming, None)) is not None:
                        under_way.append((block, asyncio.create_task(self._worked(block, writer))))
                    if not under_way:
                        return
                    block, task = under_way[0]
                    worked = await task
                    failed += len(worked.failures)
                    self._require_few(failed, worked)
                    await self._commit(block, worked, writer)
                    under_way.popleft()
            finally:
                for _, task in under_way:
                    task.cancel()
                await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)

    async def _worked(self, block: Block, writer: ThreadPoolExecutor) -> _Worked:
        worked = _Worked()
        fresh = []
        for entry in block.entries:
            if entry.failure is not None:
                worked.failures.append((entry.item, entry.failure))
            elif not entry.duplicate:
                fresh.append(entry)
        ids = [entry.cpe_id for entry in fresh if entry.cpe_id is not None]
        look = partial(self._target.store.known, cpe_ids=ids)
        known = await asyncio.get_running_loop().run_in_executor(writer, look)
        # Rows never change: what is there need not be made, above all not asked for.
        fresh = [entry for entry in fresh if entry.cpe_id not in known]
        made = await self._stages.process([entry.chunk for entry in fresh if entry.chunk is not None])
        for entry, each in zip(fresh, made, strict=True):
            if isinstance(each, Failed):
                worked.failures.append((entry.item, each.reason))
            else:
                worked.rows.append(
                    row_of(
                        entry,
                        answer=each.answer,
                        vector=each.vector,
                        embed_model=self._target.embed_model,
                        dataset=self._target.dataset,
                        run=self._target.run,
                        shard=self._target.shard,
                    )
                )
        worked.failures.sort()
        return worked

    def _require_few(self, failed: int, worked: _Worked) -> None:
        if failed > self._max_failed and worked.failures:
            listed = "; ".join(f"item {item}: {reason[:_MAX_REASON]}" for item, reason in worked.failures[:3])
            raise TooManyFailedItems(
                f"{failed} items of shard {self._target.shard} failed, spec.items.maxFailedFraction allows "
                f"{int(self._max_failed)} of the run's: {listed}"
            )

    async def _commit(self, block: Block, worked: _Worked, writer: ThreadPoolExecutor) -> None:
        record = BlockRecord(
            run=self._target.run,
            shard=self._target.shard,
            block=block.number,
            chunks=len(block.entries),
            failed=len(worked.failures),
            failures=tuple((item, reason[:_MAX_REASON]) for item, reason in worked.failures[:MAX_LISTED]),
            millis=WithWriting(self._clock.lap()),
        )
        write = partial(self._target.store.commit_block, rows=worked.rows, record=record)
        inserted = await asyncio.get_running_loop().run_in_executor(writer, write)
        # A block that was there already was written by this very run, so its rows were new.
        self._committed(replace(record, inserted=len(worked.rows) if inserted is None else inserted))
