"""A reader of an SQLite store leaves the locks of its own process's writer alone."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.sqlite_reader import connect_reader

COMES_AND_GOES = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("SELECT count(*) FROM t").fetchone()[0])
db.close()
"""


def test_a_reader_beside_a_writer_keeps_the_writers_log(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (a)")
        writer.execute("INSERT INTO t VALUES (1)")
        with closing(connect_reader(path, timeout_seconds=1)) as reader:
            assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
        # Another process that comes and goes would take the log away if nobody seemed to be here.
        other = [sys.executable, "-c", COMES_AND_GOES, str(path)]
        assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "1\n"
        assert path.with_name("store.db-wal").exists()
        writer.execute("INSERT INTO t VALUES (2)")
        assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "2\n"


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"nowhere\.db: No such file or directory"):
        connect_reader(tmp_path / "nowhere.db", timeout_seconds=1)
