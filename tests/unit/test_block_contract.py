"""The framework keeps its promise with every store of its own: the contract, on files, in memory, and in SQLite."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shardwise.engine import (
    Block,
    BlockEngine,
    BlockRecord,
    BlockStore,
    EngineSpec,
    Ledger,
    LineSource,
    RangeSource,
    SqlBlockStore,
    Summary,
    Uri,
)
from shardwise.testing import EngineContract

pytestmark = pytest.mark.usefixtures("memory_uris")


class SumSpec(EngineSpec):
    files: list[Uri]
    factor: int = 1


class Sum(BlockEngine[SumSpec]):
    """Adds up numbers, one a line; a line that is none is an item that fails."""

    def identity(self) -> Mapping[str, Any]:
        return {"factor": self.spec.factor}

    def open_source(self) -> LineSource:
        return LineSource(self.spec.files, field=self.field("files"))

    def process(self, block: Block) -> dict[str, int]:
        total = 0
        for item in block.items:
            if item.value.isdecimal():
                total += self.spec.factor * int(item.value)
            else:
                block.fail(item, f"line {item.number + 1}: no number: {item.value!r}")
        return {"sum": total}

    def summarize(self, ledger: Ledger) -> Summary:
        return Summary(files={"sum.txt": f"{sum(payload['sum'] for payload in ledger.payloads())}\n"})


class SumInRows(SqlBlockStore):
    """Adds to a row of its own in the transaction of the block: what counted twice would show."""

    def create(self, cursor: Any) -> None:
        cursor.execute("CREATE TABLE IF NOT EXISTS total (run TEXT PRIMARY KEY, items INTEGER NOT NULL)")

    def apply(self, cursor: Any, record: BlockRecord, payload: bytes) -> None:
        cursor.execute("INSERT OR IGNORE INTO total VALUES (?, 0)", (self._run,))
        cursor.execute("UPDATE total SET items = items + ? WHERE run = ?", (record.items, self._run))

    def total(self) -> int:
        ((items,),) = self._rows("SELECT items FROM total WHERE run = ?", self._run)
        return int(items)


class SumInSqlite(Sum):
    def open_store(self) -> SumInRows:
        return SumInRows(f"sqlite:///{self.output.uri}.db", run=self.run, field="spec.store")

    def summarize(self, ledger: Ledger) -> Summary:
        counted = self.open_store()
        assert counted.total() == ledger.items.all
        counted.close()
        return super().summarize(ledger)


class _Numbers(EngineContract):
    engine = Sum

    def make_spec(self, folder: Path, *, items: int, broken: int) -> Mapping[str, Any]:
        # One is broken for the source already, the others for the engine alone.
        lines = [b"\xff", *[b"none"] * broken][:broken] + [b"%d" % number for number in range(items - broken)]
        (folder / "numbers.txt").write_bytes(b"".join(line + b"\n" for line in lines))
        return {"files": ["numbers.txt"]}

    def change_settings(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**spec, "factor": 2}


class TestFiles(_Numbers):
    def test_the_sum_is_right(self) -> None:
        trial = self.trial()
        result = trial.complete(shards=3)
        assert (Path(trial.output) / "sum.txt").read_text() == f"{sum(range(self.items))}\n"
        assert result.items.done == self.items


class TestObjectStore(_Numbers):
    def output(self, folder: Path) -> str:
        return f"memory://{uuid.uuid4().hex}"


class TestSqlite(_Numbers):
    engine = SumInSqlite


class SquaresSpec(EngineSpec):
    count: int


class Squares(BlockEngine[SquaresSpec]):
    """Work that needs no data, with payloads of bytes."""

    def open_source(self) -> RangeSource:
        return RangeSource(self.spec.count)

    def process(self, block: Block) -> bytes:
        return b"".join(b"%d\n" % number**2 for number in block.values)

    def summarize(self, ledger: Ledger) -> Summary:
        return Summary(files={"squares.txt": b"".join(ledger.payloads())})

    def open_store(self) -> BlockStore:
        return SqlBlockStore(f"sqlite:///{self.output.uri}.db", run=self.run, field="spec.store")


class TestRange(EngineContract):
    engine = Squares
    has_broken_items = False

    def make_spec(self, folder: Path, *, items: int, broken: int) -> Mapping[str, Any]:
        return {"count": items}
