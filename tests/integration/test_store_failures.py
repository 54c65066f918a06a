"""How opening and reaching a store fails: what is worth a retry, what is a mistake; no message tells a secret."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise_jobs.engines.kato.stores import open_store
from shardwise_jobs.engines.kato.stores.base import StoreError, StoreUnavailable
from tests.support.learning import chunk, new_run, record

NODE = "kb_node0"


def test_a_locked_file_is_worth_a_retry(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}", timeout_seconds=0.05)
    holder = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.learn(node_id=NODE, batch=[chunk("a b")])
    holder.execute("ROLLBACK")
    holder.close()
    assert store.learn(node_id=NODE, batch=[chunk("a b")])
    store.close()


def test_a_server_that_is_not_there_is_worth_a_retry_and_its_password_stays_secret() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    store = open_store(f"mongodb://worker:s3cret@127.0.0.1:{port}/?authSource=admin", timeout_seconds=0.3)
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}") as failure:
        store.totals(node_id=NODE)
    with pytest.raises(StoreUnavailable):
        store.commit_block(batches={NODE: [chunk("a b")]}, record=record(run=new_run()))
    store.close()
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://worker:s3/cret@127.0.0.1",
        "mongodb://worker:s3cret:@127.0.0.1",
        "mongo://worker:s3cret@127.0.0.1",
        "worker:s3cret@127.0.0.1",
    ],
)
def test_a_bad_uri_is_bad_configuration_and_its_password_stays_secret(uri: str) -> None:
    with pytest.raises(BadConfiguration, match=r"store\.uri") as failure:
        open_store(uri)
    assert "s3" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE theirs(x)")
    foreign.close()
    with pytest.raises(StoreError, match="another program"):
        open_store(f"sqlite:///{tmp_path / 'foreign.db'}")
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at as one\n" * 20)
    with pytest.raises(StoreError):
        open_store(f"sqlite:///{tmp_path / 'text.db'}")


def test_reading_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        open_store(f"sqlite:///{tmp_path / 'none.db'}", read_only=True)
    assert not (tmp_path / "none.db").exists()
