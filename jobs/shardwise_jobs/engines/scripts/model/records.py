"""What became of each job: its attempts, its record in the summary, and the suite's exit status and counts.

The rules of the exit status live here alone, so that a laptop and a cluster judge the same records the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum

from pydantic import BaseModel, ConfigDict, Field

from .job import DetectMethod, SuiteJob
from .options import SuiteOptions


class Status(StrEnum):
    """Where a job stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    """A dry run: nothing was started."""
    INTERRUPTED = "INTERRUPTED"
    TIMEOUT = "TIMEOUT"
    ERROR = "ERROR"
    """The runner itself failed, not the script."""


FAILURES = frozenset({Status.FAILED, Status.TIMEOUT, Status.ERROR})
"""What a retry may mend, and what counts as failed."""
FINE = frozenset({Status.SUCCESS, Status.SKIPPED})
"""What leaves the exit status at 0."""


class SuiteExit(IntEnum):
    """How a suite ends."""

    SUCCESS = 0
    MANDATORY_JOB_FAILED = 1
    BAD_CONFIGURATION = 2
    NOTHING_DISCOVERED = 3
    INTERRUPTED = 130


class AttemptRecord(BaseModel):
    """One start of a script."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1)
    status: Status
    exit_code: int | None = None
    """128+N for signal N; None when nothing was started, or when the attempt never came to an end."""
    reason: str | None = None
    """CamelCase, where more is known than a code: `OOMKilled`."""
    error: str | None = None
    start_time: str | None = None
    """ISO 8601 with offset, as `end_time`."""
    end_time: str | None = None
    duration_sec: float | None = None
    pod: str | None = None
    node: str | None = None


class JobRecord(BaseModel):
    """A job's entry in the summary, its keys in the summary's order: the original's first, then ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    status: Status
    attempts: int = 0
    start_time: str | None = None
    """Of the last attempt, as in the original; `attempts_detail` has all of them."""
    end_time: str | None = None
    duration_sec: float | None = None
    """Of the last attempt, two digits."""
    optional: bool = False
    use_output_dir: bool = True
    supports_epochs: bool = True
    supports_folds: bool = True
    supports_sample: bool = True
    supports_batch: bool = True
    command: tuple[str, ...] = ()
    error: str | None = None
    """Null on success, whatever attempts before it said."""
    script: str
    output: str
    detect_method: DetectMethod = "config"
    aliases: tuple[str, ...] = ()
    exit_code: int | None = None
    reason: str | None = None
    pod: str | None = None
    node: str | None = None
    log_path: str | None = None
    log_sha256: str | None = None
    attempts_detail: tuple[AttemptRecord, ...] = ()


def record_of(
    job: SuiteJob,
    *,
    command: Sequence[str],
    attempts: Sequence[AttemptRecord] = (),
    status: Status | None = None,
    error: str | None = None,
    log_path: str | None = None,
    log_sha256: str | None = None,
) -> JobRecord:
    """Return a job's record from its attempts.

    `status` and `error` default to those of the last attempt; without attempts the status is PENDING. A job that
    succeeded has no error.
    """
    last = attempts[-1] if attempts else None
    state = status or (last.status if last else Status.PENDING)
    said = error or (last.error if last else None)
    return JobRecord(
        **job.model_dump(include=set(JobRecord.model_fields) & set(SuiteJob.model_fields)),
        status=state,
        attempts=len(attempts),
        start_time=last.start_time if last else None,
        end_time=last.end_time if last else None,
        duration_sec=round(last.duration_sec, 2) if last and last.duration_sec is not None else None,
        command=tuple(command),
        error=None if state == Status.SUCCESS else said,
        exit_code=last.exit_code if last else None,
        reason=last.reason if last else None,
        pod=last.pod if last else None,
        node=last.node if last else None,
        log_path=log_path,
        log_sha256=log_sha256,
        attempts_detail=tuple(attempts),
    )


def exit_status_of(
    records: Sequence[JobRecord], *, options: SuiteOptions, interrupted: bool, nothing_discovered: bool = False
) -> SuiteExit:
    """Return the suite's exit status; optional jobs never change it.

    `interrupted` says that a signal (or a suspend) came; with every mandatory job done it changes nothing.
    """
    if nothing_discovered:
        return SuiteExit.NOTHING_DISCOVERED
    if all(record.optional or record.status in FINE for record in records):
        return SuiteExit.SUCCESS
    if interrupted:
        return SuiteExit.INTERRUPTED
    return SuiteExit.SUCCESS if options.allow_partial_success else SuiteExit.MANDATORY_JOB_FAILED


def counts_of(records: Sequence[JobRecord]) -> dict[str, int]:
    """Return how many jobs went which way: success, failed (time-outs and errors too), skipped, interrupted.

    Jobs that are pending or running count as none of them.
    """
    statuses = [record.status for record in records]
    return {
        "success": statuses.count(Status.SUCCESS),
        "failed": sum(status in FAILURES for status in statuses),
        "skipped": statuses.count(Status.SKIPPED),
        "interrupted": statuses.count(Status.INTERRUPTED),
    }
