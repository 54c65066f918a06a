"""A ledger in files, for runs that have no database of their own: a KATO server learns, the output folder remembers.

One JSON-lines file per run and shard, replaced as a whole: on a disk by rename, on an object store by one PUT. Runs
that share an output folder have ledgers of their own, so that none can lose another's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from shardwise.engine.files import OutputFolder

from .stores.base import BlockRecord
from .stores.mapping import record_from_row, record_to_row


class FileLedger:
    """Ledger rows of one run under `<output>/ledger/<run>/`."""

    def __init__(self, *, output: OutputFolder, run: str) -> None:
        self._folder = output.child(f"ledger/{run}")

    def records(self, shard: int) -> list[BlockRecord]:
        """Return a shard's rows in order of block."""
        text = self._folder.read_text(f"shard-{shard}.jsonl") or ""
        # Not splitlines: a reason may hold one of the separators that only Unicode knows.
        return [record_from_row(json.loads(line)) for line in text.split("\n") if line]

    def last_block(self, shard: int) -> int:
        """Return the number of the last committed block, -1 when there is none."""
        return max((record.block for record in self.records(shard)), default=-1)

    def append(self, record: BlockRecord) -> None:
        """Write a row; the caller is the only writer of its shard."""
        rows = [*self.records(record.shard), record]
        text = "".join(json.dumps(record_to_row(row), ensure_ascii=False) + "\n" for row in rows)
        self._folder.write_text(f"shard-{record.shard}.jsonl", text)

    def announce(self, *, shard: int, block: int) -> None:
        """Note that a block is about to be sent to where a repetition can't be told from the first time."""
        self._folder.write_text(f"shard-{shard}.intent", json.dumps({"block": block}))

    def begun_block(self, shard: int) -> int | None:
        """Return the block that was announced last and never got its row: nobody knows how much of it counts."""
        text = self._folder.read_text(f"shard-{shard}.intent")
        if text is None:
            return None
        block = int(json.loads(text)["block"])
        return block if block > self.last_block(shard) else None

    def all_records(self, *, shards: int) -> Iterator[BlockRecord]:
        """Yield the rows of all shards by shard, then block."""
        for shard in range(shards):
            yield from self.records(shard)
