"""`shardwise suite` and signals: once, twice, from a terminal, and the one that can't be caught."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.cli import SHARDWISE, finish
from tests.support.kube import eventually
from tests.support.suites import (
    alive,
    let_go,
    plant,
    plant_copies,
    start_suite,
    statuses_in,
    summary_in,
    wait_ready,
)
from tests.support.terminals import CTRL_C, on_terminal

TWO_AT_A_TIME = ("--parallel", "--max-workers", "2", "--grace-seconds", "600")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_after_one_signal_running_scripts_end_and_no_other_begins(tmp_path: Path, number: int) -> None:
    plant_copies(tmp_path, "waiting", "a", "b", "c")
    process = start_suite(tmp_path, *TWO_AT_A_TIME)
    wait_ready(tmp_path, "a")
    wait_ready(tmp_path, "b")
    process.send_signal(number)
    assert process.stderr is not None
    while "Interrupted" not in process.stderr.readline():
        continue
    let_go(tmp_path, "a", "b")

    assert finish(process).code == 130
    assert statuses_in(tmp_path) == {"train_a": "SUCCESS", "train_b": "SUCCESS", "train_c": "INTERRUPTED"}
    assert summary_in(tmp_path)["exit_status"] == 130


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    plant_copies(tmp_path, "waiting", "a", "b")
    process = start_suite(tmp_path, prefix=["nohup"])
    wait_ready(tmp_path, "a")
    process.send_signal(signal.SIGHUP)
    let_go(tmp_path, "a", "b")

    assert finish(process).code == 0
    assert set(statuses_in(tmp_path).values()) == {"SUCCESS"}


def test_what_was_done_when_the_signal_came_is_no_interrupted_run(tmp_path: Path) -> None:
    plant_copies(tmp_path, "waiting", "a")
    process = start_suite(tmp_path, "--grace-seconds", "600")
    wait_ready(tmp_path, "a")
    process.terminate()
    let_go(tmp_path, "a")

    assert finish(process).code == 0
    assert statuses_in(tmp_path) == {"train_a": "SUCCESS"}


def test_after_the_grace_time_running_scripts_are_asked_to_end(tmp_path: Path) -> None:
    plant(tmp_path, "traps_sigterm")
    process = start_suite(tmp_path, "--grace-seconds", "0")
    wait_ready(tmp_path, "traps_sigterm")
    process.terminate()

    assert finish(process).code == 130
    assert statuses_in(tmp_path) == {"train_traps_sigterm": "INTERRUPTED"}
    (log,) = (tmp_path / "logs" / "train_traps_sigterm").iterdir()
    assert log.read_text().splitlines()[1:] == ["put away"]


@pytest.mark.parametrize("name", ["waiting", "ignores_sigterm"])
def test_a_second_signal_ends_everything_at_once_with_a_summary(tmp_path: Path, name: str) -> None:
    plant_copies(tmp_path, name, "a", "b", "c")
    process = start_suite(tmp_path, *TWO_AT_A_TIME)
    pids = [wait_ready(tmp_path, "a"), wait_ready(tmp_path, "b")]
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "Interrupted" not in process.stderr.readline():
        continue
    process.send_signal(signal.SIGINT)

    assert finish(process).code == 130
    assert not any(map(alive, pids))
    assert set(statuses_in(tmp_path).values()) == {"INTERRUPTED"}


def test_partial_success_does_not_excuse_an_interrupt(tmp_path: Path) -> None:
    plant_copies(tmp_path, "waiting", "a", "b")
    process = start_suite(tmp_path, "--allow-partial-success", "--grace-seconds", "0")
    wait_ready(tmp_path, "a")
    process.terminate()

    assert finish(process).code == 130


def test_ctrl_c_in_a_terminal_with_its_live_table_does_not_reach_the_scripts(tmp_path: Path) -> None:
    plant_copies(tmp_path, "waiting", "a", "b")
    words = ("suite", "--no-default-jobs", "--grace-seconds", "600")
    with on_terminal(str(SHARDWISE), *words, cwd=tmp_path) as terminal:
        pid = wait_ready(tmp_path, "a")
        terminal.wait_for("0 of 2 done, 1 running")
        terminal.press(CTRL_C)
        terminal.wait_for("nothing more is started")
        assert alive(pid)
        let_go(tmp_path, "a")
        assert terminal.finish() == 130

    assert statuses_in(tmp_path) == {"train_a": "SUCCESS", "train_b": "INTERRUPTED"}


def test_scripts_and_what_they_left_behind_end_with_a_killed_runner(tmp_path: Path) -> None:
    plant(tmp_path, "bad", "ignores_sigterm")
    plant_copies(tmp_path, "daemon", "leaves")
    with (tmp_path / "train_leaves.py").open("a") as script:
        script.write("wait()\n")
    process = start_suite(tmp_path, "--parallel", "--max-workers", "3")
    pids = [wait_ready(tmp_path, "leaves"), wait_ready(tmp_path, "ignores_sigterm")]
    eventually(lambda: statuses_in(tmp_path)["train_bad"] == "FAILED", what="a first job in the summary")
    process.kill()

    assert finish(process).code == -signal.SIGKILL
    eventually(lambda: not any(map(alive, pids)), what="nothing left of it")
    summary = summary_in(tmp_path)
    assert summary["exit_status"] is None
    assert summary["counts"]["failed"] == 1
