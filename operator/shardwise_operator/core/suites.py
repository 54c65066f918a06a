"""What is different for a suite, whose shards are scripts: how many is known late, all may fail, and its end is judged.

The Job says which scripts are over; what each came to is in their records, which the last step alone reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shardwise_api import indexes
from shardwise_api.common import MAX_SHARDS
from shardwise_api.runs import Run, suite_of
from shardwise_api.status import ConditionType, RunStatus
from shardwise_api.wire import (
    MAX_ENDS,
    MAX_SUITE_JOBS,
    PrepareResult,
    ProgressReport,
    Step,
    SuiteCounts,
    SuiteJobStatus,
    SuiteResult,
    SuiteStatus,
    WorkerExit,
)

from .conditions import shortened
from .observed import JobState, JobView, Observed

MAX_END_CHARACTERS = 200
IDS = "ids"
"""Where the prepare step puts what the jobs are called, as far as there is room."""
INTERRUPTED = 130
_EXIT_STATUS = {"InvalidSpec": 2, "NothingDiscovered": 3, "Interrupted": INTERRUPTED}
"""Of a run that failed for one of these; for anything else 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a suite has failed."""

    reason: str
    message: str


def shards_of(run: Run, prepared: PrepareResult | None) -> int:
    """Return how many shards a run has; of a suite none is known until it is prepared."""
    if suite_of(run) is None:
        return run.spec.sharding.shards
    return (prepared.items_total or 0) if prepared is not None else 0


def problem_of_parts(run: Run, prepared: PrepareResult) -> str | None:
    """Return why the scripts can't be as the prepare step says: an image of one's own says anything."""
    total, suite = prepared.items_total or 0, suite_of(run)
    if suite is not None and total > MAX_SHARDS:
        return f"itemsTotal: {total} scripts; a suite has at most {MAX_SHARDS:,}"
    overrides = (suite.pod_overrides if suite is not None else None) or []
    told = f"parts (of podOverrides): {shortened(f'{prepared.parts}', limit=200)} of {total} scripts"
    if len(prepared.parts or ()) != len(overrides):
        return f"{told}; the manifest has {len(overrides)} podOverrides"
    taken: set[int] = set()
    for text in prepared.parts or ():
        try:
            members = indexes.from_text(text)
        except ValueError as error:
            return f"{told}; {error}"
        if members & taken or any(index >= total for index in members):
            return f"{told}; each script is in one entry at most"
        taken |= members
    return None


def parallelism(run: Run, shards: int) -> int:
    """Return how many shards run at once, as far as the manifest decides it."""
    suite = suite_of(run)
    return run.spec.sharding.parallelism or shards if suite is None else min(suite.max_workers, shards)


def skips_work(run: Run, prepared: PrepareResult) -> bool:
    """Say whether there is nothing for workers to do."""
    suite = suite_of(run)
    return prepared.already_complete or (suite is not None and (suite.dry_run or not prepared.items_total))


def worker_exits(run: Run, work: JobView, *, observed: Observed, status: RunStatus) -> list[WorkerExit]:
    """Return how the workers of scripts that failed for good ended: one that was killed has left no record of it."""
    if suite_of(run) is None:
        return []
    newest = {failure.shard: failure for failure in (*status.failures, *observed.failures) if failure.shard is not None}
    found = [
        WorkerExit(
            shard=shard,
            exit_code=failure.exit_code,
            reason=failure.reason,
            message=shortened(failure.message, limit=MAX_END_CHARACTERS),
        )
        for shard, failure in sorted(newest.items())
        if shard in work.failed
    ]
    return found[:MAX_ENDS]


def verdict(result: SuiteResult | None) -> Verdict | None:
    """Return why a suite has failed; None when it is well, or when there is no suite."""
    if result is None or result.exit_status == 0:
        return None
    reason = "Interrupted" if result.exit_status == INTERRUPTED else "MandatoryJobFailed"
    return Verdict(reason=reason, message=result.message)


def finished(result: SuiteResult, *, uri: str | None) -> SuiteStatus:
    """Return how a suite ended."""
    return SuiteStatus(
        exit_status=result.exit_status,
        counts=result.counts,
        jobs=[SuiteJobStatus.from_line(line) for line in result.jobs[:MAX_SUITE_JOBS]],
        summary_uri=uri,
    )


def describe_suite(run: Run, status: RunStatus, *, observed: Observed, prepared: PrepareResult | None) -> None:
    """Fill in where a suite is, from what the Job says; what the last step said of it stays."""
    if suite_of(run) is None or status.result is not None:
        return
    known = status.suite or SuiteStatus()
    total = shards_of(run, prepared) or known.counts.total
    work = observed.jobs.get(Step.WORK) or JobView(state=JobState.RUNNING)
    suspended = status.is_true(ConditionType.SUSPENDED)
    # Of a run that has failed its Jobs may be gone, and what they came to is known all the same.
    work = replace(
        work,
        completed=work.completed | indexes.from_text(status.shards.completed_indexes),
        failed=work.failed | indexes.from_text(status.shards.failed_indexes),
    )
    over = len(work.completed) + len(work.failed)
    status.suite = SuiteStatus(
        exit_status=_exit_status(status, suspended=suspended),
        counts=SuiteCounts(
            total=total,
            success=len(work.completed),
            failed=len(work.failed),
            interrupted=max(0, total - over) if suspended else 0,
        ),
        jobs=[
            SuiteJobStatus(id=id_, status=_where(index, work, suspended=suspended))
            for index, id_ in enumerate(_ids(known, prepared))
        ],
    )


def rate(work: JobView, reports: Mapping[int, ProgressReport]) -> float | None:
    """Return scripts per second until the last one's end, as far as that was reported: time alone changes nothing."""
    over = work.completed | work.failed
    ended = max((report.time for shard, report in reports.items() if shard in over), default=None)
    if work.started is None or ended is None or ended <= work.started:
        return None
    return len(over) / (ended - work.started).total_seconds()


def _exit_status(status: RunStatus, *, suspended: bool) -> int | None:
    failed = status.condition(ConditionType.FAILED)
    if failed is not None and failed.status == "True":
        return _EXIT_STATUS.get(failed.reason, 1)
    return INTERRUPTED if suspended else None


def _ids(known: SuiteStatus, prepared: PrepareResult | None) -> list[str]:
    found = None if prepared is None else prepared.details.get(IDS)
    if not isinstance(found, list):
        return [job.id for job in known.jobs]
    return [str(id_) for id_ in found[:MAX_SUITE_JOBS]]


def _where(index: int, work: JobView, *, suspended: bool) -> str:
    if index in work.completed:
        return "SUCCESS"
    if index in work.failed:
        return "FAILED"
    if suspended:
        return "INTERRUPTED"
    return "RUNNING" if index in work.running else "PENDING"
