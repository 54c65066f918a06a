"""The part of a status that people watch: phase, shards, items, rate and time left, and whether anything moves."""

from __future__ import annotations

from datetime import timedelta

from shardwise_api import indexes
from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, ItemStatus, Phase, Progress, RunStatus, ShardStatus
from shardwise_api.wire import ItemCounts, PrepareResult, RunResult, Step

from .conditions import set_condition
from .observed import JobState, Observed

STALLED_AFTER = timedelta(minutes=5)
"""Without a commit anywhere for this long, a run is said to be stalled."""
MAX_FAILURES = 10


def describe(
    run: Run, status: RunStatus, *, observed: Observed, prepared: PrepareResult | None, result: RunResult | None
) -> None:
    """Fill in what is derived from the observation; never touches Complete and Failed."""
    _shards(run, status, observed)
    _items(status, observed, prepared, result)
    _progress(status, observed, prepared)
    _failures(status, observed)
    if observed.job_ref is not None:
        status.job_ref = observed.job_ref
    _conditions(run, status, observed)
    status.phase = _phase(run, status, observed, prepared)


def _shards(run: Run, status: RunStatus, observed: Observed) -> None:
    total = run.spec.sharding.shards
    work = observed.jobs.get(Step.WORK)
    if work is None:
        done = frozenset(range(total)) if status.is_true(ConditionType.COMPLETE) else frozenset[int]()
        status.shards = ShardStatus(total=total, succeeded=len(done), completed_indexes=indexes.to_text(done))
        return
    status.shards = ShardStatus(
        total=total,
        # What still runs at the end is being stopped.
        active=0 if status.finished else work.active,
        succeeded=len(work.completed),
        failed=len(work.failed),
        completed_indexes=indexes.to_text(work.completed),
        failed_indexes=indexes.to_text(work.failed),
    )


def _items(status: RunStatus, observed: Observed, prepared: PrepareResult | None, result: RunResult | None) -> None:
    counted = result.items if result is not None else _at_least(status.items, _sum(observed))
    total = status.items.total if prepared is None else prepared.items_total
    status.items = ItemStatus(total=total, done=counted.done, failed=counted.failed, skipped=counted.skipped)


def _at_least(known: ItemStatus, seen: ItemCounts) -> ItemCounts:
    # Only committed items are counted, so less than before means that reports are missing: those of shards that had
    # ended before the operator started again.
    return ItemCounts(
        done=max(known.done, seen.done), failed=max(known.failed, seen.failed), skipped=max(known.skipped, seen.skipped)
    )


def _sum(observed: Observed) -> ItemCounts:
    reports = observed.progress.values()
    return ItemCounts(
        done=sum(report.items.done for report in reports),
        failed=sum(report.items.failed for report in reports),
        skipped=sum(report.items.skipped for report in reports),
    )


def _progress(status: RunStatus, observed: Observed, prepared: PrepareResult | None) -> None:
    items = status.items
    seen = items.done + items.failed + items.skipped
    percent = None
    if status.is_true(ConditionType.COMPLETE):
        percent = 100
    elif items.total:
        percent = min(100, seen * 100 // items.total)
    rate = _rate(observed)
    remaining = None
    if rate and items.total is not None and not status.finished:
        remaining = round(max(0, items.total - seen) / rate)
    times = [report.time for report in observed.progress.values()]
    if status.progress.last_updated_time is not None:
        times.append(status.progress.last_updated_time)
    status.progress = Progress(
        percent=percent,
        rate_per_second=None if rate is None else round(rate, 2),
        estimated_remaining_seconds=remaining,
        last_updated_time=max(times, default=None),
    )


def _rate(observed: Observed) -> float | None:
    """Return items per second, resumed ones not counted: of the shards at work, or of all over the time of the work."""
    work = observed.jobs.get(Step.WORK)
    if work is None or work.state is JobState.SUSPENDED:
        return None
    if work.state is not JobState.RUNNING:
        if work.started is None or work.ended is None or work.ended <= work.started:
            return None
        items = sum(max(0, report.items.all - report.resumed) for report in observed.progress.values())
        return items / (work.ended - work.started).total_seconds() or None
    total = 0.0
    for shard, report in observed.progress.items():
        if shard in work.completed or shard in work.failed:
            continue
        seconds = (report.time - report.attempt_started).total_seconds()
        items = report.items.all - report.resumed
        if seconds > 0 and items > 0:
            total += items / seconds
    return total or None


def _conditions(run: Run, status: RunStatus, observed: Observed) -> None:
    now = observed.now
    reason = None if status.finished else _suspension(run, observed)
    suspended = reason is not None
    set_condition(status, ConditionType.SUSPENDED, value=suspended, reason=reason or "NotSuspended", now=now)
    _pods_ready(status, observed, suspended=suspended)
    if status.finished:
        value, reason = False, "Finished"
    elif suspended:
        value, reason = False, "Suspended"
    elif _stalled(status, observed):
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


def _pods_ready(status: RunStatus, observed: Observed, *, suspended: bool) -> None:
    running = [job for job in observed.jobs.values() if job.state is JobState.RUNNING]
    if status.finished or suspended:
        ready, reason, message = False, "Finished" if status.finished else "Suspended", ""
    elif observed.trouble is not None:
        ready, reason, message = False, observed.trouble.reason, observed.trouble.message
    elif running:
        active = sum(job.active for job in running)
        wanted = sum(min(job.parallelism, job.completions - len(job.completed) - len(job.failed)) for job in running)
        ready = active >= wanted
        reason = "AllRunning" if ready else "WaitingForPods"
        message = "" if ready else f"{active} of {wanted} workers run"
    else:
        return
    set_condition(status, ConditionType.PODS_READY, value=ready, reason=reason, message=message, now=observed.now)


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
