"""Two runs are the same when each job ran the same command to the same end; nothing of a machine or a clock shows."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from shardwise_jobs.engines.scripts.model.command import command_of
from shardwise_jobs.engines.scripts.model.job import SuiteJob
from shardwise_jobs.engines.scripts.model.options import SuiteOptions
from shardwise_jobs.engines.scripts.model.records import AttemptRecord, JobRecord, Status, record_of
from shardwise_jobs.engines.scripts.model.summary import digest_of

JOB = SuiteJob(id="a", name="A", script="a.py", output="a_results")
OTHER = SuiteJob(id="b", name="B", script="b.py", output="b_results", use_output_dir=False)


def record(
    job: SuiteJob = JOB,
    *,
    interpreter: str = "/usr/bin/python3",
    output_base: str = "/repo/results",
    status: Status = Status.FAILED,
    exit_code: int | None = 3,
    epochs: int = 3,
    **more: Any,
) -> JobRecord:
    options = SuiteOptions.of({"epochs": epochs})
    command = command_of(job, options=options, interpreter=interpreter, output_base=output_base)
    attempts = [AttemptRecord(number=1, status=status, exit_code=exit_code, **more)]
    return record_of(job, command=command, attempts=attempts)


def test_it_is_that_of_one_line_for_each_job() -> None:
    lines = (
        '["a","FAILED",3,["python","a.py","--output-dir","{output}/a_results","--epochs","3"]]\n'
        '["b","SUCCESS",0,["python","b.py","--epochs","3"]]\n'
    )
    records = [record(), record(OTHER, status=Status.SUCCESS, exit_code=0)]
    assert digest_of(records) == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


@pytest.mark.parametrize(
    "change",
    [
        {"interpreter": "/opt/python"},
        {"output_base": "/output"},
        {"start_time": "2026-11-22T10:00:00+00:00"},
        {"duration_sec": 5.0},
        {"pod": "p", "node": "n"},
    ],
)
def test_neither_machine_nor_time_shows(change: dict[str, Any]) -> None:
    assert digest_of([record(**change)]) == digest_of([record()])


def test_how_often_it_was_tried_does_not_show() -> None:
    attempts = [AttemptRecord(number=number, status=Status.FAILED, exit_code=3) for number in (1, 2)]
    again = record_of(JOB, command=record().command, attempts=attempts)
    assert digest_of([again]) == digest_of([record()])


@pytest.mark.parametrize(
    "change",
    [
        {"job": JOB.model_copy(update={"id": "c"})},
        {"job": JOB.model_copy(update={"script": "c.py"})},
        {"job": JOB.model_copy(update={"output": "c_results"})},
        {"status": Status.TIMEOUT},
        {"exit_code": 4},
        {"exit_code": None},
        {"epochs": 4},
    ],
)
def test_what_ran_and_how_it_ended_shows(change: dict[str, Any]) -> None:
    assert digest_of([record(**change)]) != digest_of([record()])


def test_the_order_of_the_selection_shows() -> None:
    assert digest_of([record(), record(OTHER)]) != digest_of([record(OTHER), record()])


def test_a_job_without_a_command_counts_too() -> None:
    nothing = record_of(JOB, command=[], status=Status.FAILED)
    assert digest_of([nothing]) != digest_of([])
