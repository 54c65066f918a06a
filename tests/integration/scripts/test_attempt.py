"""One attempt at one script, for real: what it prints, how it ends, and that nothing of it is left."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shardwise_jobs.engines.scripts.model.records import AttemptRecord, Status
from shardwise_jobs.engines.scripts.running.attempt import Limits, run_attempt
from shardwise_jobs.engines.scripts.running.interrupt import Interrupt
from tests.support.kube import eventually
from tests.support.suites import alive, let_go, plant, wait_ready

PATIENT = Limits(grace_seconds=600, kill_seconds=600)


@dataclass(slots=True, kw_only=True)
class Attempts:
    """Attempts in a folder, and all that they printed."""

    folder: Path
    printed: bytearray = field(default_factory=bytearray)
    interrupt: Interrupt = field(default_factory=Interrupt)

    def run(self, name: str, *, limits: Limits = PATIENT) -> AttemptRecord:
        """Run a script to its end."""
        plant(self.folder, name)
        return self.command([sys.executable, f"train_{name}.py"], limits=limits)

    def command(self, command: Sequence[str], *, limits: Limits = PATIENT) -> AttemptRecord:
        """Run any command to its end."""
        return run_attempt(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            output=self.printed.extend,
            limits=limits,
            stop=self.interrupt,
            at_once=lambda: self.interrupt.at_once,
        )


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    return Attempts(folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "status", "code", "error"),
    [
        ("no_options", Status.SUCCESS, 0, None),
        ("bad", Status.FAILED, 3, "Non-zero exit code: 3"),
        ("kills_itself", Status.FAILED, 137, "Killed by SIGKILL (exit code 137)"),
        ("not_utf8", Status.SUCCESS, 0, None),
        ("with blanks", Status.SUCCESS, 0, None),
    ],
)
def test_an_end_is_told_as_it_was(attempts: Attempts, name: str, status: Status, code: int, error: str | None) -> None:
    record = attempts.run(name)

    assert (record.status, record.exit_code, record.error) == (status, code, error)
    assert record.reason is None
    assert record.start_time is not None
    assert record.end_time is not None
    assert record.start_time < record.end_time


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("no_newline", b"ends without a line end"),
        ("binary", b"caf\xe9 \xff\xfe \x00 \x1b[31mred\n"),
        ("noisy", (b"x" * 99 + b"\n") * 100_000),
    ],
)
def test_output_arrives_byte_for_byte(attempts: Attempts, name: str, printed: bytes) -> None:
    assert attempts.run(name).status is Status.SUCCESS
    assert attempts.printed == printed


def test_both_streams_arrive_in_their_order(attempts: Attempts) -> None:
    attempts.command(["sh", "-c", "echo one; echo two >&2; echo three"])

    assert attempts.printed == b"one\ntwo\nthree\n"


def test_what_is_still_in_the_pipe_at_the_end_is_not_lost(attempts: Attempts) -> None:
    folder, printed = attempts.folder, bytearray()

    def output(chunk: bytes) -> None:
        printed.extend(chunk)
        if not (folder / "go").exists():
            (folder / "go").touch()
            subreaper = chunk.decode().strip()
            eventually(lambda: not alive(subreaper), what="the end of all that could write")

    command = "echo $PPID; while [ ! -e go ]; do sleep 0.01; done; head -c 60000 /dev/zero"
    run_attempt(
        ["sh", "-c", command],
        cwd=folder,
        env=os.environ,
        output=output,
        limits=PATIENT,
        stop=attempts.interrupt,
    )

    assert printed.count(b"\0") == 60000


def test_a_script_runs_in_a_session_of_its_own_without_input(attempts: Attempts) -> None:
    attempts.run("environment")

    assert attempts.printed.decode().splitlines() == [str(attempts.folder), "True", "True"]


def test_a_program_that_is_not_there_is_an_error_of_the_start(attempts: Attempts) -> None:
    record = attempts.command(["/nowhere/python", "script.py"])

    assert (record.status, record.exit_code, record.reason) == (Status.ERROR, None, "StartFailed")
    assert record.error == "Can't be started: No such file or directory"


def test_an_output_that_closes_does_not_end_the_attempt(attempts: Attempts) -> None:
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(attempts.run, "closes_stdout")
        wait_ready(attempts.folder, "closes_stdout")
        assert not ended.done()
        let_go(attempts.folder, "closes_stdout")

        assert ended.result().status is Status.SUCCESS
    assert attempts.printed == b"last words\n"


@pytest.mark.parametrize("name", ["lasting_child", "daemon"])
def test_what_a_script_leaves_behind_neither_hangs_the_runner_nor_survives(attempts: Attempts, name: str) -> None:
    assert attempts.run(name).status is Status.SUCCESS
    assert not alive(wait_ready(attempts.folder, name))


@pytest.mark.parametrize(
    ("command", "kill_seconds", "code"),
    [("sleep 600", 600.0, 143), ("trap '' TERM; sleep 600 & wait; wait", 0.1, 137)],
    ids=["heeds SIGTERM", "ignores it"],
)
def test_a_time_limit_ends_a_script_that_goes_on(
    attempts: Attempts, command: str, kill_seconds: float, code: int
) -> None:
    limits = Limits(timeout_seconds=5, kill_seconds=kill_seconds)

    record = attempts.command(["sh", "-c", command], limits=limits)

    assert (record.status, record.exit_code, record.reason) == (Status.TIMEOUT, code, "Timeout")
    assert record.error == f"Took longer than 5 s; exit code {code}"


def test_an_interrupted_script_may_end_by_itself(attempts: Attempts) -> None:
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(attempts.run, "waiting")
        wait_ready(attempts.folder, "waiting")
        attempts.interrupt.again()
        let_go(attempts.folder, "waiting")

        assert ended.result().status is Status.SUCCESS


@pytest.mark.parametrize(
    ("name", "limits", "code", "printed"),
    [
        ("traps_sigterm", Limits(grace_seconds=0, kill_seconds=600), 0, b"put away\n"),
        ("waiting", Limits(grace_seconds=0, kill_seconds=600), 143, b""),
        ("ignores_sigterm", Limits(grace_seconds=0, kill_seconds=0.2), 137, b""),
    ],
)
def test_after_the_grace_time_comes_sigterm_and_then_sigkill(
    attempts: Attempts, name: str, limits: Limits, code: int, printed: bytes
) -> None:
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(attempts.run, name, limits=limits)
        wait_ready(attempts.folder, name)
        attempts.interrupt.again()
        record = ended.result()

    assert (record.status, record.exit_code, record.reason) == (Status.INTERRUPTED, code, "Interrupted")
    assert attempts.printed == printed


def test_a_second_interrupt_waits_for_nothing(attempts: Attempts) -> None:
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(attempts.run, "ignores_sigterm", limits=PATIENT)
        pid = wait_ready(attempts.folder, "ignores_sigterm")
        attempts.interrupt.again()
        attempts.interrupt.again()

        assert ended.result().status is Status.INTERRUPTED
    assert not alive(pid)


def test_an_output_that_can_not_be_kept_ends_the_script(attempts: Attempts) -> None:
    pids: list[str] = []

    def full(chunk: bytes) -> None:
        pids.append(chunk.decode().strip())
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run_attempt(
            ["sh", "-c", "echo $$; sleep 600"],
            cwd=attempts.folder, env=os.environ, output=full, limits=PATIENT, stop=attempts.interrupt,
        )  # fmt: skip

    assert not alive(pids[0])


def test_a_script_ends_with_the_process_that_keeps_it(attempts: Attempts) -> None:
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(attempts.run, "waiting")
        pid = wait_ready(attempts.folder, "waiting")
        subreaper = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        os.kill(int(subreaper), 9)
        record = ended.result()

    assert (record.status, record.exit_code) == (Status.FAILED, 137)
    assert record.error == "Killed together with the process that watches it"
    eventually(lambda: not alive(pid), what="the script gone")


def test_attempts_side_by_side_have_nothing_of_each_other(tmp_path: Path) -> None:
    gate = threading.Barrier(4)

    def one(number: int) -> tuple[AttemptRecord, bytes]:
        own = Attempts(folder=tmp_path)
        gate.wait()
        return own.command(["sh", "-c", f"echo {number}; exit {number}"]), bytes(own.printed)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(one, range(4)))

    assert [(record.exit_code, printed) for record, printed in found] == [(n, b"%d\n" % n) for n in range(4)]
