"""Opening a store: which URIs there are, that nothing is made too early, and that no message tells a secret."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise_jobs.engines.ingest.stores import StoreError, StoreUnavailable, open_store, sqlite_path
from shardwise_jobs.engines.ingest.stores.base import StoreMismatch
from tests.support.rows import MODEL, new_run, record, row


@pytest.mark.parametrize(
    ("uri", "path"),
    [("sqlite:///rows.db", "rows.db"), ("sqlite:////dir/rows.db", "/dir/rows.db"), ("sqlite:///a%20b.db", "a b.db")],
)
def test_three_slashes_are_relative_and_four_absolute(uri: str, path: str) -> None:
    assert sqlite_path(uri) == Path(path)


@pytest.mark.parametrize(
    "uri", ["sqlite://rows.db", "sqlite:///", "mysql://worker:s3cret@host/db", "worker:s3cret@host"]
)
def test_a_uri_of_no_store_is_bad_configuration_and_its_password_stays_secret(uri: str) -> None:
    with pytest.raises(BadConfiguration, match=r"store\.uri") as failure:
        open_store(uri)
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize("end", ["?mode=ro", "?", "#part"])
def test_an_option_of_a_file_is_refused_instead_of_left_unheeded(end: str) -> None:
    with pytest.raises(BadConfiguration, match="a file takes no options; in its name write %3F"):
        open_store(f"sqlite:///rows.db{end}")
    assert sqlite_path("sqlite:///a%3Fb%23c.db") == Path("a?b#c.db")


def test_opening_makes_no_file(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'rows.db'}").close()
    assert list(tmp_path.iterdir()) == []


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'rows.db'}", read_only=True)
    with pytest.raises(StoreError, match="no such file"):
        store.check()
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_can_be_read_without_the_right_to_write(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'rows.db'}"
    store = open_store(uri)
    store.prepare(model=MODEL)
    store.commit_block(rows=[row(1)], record=record(run=new_run(), chunks=1))
    store.close()
    reader = open_store(uri, read_only=True)
    assert reader.check() == MODEL
    assert [one.cpe_id for one in reader.rows()] == [row(1).cpe_id]
    with pytest.raises(StoreError, match="readonly"):
        reader.commit_block(rows=[row(2)], record=record(run=new_run(), chunks=1))
    reader.close()


def test_a_file_that_stays_locked_is_unavailable(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'rows.db'}"
    store = open_store(uri, timeout_seconds=0, attempts=1)
    store.prepare(model=MODEL)
    holder = sqlite3.connect(tmp_path / "rows.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.commit_block(rows=[row(1)], record=record(run=new_run(), chunks=1))
    holder.execute("ROLLBACK")
    holder.close()
    assert store.commit_block(rows=[row(1)], record=record(run=new_run(), chunks=1)) == 1
    store.close()


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE theirs(x)")
    foreign.close()
    store = open_store(f"sqlite:///{tmp_path / 'foreign.db'}")
    with pytest.raises(StoreMismatch, match="another program"):
        store.prepare(model=MODEL)
    store.close()
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at as one\n" * 20)
    store = open_store(f"sqlite:///{tmp_path / 'text.db'}")
    with pytest.raises(StoreError):
        store.prepare(model=MODEL)
    store.close()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("schema_version", "7", "version 7, this program writes version 1"),
        ("schema_version", "2.0", r"version '2\.0', which is none of this program's"),
        ("dimension", "many", "its table ingest_meta is not one of this program's"),
    ],
)
def test_a_schema_of_another_version_is_refused_with_its_own(tmp_path: Path, key: str, value: str, said: str) -> None:
    uri = f"sqlite:///{tmp_path / 'rows.db'}"
    store = open_store(uri)
    store.prepare(model=MODEL)
    store.close()
    with sqlite3.connect(tmp_path / "rows.db") as db:
        db.execute("UPDATE ingest_meta SET value=? WHERE key=?", (value, key))
    db.close()
    store = open_store(uri)
    with pytest.raises(StoreMismatch, match=said):
        store.prepare(model=MODEL)
    store.close()


def test_a_folder_that_can_not_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = open_store(f"sqlite:///{tmp_path / 'file' / 'rows.db'}")
    with pytest.raises(StoreError, match=r"rows\.db"):
        store.prepare(model=MODEL)
    store.close()


def test_a_full_disk_takes_the_block_back_and_the_store_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'rows.db'}")
    store.prepare(model=MODEL)
    store.commit_block(rows=[row(1)], record=record(run=new_run(), chunks=1))
    # SQLite's own limit fails as a disk without room does.
    connection = store._open  # type: ignore[attr-defined]
    ((pages,),) = connection.execute("PRAGMA page_count")
    connection.execute(f"PRAGMA max_page_count={pages}")
    run, big = new_run(), row(2, source_chunk="x" * 100_000)
    with pytest.raises(StoreError, match="full"):
        store.commit_block(rows=[big], record=record(run=run, chunks=1))
    assert (store.counts().entries, store.committed_blocks(run=run, shard=0)) == (1, frozenset())
    connection.execute("PRAGMA max_page_count=1000000")
    assert store.commit_block(rows=[big], record=record(run=run, chunks=1)) == 1
    store.close()
