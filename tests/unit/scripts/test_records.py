"""What a job's attempts come to, and what all jobs come to: the table of exit statuses, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from shardwise_jobs.engines.scripts.model.job import SuiteJob
from shardwise_jobs.engines.scripts.model.options import SuiteOptions
from shardwise_jobs.engines.scripts.model.records import (
    AttemptRecord,
    JobRecord,
    Status,
    counts_of,
    exit_status_of,
    record_of,
)

JOB = SuiteJob(id="j", name="J", script="a/j.py", output="o", supports_folds=False, detect_method="ast", aliases=("k",))


def attempt(number: int, status: Status, **more: Any) -> AttemptRecord:
    return AttemptRecord(number=number, status=status, **more)


def ended(status: Status, *, optional: bool = False) -> JobRecord:
    return record_of(JOB.model_copy(update={"optional": optional}), command=["python"], status=status)


def exit_status(*records: JobRecord, interrupted: bool = False, nothing: bool = False, partial: bool = False) -> int:
    options = SuiteOptions.of({"allow_partial_success": partial})
    return exit_status_of(records, options=options, interrupted=interrupted, nothing_discovered=nothing)


MANDATORY = {status: ended(status) for status in Status}
OPTIONAL = {status: ended(status, optional=True) for status in Status}
GOOD = MANDATORY[Status.SUCCESS]
UNFINISHED = [Status.FAILED, Status.TIMEOUT, Status.ERROR, Status.INTERRUPTED, Status.PENDING, Status.RUNNING]


class TestExitStatus:
    def test_all_done_is_0(self) -> None:
        assert exit_status(GOOD, GOOD) == 0

    def test_a_dry_run_is_0(self) -> None:
        assert exit_status(MANDATORY[Status.SKIPPED]) == 0

    def test_nothing_selected_is_0(self) -> None:
        assert exit_status() == 0

    @pytest.mark.parametrize("status", UNFINISHED)
    def test_a_mandatory_job_that_is_not_done_is_1(self, status: Status) -> None:
        assert exit_status(GOOD, MANDATORY[status]) == 1

    @pytest.mark.parametrize("status", UNFINISHED)
    def test_partial_success_softens_it(self, status: Status) -> None:
        assert exit_status(GOOD, MANDATORY[status], partial=True) == 0

    @pytest.mark.parametrize("status", Status)
    @pytest.mark.parametrize("interrupted", [False, True])
    def test_an_optional_job_never_changes_it(self, status: Status, interrupted: bool) -> None:
        assert exit_status(GOOD, OPTIONAL[status], interrupted=interrupted) == 0

    def test_nothing_found_where_something_must_be_is_3(self) -> None:
        assert exit_status(nothing=True) == 3
        assert exit_status(nothing=True, partial=True) == 3

    @pytest.mark.parametrize("status", UNFINISHED)
    @pytest.mark.parametrize("partial", [False, True])
    def test_an_interrupt_with_an_unfinished_mandatory_job_is_130(self, status: Status, partial: bool) -> None:
        assert exit_status(GOOD, MANDATORY[status], interrupted=True, partial=partial) == 130

    def test_an_interrupt_that_came_too_late_is_0(self) -> None:
        assert exit_status(GOOD, GOOD, interrupted=True) == 0


class TestRecord:
    def test_a_job_that_was_not_started_is_pending(self) -> None:
        record = record_of(JOB, command=["python", "a/j.py"])
        assert (record.status, record.attempts, record.attempts_detail) == (Status.PENDING, 0, ())
        assert (record.start_time, record.end_time, record.duration_sec, record.error) == (None, None, None, None)
        assert record.command == ("python", "a/j.py")

    def test_it_says_what_the_job_is(self) -> None:
        record = record_of(JOB, command=[])
        assert {name: getattr(record, name) for name in ("id", "name", "script", "output", "aliases")} == {
            "id": "j",
            "name": "J",
            "script": "a/j.py",
            "output": "o",
            "aliases": ("k",),
        }
        assert (record.use_output_dir, record.supports_epochs, record.supports_folds) == (True, True, False)
        assert (record.supports_sample, record.supports_batch, record.optional) == (True, True, False)
        assert record.detect_method == "ast"

    def test_times_code_pod_and_node_are_those_of_the_last_attempt(self) -> None:
        first = attempt(1, Status.FAILED, exit_code=7, error="Non-zero exit code: 7", duration_sec=9.0, node="n1")
        last = attempt(
            2,
            Status.FAILED,
            exit_code=137,
            reason="OOMKilled",
            error="Non-zero exit code: 137",
            start_time="2026-11-22T10:00:00+00:00",
            end_time="2026-11-22T10:00:01+00:00",
            duration_sec=1.23456,
            pod="p2",
            node="n2",
        )
        record = record_of(JOB, command=[], attempts=[first, last], log_path="logs/j/x.log", log_sha256="ab")
        assert record.model_dump(exclude={*SuiteJob.model_fields}) == {
            "status": Status.FAILED,
            "attempts": 2,
            "start_time": "2026-11-22T10:00:00+00:00",
            "end_time": "2026-11-22T10:00:01+00:00",
            "duration_sec": 1.23,
            "command": (),
            "error": "Non-zero exit code: 137",
            "exit_code": 137,
            "reason": "OOMKilled",
            "pod": "p2",
            "node": "n2",
            "log_path": "logs/j/x.log",
            "log_sha256": "ab",
            "attempts_detail": (first.model_dump(), last.model_dump()),
        }

    def test_success_has_no_error_whatever_was_before(self) -> None:
        attempts = [
            attempt(1, Status.FAILED, exit_code=7, error="Non-zero exit code: 7"),
            attempt(2, Status.SUCCESS, exit_code=0),
        ]
        record = record_of(JOB, command=[], attempts=attempts)
        assert (record.status, record.error, record.exit_code, record.attempts) == (Status.SUCCESS, None, 0, 2)
        assert record.attempts_detail[0].error == "Non-zero exit code: 7"

    def test_a_status_and_an_error_from_outside_go_before_the_attempts_own(self) -> None:
        record = record_of(
            JOB, command=[], attempts=[attempt(1, Status.FAILED, error="x")], status=Status.INTERRUPTED, error="stopped"
        )
        assert (record.status, record.error) == (Status.INTERRUPTED, "stopped")
        assert record_of(JOB, command=[], status=Status.SUCCESS, error="odd").error is None

    def test_it_survives_being_written_as_json(self) -> None:
        record = record_of(JOB, command=["a"], attempts=[attempt(1, Status.TIMEOUT, exit_code=143, duration_sec=1.5)])
        assert JobRecord.model_validate_json(record.model_dump_json()) == record


def test_every_job_is_counted_once_unless_it_has_not_ended() -> None:
    assert counts_of([*MANDATORY.values(), *OPTIONAL.values()]) == {
        "success": 2,
        "failed": 6,
        "skipped": 2,
        "interrupted": 2,
    }
    assert counts_of([]) == {"success": 0, "failed": 0, "skipped": 0, "interrupted": 0}
