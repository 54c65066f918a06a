"""Logs byte for byte, and lines cut from output however it comes."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.scripts.running.logs import Lines, ScriptLog
from shardwise_jobs.engines.scripts.terminal.board import last_words

NOON = datetime(2026, 1, 2, 12, 0, 0)


def test_a_log_is_named_after_its_job_and_its_second(tmp_path: Path) -> None:
    with ScriptLog.new(tmp_path, id="train_als", now=NOON) as log:
        assert log.path == tmp_path / "train_als" / "run_20260102_120000.log"


def test_two_runs_in_a_second_keep_both_logs(tmp_path: Path) -> None:
    for text in (b"first", b"second"):
        with ScriptLog.new(tmp_path, id="job", now=NOON) as log:
            log.write(text)

    assert sorted(path.read_bytes() for path in tmp_path.rglob("*.log")) == [b"first", b"second"]


@pytest.mark.parametrize("before", [b"", b"no end", b"with an end\n"])
def test_each_attempt_begins_on_a_line_of_its_own(tmp_path: Path, before: bytes) -> None:
    with ScriptLog.new(tmp_path, id="job") as log:
        log.write(before)
        log.begin(["python", "a b.py"])
        log.write(b"\xff")

    written = log.path.read_bytes()
    *_, command, output = written.split(b"\n")
    assert command.endswith(b" | INFO | Command: python 'a b.py'")
    assert command[:4].isdigit()
    assert output == b"\xff"
    assert log.digest == hashlib.sha256(written).hexdigest()


@given(st.lists(st.binary(max_size=40)))
def test_lines_are_the_same_however_output_is_cut(chunks: list[bytes]) -> None:
    found: list[bytes] = []
    lines = Lines(found.append)
    for chunk in chunks:
        lines.write(chunk)
    lines.close()

    assert found == [line for line in b"".join(chunks).replace(b"\r", b"\n").split(b"\n") if line]


def test_a_line_without_an_end_is_handed_on_in_parts() -> None:
    found: list[bytes] = []
    lines = Lines(found.append)
    for _ in range(10):
        lines.write(b"x" * 100_000)

    assert b"".join(found) == b"x" * sum(map(len, found))
    assert sum(map(len, found)) > 900_000


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b[2J\x1b[Hcleared", "cleared"),
        (b"bell\x07 and tab\tend", "bell and tab end"),
        (b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}"),
        ("größer".encode(), "größer"),
    ],
)
def test_a_shown_line_moves_no_cursor(line: bytes, shown: str) -> None:
    assert last_words(line) == shown
