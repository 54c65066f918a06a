"""Who may read an SQLite store, and write nothing beside it, reads it; or is told what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from shardwise_jobs.engines.ingest.stores import open_store as open_rows
from shardwise_jobs.engines.kato.stores import KnowledgeBaseConfig
from shardwise_jobs.engines.kato.stores import open_store as open_patterns
from tests.support.rows import MODEL, new_run, record, row
from tests.support.worker import AS_NOBODY

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may run commands as another user")
COMMANDS = {
    "patterns": ("kato", "patterns", "--knowledge-base", "kb"),
    "rows": ("ingest", "rows", "--dataset", row(1).dataset_source),
}
MAIN = "from shardwise_cli.main import main; main()"


def as_nobody(command: str, path: Path) -> subprocess.CompletedProcess[str]:
    group, name, *options = COMMANDS[command]
    return subprocess.run(
        [*AS_NOBODY, sys.executable, "-P", "-c", MAIN, group, name, "--store", f"sqlite:///{path}", *options],
        capture_output=True, text=True, check=False, cwd="/", env={**os.environ, "HOME": "/tmp"},
    )  # fmt: skip


def made(command: str, folder: Path) -> Path:
    path = folder / f"{command}.db"
    if command == "patterns":
        with closing(open_patterns(f"sqlite:///{path}")) as patterns:
            config = KnowledgeBaseConfig(nodes=("node0",), chunk_sizes=(5,), tokenizer="words", segmentation="s")
            patterns.create_knowledge_base(name="kb", config=config)
    else:
        with closing(open_rows(f"sqlite:///{path}")) as rows:
            rows.prepare(model=MODEL)
            rows.commit_block(rows=[row(1)], record=record(run=new_run(), chunks=1))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_of_somebody_else_is_read(command: str, tmp_path: Path) -> None:
    path = made(command, tmp_path)
    before = sorted(tmp_path.iterdir())
    done = as_nobody(command, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (command == "rows")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_killed_writer_left_is_told_with_the_way_out(command: str, tmp_path: Path) -> None:
    path = made(command, tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE more(x)")
        log = path.with_name(f"{path.name}-wal").read_bytes()
    path.with_name(f"{path.name}-wal").write_bytes(log)
    done = as_nobody(command, path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{path.name}-wal holds changes" in done.stderr
    assert f"copy {path.name}* to a folder of your own" in done.stderr
