"""What every store of blocks promises, with a real PostgreSQL too: a block counts once, the first time."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from shardwise.engine import BlockRecord, BlockStore, FileBlockStore, OutputFolder, SqlBlockStore, WorkError
from shardwise.engine.stores import digest_of
from tests.support.block_engines import NumbersContract, SumInDatabase
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.usefixtures("memory_uris")
KINDS = ("files", "object store", "sqlite", "postgresql")


@pytest.fixture(params=KINDS)
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store of each kind is."""
    if request.param == "postgresql":
        made: str = request.getfixturevalue("postgres").new_database()
        return made
    return {
        "files": str(tmp_path / "blocks"),
        "object store": f"memory://{uuid.uuid4().hex}",
        "sqlite": f"sqlite:///{tmp_path}/blocks.db",
    }[request.param]


def opened(uri: str, *, run: str = "run") -> BlockStore:
    if uri.startswith(("sqlite", "postgresql")):
        return SqlBlockStore(uri, run=run, field="spec.store")
    return FileBlockStore(OutputFolder(uri).child(run))


def block(number: int, payload: bytes, *, failed: int = 0) -> tuple[BlockRecord, bytes]:
    failures = tuple((number * 3 + item, "broken") for item in range(failed))
    counts = {"items": 3, "done": 3 - failed, "failed": failed}
    return BlockRecord(block=number, **counts, failures=failures, digest=digest_of(payload)), payload


def test_a_block_counts_once_whatever_comes_after_it(uri: str) -> None:
    store, other = opened(uri), opened(uri)
    store.begin("identity")
    first, payload = block(0, b"first")
    assert store.commit(first, payload) == first
    # By another worker, and something else: both are told what counts.
    assert other.commit(*block(0, b"second", failed=1)) == first
    assert store.commit(*block(0, b"third")) == first
    assert list(store.ledger()) == [first]
    assert list(other.payloads([first])) == [b"first"]


def test_the_ledger_is_in_order_and_of_the_blocks_that_are_asked_for(uri: str) -> None:
    store = opened(uri)
    store.begin("identity")
    for number in (7, 0, 4, 2):
        store.commit(*block(number, b"%d" % number, failed=number % 3))
    assert store.blocks() == {0, 2, 4, 7}
    assert [record.block for record in store.ledger()] == [0, 2, 4, 7]
    assert [record.block for record in store.ledger(range(1, 8, 3))] == [4, 7]
    assert list(store.payloads(list(store.ledger()))) == [b"0", b"2", b"4", b"7"]


def test_the_first_identity_stays_and_each_run_has_its_own(uri: str) -> None:
    store = opened(uri)
    assert store.identity() is None
    assert store.begin("one") == "one"
    assert store.begin("two") == "one"
    assert opened(uri, run="other").identity() is None
    assert opened(uri, run="other").begin("two") == "two"
    store.commit(*block(0, b"of the first"))
    assert opened(uri, run="other").blocks() == set()


def test_what_was_never_begun_is_looked_at_without_a_trace(uri: str, tmp_path: Path) -> None:
    store = opened(uri)
    assert (store.identity(), store.blocks(), list(store.ledger())) == (None, set(), [])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_part_is_noticed(tmp_path: Path) -> None:
    store = opened(str(tmp_path))
    store.begin("identity")
    record, _ = block(0, b"whole")
    store.commit(record, b"whole")
    (part,) = (tmp_path / "run" / "parts").iterdir()
    part.write_bytes(b"half")
    with pytest.raises(WorkError, match="block 0 is not what was committed"):
        list(store.payloads([record]))


class TestPostgresql(NumbersContract):
    """The whole contract, with a database of its own for each run."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres: PostgresServer) -> None:
        class SumInPostgresql(SumInDatabase):
            def uri(self) -> str:
                key = self.output.uri
                if key not in databases:
                    databases[key] = postgres.new_database()
                return databases[key]

        databases: dict[str, str] = {}
        self.engine = SumInPostgresql  # type: ignore[misc]
