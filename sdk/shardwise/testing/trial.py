"""A run of an engine within one process: its steps as workers do them, with what may befall a worker on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from shardwise.engine.block_engine import BlockEngine
from shardwise.engine.block_run import BlockRun
from shardwise.engine.files import OutputFolder
from shardwise.engine.progress import ProgressSender
from shardwise.engine.stop import StopFlag
from shardwise.engine.stores import BlockRecord, BlockStore
from shardwise.engine.worker import Context
from shardwise_api.common import Strategy
from shardwise_api.wire import PrepareResult, RunDocument, RunResult, ShardResult

AnyEngine = type[BlockEngine[Any]]
Commit = Callable[[], BlockRecord]
UID = "00000000-0000-5000-8000-000000000000"


class Killed(BaseException):
    """The end of a worker as by SIGKILL: nothing of it catches this."""


class Stop(StopFlag):
    """A flag that a test sets, as SIGTERM does."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = False

    @property
    def is_set(self) -> bool:
        """See `StopFlag.is_set`."""
        return self.wanted


class Trial:
    """One run, as often begun and resumed as a test asks for."""

    def __init__(
        self,
        engine: AnyEngine,
        *,
        spec: Mapping[str, Any],
        output: str,
        folder: Path,
        block_size: int = 3,
        max_failed_fraction: float = 0.0,
        strategy: Strategy = Strategy.ROUND_ROBIN,
    ) -> None:
        self.engine = engine
        self.spec = spec
        self.output = output
        self.folder = folder
        self.block_size = block_size
        self.max_failed_fraction = max_failed_fraction
        self.strategy = strategy
        self.stop = Stop()
        self._prepared: PrepareResult | None = None

    def prepare(self, *, shards: int = 1, dry_run: bool = False) -> PrepareResult:
        """Do the first step; what it finds is what the others go by, unless it is dry."""
        prepared = self._run(self.engine, shards).prepare(dry_run=dry_run)
        if not dry_run:
            self._prepared = prepared
        return prepared

    def work(self, shard: int, *, shards: int, engine: AnyEngine | None = None) -> ShardResult:
        """Do a shard's work."""
        return self._run(engine or self.engine, shards).work(shard=shard)

    def finalize(self, *, shards: int = 1) -> RunResult:
        """Do the last step."""
        return self._run(self.engine, shards).finalize()

    def complete(self, *, shards: int, engine: AnyEngine | None = None) -> RunResult:
        """Do all that is left to do."""
        self.prepare(shards=shards)
        for shard in range(shards):
            self.work(shard, shards=shards, engine=engine)
        return self.finalize(shards=shards)

    def _run(self, engine: AnyEngine, shards: int) -> BlockRun:
        sharding: dict[str, Any] = {"strategy": str(self.strategy), "shards": shards}
        if self.strategy is Strategy.DYNAMIC:
            sharding["parallelism"] = 1
        document = RunDocument(
            uid=UID,
            name="contract",
            kind="TrainingRun",
            spec={
                "sharding": sharding,
                "blockSize": self.block_size,
                "items": {"maxFailedFraction": self.max_failed_fraction},
                "engine": {"plugin": {"name": "contract", "spec": dict(self.spec)}},
            },
            prepared=self._prepared,
        )
        context = Context(
            document=document,
            output=OutputFolder(self.output),
            stop=self.stop,
            progress=ProgressSender(target=None, run=UID, shard=0),
        )
        return BlockRun(context, engine, values=self.spec, folder=self.folder)


def committing(engine: AnyEngine, around: Callable[[int, Commit], BlockRecord]) -> AnyEngine:
    """Return an engine whose commits pass through `around`, which gets their number, from 0, and what does them."""
    counted = 0

    class Store:
        def __init__(self, store: BlockStore) -> None:
            self._store = store

        def commit(self, record: BlockRecord, payload: bytes) -> BlockRecord:
            nonlocal counted
            number, counted = counted, counted + 1
            return around(number, lambda: self._store.commit(record, payload))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

    def open_store(self: BlockEngine[Any]) -> Store:
        return Store(engine.open_store(self))

    return type(engine.__name__, (engine,), {"open_store": open_store})


def processing(engine: AnyEngine, before: Callable[[int], object]) -> AnyEngine:
    """Return an engine that calls `before` with the number of each block before it is worked."""

    def process(self: BlockEngine[Any], block: Any) -> Any:
        before(block.number)
        return engine.process(self, block)

    return type(engine.__name__, (engine,), {"process": process})


class Calls:
    """Counts the calls out of Python (to the operating system, a database) of what is done, and ends it at one."""

    def __init__(self, *, end_at: int | None = None) -> None:
        self.count = 0
        self._end_at = end_at

    def of(self, call: Commit) -> BlockRecord:
        """Return what `call` returns; raise Killed at the call that was asked for."""
        before = sys.getprofile()
        sys.setprofile(self._seen)
        try:
            return call()
        finally:
            sys.setprofile(before)

    def _seen(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event != "c_call":
            return
        self.count += 1
        if self.count == self._end_at:
            raise Killed
