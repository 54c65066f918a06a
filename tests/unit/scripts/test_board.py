"""The live table: what it shows of many jobs, and that a job's own words can't spoil it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from shardwise_jobs.engines.scripts.model.job import SuiteJob
from shardwise_jobs.engines.scripts.model.records import AttemptRecord, Status, record_of
from shardwise_jobs.engines.scripts.terminal.board import Board


def job(id: str) -> SuiteJob:
    return SuiteJob(id=id, name=id, script=f"{id}.py", output=id)


def board(*ids: str, height: int) -> Board:
    console = Console(file=io.StringIO(), width=100, height=height, force_terminal=True)
    return Board([job(id) for id in ids], console=console)


def change(table: Board, id: str, status: Status) -> None:
    error = None if status in (Status.RUNNING, Status.SUCCESS) else f"{id} went wrong"
    attempt = AttemptRecord(number=1, status=status, error=error, duration_sec=75.0)
    table.changed(record_of(job(id), command=(), attempts=[attempt]))


def shown(table: Board) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(table.table())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_job_has_its_status_its_time_and_its_last_line() -> None:
    table = board("good", "bad", "busy", "later", height=40)
    change(table, "good", Status.SUCCESS)
    change(table, "bad", Status.FAILED)
    change(table, "busy", Status.RUNNING)
    table.line("busy", b"epoch 3")
    text = shown(table)

    assert "2 of 4 done, 1 running, 1 failed" in text
    rows = {
        row.split("│")[1].strip(): [cell.strip() for cell in row.split("│")[2:5]] for row in text.splitlines()[4:-1]
    }
    assert rows == {
        "good": ["SUCCESS", "01:15", ""],
        "bad": ["FAILED", "01:15", "bad went wrong"],
        "busy": ["RUNNING", "00:00", "epoch 3"],
        "later": ["PENDING", "", ""],
    }


def test_where_there_is_no_room_running_and_failed_jobs_are_shown() -> None:
    ids = [f"job-{number:03}" for number in range(200)]
    table = board(*ids, height=10)
    change(table, ids[150], Status.RUNNING)
    change(table, ids[180], Status.FAILED)
    change(table, ids[3], Status.SUCCESS)
    text = shown(table)

    assert all(ids[number] in text for number in (3, 150, 180))
    assert "… 196 more" in text
    assert len(text.splitlines()) <= 10


@pytest.mark.parametrize(
    "line", [b"[bold]not markup[/]", b"\x1b[2Jcleared", b"two\rlines", b"x" * 10_000, b"\x1b[%smred" % (b"9" * 5000)]
)
def test_what_a_job_prints_stays_in_its_cell(line: bytes) -> None:
    table = board("[red]job", height=40)
    table.line("[red]job", line)
    text = shown(table)

    assert "\x1b" not in text
    assert len(text.splitlines()) == 6
    assert "[red]job" in text
