"""The part of a status that people watch: phase, shards, items, rate and time left, and whether anything moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta

from shardwise_api import indexes
from shardwise_api.bounds import MAX_COUNT, clamped
from shardwise_api.runs import IngestRun, Run, is_gang, suite_of
from shardwise_api.status import ConditionType, ItemStatus, Phase, Progress, RunStatus, ShardStatus
from shardwise_api.wire import ItemCounts, PrepareResult, ProgressReport, RunResult, Step

from . import ingestion
from .conditions import set_condition
from .observed import JobState, Observed
from .suites import describe_suite, rate, shards_of
from .training import are_awaited, awaited_ranks, counted_reports, speed, update_metrics

STALLED_AFTER = timedelta(minutes=5)
"""Without a commit anywhere for this long, a run is said to be stalled."""
MAX_FAILURES = 10


def describe(
    run: Run, status: RunStatus, *, observed: Observed, prepared: PrepareResult | None, result: RunResult | None
) -> None:
    """Fill in what is derived from the observation; never touches Complete and Failed."""
    _shards(run, status, observed, prepared)
    _items(run, status, observed, prepared, result)
    _progress(run, status, observed)
    if result is None and isinstance(run, IngestRun):
        ingestion.update_metrics(status, observed)
    elif result is None:
        update_metrics(run, status, observed)
    _failures(status, observed)
    if observed.job_ref is not None:
        status.job_ref = observed.job_ref
    _conditions(run, status, observed)
    describe_suite(run, status, observed=observed, prepared=prepared)
    status.phase = _phase(run, status, observed, prepared)


def _shards(run: Run, status: RunStatus, observed: Observed, prepared: PrepareResult | None) -> None:
    known = status.shards
    _shards_seen(run, status, observed, prepared)
    now = status.shards
    # What was done is done, also when its Job is no more: one in a queue is made anew after each pause.
    completed = _indexes(now.completed_indexes) | {i for i in _indexes(known.completed_indexes) if i < now.total}
    failed = _indexes(now.failed_indexes) | {i for i in _indexes(known.failed_indexes) if i < now.total}
    failed -= completed
    status.shards = now.model_copy(
        update={
            "succeeded": len(completed),
            "failed": len(failed),
            "completed_indexes": indexes.to_text(completed),
            "failed_indexes": indexes.to_text(failed),
        }
    )


def _indexes(text: str) -> set[int]:
    try:
        return indexes.from_text(text)
    except ValueError:
        # A status that somebody wrote by hand.
        return set()


def _shards_seen(run: Run, status: RunStatus, observed: Observed, prepared: PrepareResult | None) -> None:
    suite = suite_of(run)
    total = shards_of(run, prepared)
    work = observed.jobs.get(Step.WORK)
    if work is None:
        # Of a dry run nothing is.
        done_before = status.is_true(ConditionType.COMPLETE) and not (suite is not None and suite.dry_run)
        done = total if done_before else 0
        status.shards = ShardStatus(total=total, succeeded=done, completed_indexes=indexes.missing((), of=done))
        return
    if work.state in (JobState.COMPLETE, JobState.FAILED):
        # Another number of ranks comes too late, also one that the Job was still given at its end.
        late = is_gang(run) and work.state is JobState.COMPLETE
        total = min(work.completions, len(work.completed)) if late else work.completions
    completed, failed = ({index for index in found if index < total} for found in (work.completed, work.failed))
    status.shards = ShardStatus(
        total=total,
        # What still runs at the end is being stopped.
        active=0 if status.finished else work.active,
        succeeded=len(completed),
        failed=len(failed),
        completed_indexes=indexes.to_text(completed),
        failed_indexes=indexes.to_text(failed),
    )


def _items(
    run: Run, status: RunStatus, observed: Observed, prepared: PrepareResult | None, result: RunResult | None
) -> None:
    reports = counted_reports(run, observed)
    work = observed.jobs.get(Step.WORK)
    if result is not None:
        counted = result.items
    elif suite_of(run) is not None:
        # A script that failed leaves no count: the Job has it.
        counted = ItemCounts() if work is None else ItemCounts(done=len(work.completed), failed=len(work.failed))
    elif not is_gang(run):
        counted = _at_least(status.items, _sum(reports))
    else:
        # Ranks say where they are, and after a loss that is the last checkpoint.
        counted = _sum(reports) if reports else _at_least(status.items, ItemCounts())
    total = status.items.total if prepared is None else prepared.items_total
    status.items = ItemStatus(total=total, done=counted.done, failed=counted.failed, skipped=counted.skipped)


def _at_least(known: ItemStatus, seen: ItemCounts) -> ItemCounts:
    # Only committed items are counted, so less than before means that reports are missing: those of shards that had
    # ended before the operator started again.
    return _counts(
        done=max(known.done, seen.done), failed=max(known.failed, seen.failed), skipped=max(known.skipped, seen.skipped)
    )


def _sum(reports: Mapping[int, ProgressReport]) -> ItemCounts:
    return _counts(
        done=sum(report.items.done for report in reports.values()),
        failed=sum(report.items.failed for report in reports.values()),
        skipped=sum(report.items.skipped for report in reports.values()),
    )


def _counts(*, done: int, failed: int, skipped: int) -> ItemCounts:
    # As much as a status can hold, however much every shard says.
    done = clamped(done)
    failed = min(clamped(failed), MAX_COUNT - done)
    return ItemCounts(done=done, failed=failed, skipped=min(clamped(skipped), MAX_COUNT - done - failed))


def _progress(run: Run, status: RunStatus, observed: Observed) -> None:
    items = status.items
    seen = items.done + items.failed + items.skipped
    percent = None
    if status.is_true(ConditionType.COMPLETE):
        percent = 100
    elif items.total:
        percent = min(100, seen * 100 // items.total)
    reports = counted_reports(run, observed)
    speed_of_all = _rate(run, reports, observed)
    remaining = None
    if speed_of_all and items.total is not None and not status.finished:
        remaining = round(min(MAX_COUNT, max(0, items.total - seen) / speed_of_all))
    times = [report.time for report in reports.values()]
    if status.progress.last_updated_time is not None:
        times.append(status.progress.last_updated_time)
    status.progress = Progress(
        percent=percent,
        rate_per_second=None if speed_of_all is None else round(speed_of_all, 2),
        estimated_remaining_seconds=remaining,
        last_updated_time=max(times, default=None),
    )


def _rate(run: Run, reports: Mapping[int, ProgressReport], observed: Observed) -> float | None:
    """Return items per second, resumed ones not counted: of the shards at work, or of all over the time of the work."""
    work = observed.jobs.get(Step.WORK)
    if work is None or work.state is JobState.SUSPENDED:
        return None
    if suite_of(run) is not None:
        return rate(work, reports)
    if work.state is not JobState.RUNNING:
        if work.started is None or work.ended is None or work.ended <= work.started:
            return None
        items = sum(max(0, report.items.all - report.resumed) for report in reports.values())
        # A run that was paused, or waited for quota, worked less long than from its first start to its end.
        return items / (_working_seconds(reports) or (work.ended - work.started).total_seconds()) or None
    over = work.completed | work.failed
    total = sum(speed(report) for shard, report in reports.items() if shard not in over)
    return total if total and math.isfinite(total) else None


def _working_seconds(reports: Mapping[int, ProgressReport]) -> float:
    """Return for how long any shard was at work, as its last attempt tells."""
    seconds, until = 0.0, None
    for start, end in sorted((report.attempt_started, report.time) for report in reports.values()):
        begin = start if until is None else max(start, until)
        if end > begin:
            seconds += (end - begin).total_seconds()
            until = end
    return seconds


def _conditions(run: Run, status: RunStatus, observed: Observed) -> None:
    now = observed.now
    reason = None if status.finished else _suspension(run, observed)
    suspended = reason is not None
    message = {"SuspendRequested": "spec.suspend is true", "WaitingForQuota": observed.waits_for}.get(reason or "", "")
    set_condition(
        status, ConditionType.SUSPENDED, value=suspended, reason=reason or "NotSuspended", message=message, now=now
    )
    _pods_ready(run, status, observed, suspended=suspended)
    if status.finished:
        value, reason = False, "Finished"
    elif suspended:
        value, reason = False, "Suspended"
    elif suite_of(run) is None and _stalled(status, observed):
        value, reason = False, "Stalled"
    else:
        value, reason = True, "Working"
    set_condition(status, ConditionType.PROGRESSING, value=value, reason=reason, now=now)


def _suspension(run: Run, observed: Observed) -> str | None:
    if observed.interrupted:
        return "Interrupted"
    if run.spec.suspend:
        return "SuspendRequested"
    return "WaitingForQuota" if any(job.held for job in observed.jobs.values()) else None


def _pods_ready(run: Run, status: RunStatus, observed: Observed, *, suspended: bool) -> None:
    running = [job for job in observed.jobs.values() if job.state is JobState.RUNNING]
    if status.finished or suspended:
        ready, reason, message = False, "Finished" if status.finished else "Suspended", ""
    elif observed.blocker is not None:
        ready, reason, message = False, observed.blocker.reason, observed.blocker.message
    elif are_awaited(run, observed):
        ready, reason, message = False, "WaitingForRanks", _not_come(awaited_ranks(observed))
    elif running:
        active = sum(job.active for job in running)
        wanted = sum(min(job.parallelism, job.completions - len(job.completed) - len(job.failed)) for job in running)
        ready = active >= wanted
        reason = "AllRunning" if ready else "WaitingForPods"
        message = "" if ready else f"{active} of {wanted} workers run"
    else:
        return
    set_condition(status, ConditionType.PODS_READY, value=ready, reason=reason, message=message, now=observed.now)


def _not_come(ranks: str | None) -> str:
    if ranks is None:
        return "some ranks have not come"
    return f"{ranks} {'has' if ranks.startswith('rank ') else 'have'} not come"


def _failures(status: RunStatus, observed: Observed) -> None:
    # Pods are swept away sooner than runs are: what was listed once stays, until newer ones push it out.
    kept = [failure for failure in status.failures if failure not in observed.failures]
    status.failures = [*kept, *observed.failures][-MAX_FAILURES:]


def _stalled(status: RunStatus, observed: Observed) -> bool:
    work = observed.jobs.get(Step.WORK)
    if work is None or work.state is not JobState.RUNNING:
        return False
    suspended = status.condition(ConditionType.SUSPENDED)
    resumed = None if suspended is None else suspended.last_transition_time
    moved = [time for time in (status.progress.last_updated_time, work.started, resumed) if time is not None]
    return bool(moved) and observed.now - max(moved) > STALLED_AFTER


def _phase(run: Run, status: RunStatus, observed: Observed, prepared: PrepareResult | None) -> Phase:
    if status.is_true(ConditionType.COMPLETE):
        return Phase.COMPLETE
    if status.is_true(ConditionType.FAILED):
        return Phase.FAILED
    if status.is_true(ConditionType.SUSPENDED):
        return Phase.SUSPENDED
    if Step.FINALIZE in observed.jobs:
        return Phase.FINALIZING
    if Step.WORK in observed.jobs:
        return Phase.RUNNING
    return Phase.PREPARING if Step.PREPARE in observed.jobs else Phase.PENDING
