"""A script that has ended is judged by its own end, not by what it has left behind and is waited for after it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shardwise_jobs.engines.scripts.model.records import AttemptRecord, Status
from shardwise_jobs.engines.scripts.running.attempt import Limits, run_attempt
from shardwise_jobs.engines.scripts.running.interrupt import Interrupt
from shardwise_jobs.engines.scripts.running.subreaper import LINGER_SECONDS
from tests.support.kube import eventually
from tests.support.suites import alive

LEAVES_A_CHILD = "echo $$ > script; sleep 600 & echo $! > child"


@dataclass(frozen=True, slots=True)
class Gone:
    """An interrupt that comes as soon as the script in a folder has ended."""

    folder: Path

    @property
    def is_set(self) -> bool:
        """Whether it has."""
        script = self.folder / "script"
        return script.exists() and bool(pid := script.read_text().strip()) and not Path(f"/proc/{pid}").exists()


def left_over(folder: Path, *, limits: Limits) -> AttemptRecord:
    """Run a script that leaves a child, and be interrupted while that is waited for."""
    return run_attempt(
        ["sh", "-c", LEAVES_A_CHILD],
        cwd=folder,
        env=os.environ,
        output=lambda chunk: None,
        limits=limits,
        stop=Gone(folder),
    )


def test_an_interrupt_while_left_overs_are_waited_for_changes_no_success(tmp_path: Path) -> None:
    record = left_over(tmp_path, limits=Limits(grace_seconds=LINGER_SECONDS / 4))

    assert (record.status, record.exit_code, record.error) == (Status.SUCCESS, 0, None)
    assert not alive((tmp_path / "child").read_text().strip())


def test_the_wait_for_left_overs_is_none_of_the_scripts_time(tmp_path: Path) -> None:
    record = left_over(tmp_path, limits=Limits())
    over = datetime.now(UTC)

    assert record.end_time is not None
    assert (over - datetime.fromisoformat(record.end_time)).total_seconds() > LINGER_SECONDS / 2


def test_a_time_limit_that_passes_while_output_is_kept_changes_no_success(tmp_path: Path) -> None:
    limit, begun = 2.0, time.monotonic()

    def slowly(chunk: bytes) -> None:
        pid = chunk.decode().strip()
        eventually(lambda: not alive(pid) and time.monotonic() > begun + limit + 0.1, what="the limit over")

    record = run_attempt(
        ["sh", "-c", "echo $$"],
        cwd=tmp_path,
        env=os.environ,
        output=slowly,
        limits=Limits(timeout_seconds=limit),
        stop=Interrupt(),
    )

    assert (record.status, record.error) == (Status.SUCCESS, None)


def test_left_overs_end_also_when_nobody_hears_how_the_script_ended(tmp_path: Path) -> None:
    runner = f"""
import os, pathlib
from shardwise_jobs.engines.scripts.running.attempt import Limits, run_attempt
from shardwise_jobs.engines.scripts.running.interrupt import Interrupt
run_attempt(
    ["sh", "-c", "sleep 600 & echo $! > child; echo $$ > script; exec sleep 600"],
    cwd=pathlib.Path({str(tmp_path)!r}), env=os.environ, output=print, limits=Limits(), stop=Interrupt(),
)
"""
    process = subprocess.Popen([sys.executable, "-c", runner])
    try:
        script = tmp_path / "script"
        eventually(lambda: script.exists() and script.read_text().strip() != "", what="the script runs")
    finally:
        process.kill()
        process.wait()

    for name in ("script", "child"):
        pid = (tmp_path / name).read_text().strip()
        eventually(lambda pid=pid: not alive(pid), what=f"the {name} gone")  # type: ignore[misc]
