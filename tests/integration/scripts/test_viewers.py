"""Whoever looks at a suite may go: a pipe's reader, a terminal, a disk with room. What runs goes on, and so is told."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import SHARDWISE
from tests.support.kube import eventually
from tests.support.suites import (
    let_go,
    plant,
    plant_copies,
    run_suite,
    start_suite,
    statuses_in,
    summary_in,
    wait_ready,
)
from tests.support.terminals import on_terminal

WAYS = ((), ("--verbose",), ("-o", "json"))
# What Python has not written yet it tries to write at its end, and then the exit status is 120.
BUFFERED = ["env", "-u", "PYTHONUNBUFFERED"]
NO_ROOM = [*BUFFERED, "sh", "-c", 'exec "$@" >/dev/full', "sh"]
NO_STDERR = [*BUFFERED, "sh", "-c", 'exec "$@" 2>&-', "sh"]
NO_ROOM_FOR_STDERR = [*BUFFERED, "sh", "-c", 'exec "$@" 2>/dev/full', "sh"]
REPLACES_SUMMARIES = """\
import pathlib, shutil
shutil.rmtree("summaries")
pathlib.Path("summaries").touch()
"""


def leave(process: subprocess.Popen[str]) -> None:
    """Close the other ends of both pipes, as `| head` does."""
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def wait_for_interrupt(tree: Path) -> None:
    """Wait until the run has heard of a signal, by the only witness when nobody looks on."""
    log = tree / "logs" / "orchestrator.log"
    eventually(lambda: "Interrupted" in log.read_text(), what="an interrupted run")


@pytest.mark.parametrize("words", WAYS)
def test_scripts_outlive_those_who_read_of_them(tmp_path: Path, words: tuple[str, ...]) -> None:
    plant_copies(tmp_path, "waiting", "a", "b")
    process = start_suite(tmp_path, *words, prefix=BUFFERED)
    wait_ready(tmp_path, "a")
    leave(process)
    let_go(tmp_path, "a", "b")

    assert process.wait(60) == 0
    assert statuses_in(tmp_path) == {"train_a": "SUCCESS", "train_b": "SUCCESS"}
    for log in tmp_path.glob("logs/train_*/*.log"):
        assert log.read_text().endswith("went on\n")


@pytest.mark.parametrize("words", WAYS)
def test_a_ctrl_c_that_ends_the_reader_too_leaves_scripts_their_grace(tmp_path: Path, words: tuple[str, ...]) -> None:
    plant_copies(tmp_path, "waiting", "a", "b")
    process = start_suite(tmp_path, *words, "--grace-seconds", "600", prefix=BUFFERED)
    wait_ready(tmp_path, "a")
    leave(process)
    process.send_signal(signal.SIGINT)
    wait_for_interrupt(tmp_path)
    let_go(tmp_path, "a", "b")

    assert process.wait(60) == 130
    assert statuses_in(tmp_path) == {"train_a": "SUCCESS", "train_b": "INTERRUPTED"}
    assert summary_in(tmp_path)["exit_status"] == 130


@pytest.mark.parametrize(("statuses", "verdict"), [({"a": "SUCCESS", "b": "INTERRUPTED"}, 130), ({"a": "SUCCESS"}, 0)])
def test_a_terminal_that_is_closed_is_one_signal_and_the_summary_has_the_verdict(
    tmp_path: Path, statuses: dict[str, str], verdict: int
) -> None:
    plant_copies(tmp_path, "waiting", *statuses)
    words = ("suite", "--no-default-jobs", "--grace-seconds", "600")
    with on_terminal(*BUFFERED, str(SHARDWISE), *words, cwd=tmp_path) as terminal:
        wait_ready(tmp_path, "a")
        terminal.wait_for("done, 1 running")
        terminal.close()
        wait_for_interrupt(tmp_path)
        let_go(tmp_path, "a")
        assert terminal.finish() == verdict

    assert statuses_in(tmp_path) == {f"train_{name}": status for name, status in statuses.items()}
    assert summary_in(tmp_path)["exit_status"] == verdict


@pytest.mark.parametrize("prefix", [NO_STDERR, NO_ROOM_FOR_STDERR])
def test_everything_may_be_asked_for_where_standard_error_takes_nothing(tmp_path: Path, prefix: list[str]) -> None:
    plant(tmp_path, "ok")

    assert run_suite(tmp_path, "--verbose", prefix=prefix).code == 0
    assert statuses_in(tmp_path) == {"train_ok": "SUCCESS"}


@pytest.mark.parametrize("words", [["--list"], ["--list", "-o", "json"], ["-o", "json"], ["--dry-run"], []])
def test_results_that_find_no_room_are_told_and_are_no_success(tmp_path: Path, words: list[str]) -> None:
    plant(tmp_path, "no_options")

    done = run_suite(tmp_path, *words, prefix=NO_ROOM)

    assert done.code == 1
    assert done.err.splitlines()[-1] == "error: standard output: No space left on device"


@pytest.mark.parametrize(("end", "status"), [("", "SUCCESS"), ("raise SystemExit(3)", "FAILED")])
def test_a_summary_that_can_not_be_written_hides_no_result(tmp_path: Path, end: str, status: str) -> None:
    (tmp_path / "train_rude.py").write_text(REPLACES_SUMMARIES + end)

    done = run_suite(tmp_path)

    assert done.code == 1
    assert "The last summary could not be written: summary_dir: " in done.err
    assert f"│ train_rude │ {status}" in done.out
    assert "digest: sha256:" in done.out
    assert "summary:" not in done.out


def test_a_summary_that_can_not_be_written_is_printed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "train_rude.py").write_text(REPLACES_SUMMARIES)

    done = run_suite(tmp_path, "-o", "json")

    assert done.code == 1
    assert [job["status"] for job in json.loads(done.out)["jobs"]] == ["SUCCESS"]
