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
    BlockStore,
    EngineSpec,
    Ledger,
    RangeSource,
    SqlBlockStore,
    Summary,
)
from shardwise.testing import EngineContract
from tests.support.block_engines import NumbersContract, SumInDatabase

pytestmark = pytest.mark.usefixtures("memory_uris")


class TestFiles(NumbersContract):
    def test_the_sum_is_right(self) -> None:
        trial = self.trial()
        result = trial.complete(shards=3)
        assert (Path(trial.output) / "sum.txt").read_text() == f"{sum(range(self.items))}\n"
        assert result.items.done == self.items


class TestObjectStore(NumbersContract):
    def output(self, folder: Path) -> str:
        return f"memory://{uuid.uuid4().hex}"


class TestSqlite(NumbersContract):
    engine = SumInDatabase


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
