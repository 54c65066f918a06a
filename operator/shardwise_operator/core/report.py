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
    status.failures = list(observed.failures[-MAX_FAILURES:])
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
        active=work.active,
        succeeded=len(work.completed),
        failed=len(work.failed),
        completed_indexes=indexes.to_text(work.completed),
        failed_indexes=indexes.to_text(work.failed),
    )


def _items(status: RunStatus, observed: Observed, prepared: PrepareResult | None, result: RunResult | None) -> None:
    counted = result.items if result is not None else _sum(observed)
    total = status.items.total if prepared is None else prepared.items_total
    status.items = ItemStatus(total=total, done=counted.done, failed=counted.failed, skipped=counted.skipped)


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
    moved = max((report.time for report in observed.progress.values()), default=None)
    status.progress = Progress(
        percent=percent,
        rate_per_second=None if rate is None else round(rate, 2),
        estimated_remaining_seconds=remaining,
        last_updated_time=moved or status.progress.last_updated_time,
    )


def _rate(observed: Observed) -> float | None:
    """Return items per second over the shards at work, each since its attempt began; a resumed item isn't counted."""
    work = observed.jobs.get(Step.WORK)
    if work is None:
        return None
    total = 0.0
    for shard, report in observed.progress.items():
        if shard in work.completed and work.state is JobState.RUNNING:
            continue
        seconds = (report.time - report.attempt_started).total_seconds()
        items = report.items.all - report.resumed
        if seconds > 0 and items > 0:
            total += items / seconds
    return total or None


def _conditions(run: Run, status: RunStatus, observed: Observed) -> None:
    now = observed.now
    suspended = (run.spec.suspend or observed.interrupted) and not status.finished
    reason = "Interrupted" if observed.interrupted else "SuspendRequested" if suspended else "NotSuspended"
    set_condition(status, ConditionType.SUSPENDED, value=suspended, reason=reason, now=now)
    work = observed.jobs.get(Step.WORK)
    wanted = 0
    if work is not None and work.state is JobState.RUNNING:
        wanted = min(work.parallelism, work.completions - len(work.completed) - len(work.failed))
        ready = work.active >= wanted
        set_condition(
            status,
            ConditionType.PODS_READY,
            value=ready,
            reason="AllRunning" if ready else "WaitingForPods",
            message="" if ready else f"{work.active} of {wanted} workers run",
            now=now,
        )
    if status.finished:
        value, reason = False, "Finished"
    elif suspended:
        value, reason = False, "Suspended"
    elif _stalled(status, observed):
        value, reason = False, "Stalled"
    else:
        value, reason = True, "Working"
    set_condition(status, ConditionType.PROGRESSING, value=value, reason=reason, now=now)


def _stalled(status: RunStatus, observed: Observed) -> bool:
    work = observed.jobs.get(Step.WORK)
    if work is None or work.state is not JobState.RUNNING:
        return False
    last = status.progress.last_updated_time or work.started
    return last is not None and observed.now - last > STALLED_AFTER


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
