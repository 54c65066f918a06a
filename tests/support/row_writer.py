"""A process that writes rows block by block, each when it is told to, so that a test can kill it in the middle of one.

Processes are forked from one that has imported everything already: tests kill dozens of them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from shardwise_jobs.engines.ingest.stores import open_store
from tests.support.rows import MODEL, record, rows

ROWS, BLOCK = 960, 4
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, "shardwise_jobs.engines.ingest.stores.postgres"])
_FREELY = "go on without asking"


def write(uri: str, run: str, shard: int, shards: int, line: Connection) -> None:
    """Write what the ledger lacks; a message before each block, one back after its commit."""
    store = open_store(uri, timeout_seconds=20, attempts=30)
    store.prepare(model=MODEL)
    made = rows(range(shard, ROWS, shards))
    done = store.committed_blocks(run=run, shard=shard)
    freely = False
    for block in range(len(made) // BLOCK):
        if block not in done:
            freely = freely or line.recv() == _FREELY
            part = made[block * BLOCK : (block + 1) * BLOCK]
            store.commit_block(rows=part, record=record(run=run, shard=shard, block=block, chunks=len(part)))
            line.send(block)
    store.close()
    line.close()


@dataclass
class Writer:
    """A writing process and the line to it."""

    process: ForkServerProcess
    line: Connection

    @classmethod
    def start(cls, uri: str, run: str, *, shard: int, shards: int) -> Writer:
        """Start one; it does nothing before it is told to."""
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=write, args=(uri, run, shard, shards, theirs))
        process.start()
        # Or it would never read as ended.
        theirs.close()
        return cls(process, ours)

    def may_write(self, blocks: int | None = None) -> None:
        """Let it write some blocks, or all that are left."""
        for _ in range(1 if blocks is None else blocks):
            self.line.send(_FREELY if blocks is None else "one")

    def hears(self, blocks: int = 1) -> bool:
        """Read the next commits; False when the writer came to its end."""
        try:
            for _ in range(blocks):
                self.line.recv()
        except EOFError:
            return False
        return True


@contextmanager
def ended(writers: list[Writer]) -> Iterator[list[Writer]]:
    """End all writers of a list, also those that were added to it."""
    with ExitStack() as stack:
        try:
            yield writers
        finally:
            for writer in writers:
                stack.callback(writer.line.close)
                stack.callback(writer.process.join)
                stack.callback(writer.process.kill)
