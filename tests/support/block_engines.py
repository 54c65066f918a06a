"""An engine whose blocks go wherever a test wants them, and its contract: what counted twice would show in a sum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shardwise.engine import (
    Block,
    BlockEngine,
    BlockRecord,
    EngineSpec,
    Ledger,
    LineSource,
    SqlBlockStore,
    Summary,
    Uri,
)
from shardwise.testing import EngineContract


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
        cursor.execute(self._sql("INSERT INTO total VALUES (?, 0) ON CONFLICT DO NOTHING"), (self._run,))
        cursor.execute(self._sql("UPDATE total SET items = items + ? WHERE run = ?"), (record.items, self._run))

    def total(self) -> int:
        ((items,),) = self._rows("SELECT items FROM total WHERE run = ?", self._run)
        return int(items)


class SumInDatabase(Sum):
    """The same, its blocks and its own row in a database; a subclass says in which."""

    def uri(self) -> str:
        return f"sqlite:///{self.output.uri}.db"

    def open_store(self) -> SumInRows:
        return SumInRows(self.uri(), run=self.run, field="spec.store")

    def summarize(self, ledger: Ledger) -> Summary:
        counted = self.open_store()
        assert counted.total() == ledger.items.all
        counted.close()
        return super().summarize(ledger)


class NumbersContract(EngineContract):
    engine = Sum

    def make_spec(self, folder: Path, *, items: int, broken: int) -> Mapping[str, Any]:
        # One is broken for the source already, the others for the engine alone.
        lines = [b"\xff", *[b"none"] * broken][:broken] + [b"%d" % number for number in range(items - broken)]
        (folder / "numbers.txt").write_bytes(b"".join(line + b"\n" for line in lines))
        return {"files": ["numbers.txt"]}

    def change_settings(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**spec, "factor": 2}
