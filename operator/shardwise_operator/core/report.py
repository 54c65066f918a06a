"""The part of a status that people watch: phase, shards, items, rate and time left, and whether anything moves."""

from __future__ import annotations

from datetime import timedelta

from shardwise_api import indexes
from shardwise_api.bounds import MAX_COUNT
from shardwise_api.status import ConditionType, ItemStatus, Phase, Progress, RunStatus, ShardStatus
from shardwise_api.wire import PrepareResult, RunResult, Step

from .conditions import set_condition
from .observed import JobState, Observed
from .policies import Policy

STALLED_AFTER = timedelta(minutes=5)
"""Without a commit anywhere for this long, a run is said to be stalled."""
MAX_FAILURES = 10


def describe(
    policy: Policy, status: RunStatus, *, observed: Observed, prepared: PrepareResult | None, result: RunResult | None
) -> None:
    """Fill in what is derived from the observation; never touches Complete and Failed."""
    _shards(policy, status, observed, prepared)
    _items(policy, status, observed, prepared, result)
    _progress(policy, status, observed)
    if result is None:
        policy.update_metrics(status, observed)
    _failures(status, observed)
    if observed.job_ref is not None:
        status.job_ref = observed.job_ref
    _conditions(policy, status, observed)
    policy.add_status(status, observed=observed, prepared=prepared)
    status.phase = _phase(status, observed)


def _shards(policy: Policy, status: RunStatus, observed: Observed, prepared: PrepareResult | None) -> None:
    known = status.shards
    _shards_seen(policy, status, observed, prepared)
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


def _shards_seen(policy: Policy, status: RunStatus, observed: Observed, prepared: PrepareResult | None) -> None:
    total = policy.shards(prepared)
    work = observed.jobs.get(Step.WORK)
    if work is None:
        # A dry run completes no shards.
        done = total if status.is_true(ConditionType.COMPLETE) and not policy.is_dry_run else 0
        status.shards = ShardStatus(total=total, succeeded=done, completed_indexes=indexes.missing((), of=done))
        return
    if work.state in (JobState.COMPLETE, JobState.FAILED):
        total = policy.shards_at_end(work)
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
    policy: Policy, status: RunStatus, observed: Observed, prepared: PrepareResult | None, result: RunResult | None
) -> None:
    counted = policy.counted_items(status.items, observed) if result is None else result.items
    total = status.items.total if prepared is None else prepared.items_total
    status.items = ItemStatus(total=total, done=counted.done, failed=counted.failed, skipped=counted.skipped)


def _progress(policy: Policy, status: RunStatus, observed: Observed) -> None:
    items = status.items
    seen = items.done + items.failed + items.skipped
    percent = None
    if status.is_true(ConditionType.COMPLETE):
        percent = 100
    elif items.total:
        percent = min(100, seen * 100 // items.total)
    reports = policy.counted_reports(observed)
    work = observed.jobs.get(Step.WORK)
    rate = None if work is None or work.state is JobState.SUSPENDED else policy.rate(work, reports)
    remaining = None
    if rate and items.total is not None and not status.finished:
        remaining = round(min(MAX_COUNT, max(0, items.total - seen) / rate))
    times = [report.time for report in reports.values()]
    if status.progress.last_updated_time is not None:
        times.append(status.progress.last_updated_time)
    status.progress = Progress(
        percent=percent,
        rate_per_second=None if rate is None else round(rate, 2),
        estimated_remaining_seconds=remaining,
        last_updated_time=max(times, default=None),
    )


def _conditions(policy: Policy, status: RunStatus, observed: Observed) -> None:
    now = observed.now
    reason = None if status.finished else _suspension(policy, observed)
    suspended = reason is not None
    message = {"SuspendRequested": "spec.suspend is true", "WaitingForQuota": observed.waits_for}.get(reason or "", "")
    set_condition(
        status, ConditionType.SUSPENDED, value=suspended, reason=reason or "NotSuspended", message=message, now=now
    )
    _pods_ready(policy, status, observed, suspended=suspended)
    if status.finished:
        value, reason = False, "Finished"
    elif suspended:
        value, reason = False, "Suspended"
    elif policy.silence_is_stall and _stalled(status, observed):
        value, reason = False, "Stalled"
    else:
        value, reason = True, "Working"
    set_condition(status, ConditionType.PROGRESSING, value=value, reason=reason, now=now)


def _suspension(policy: Policy, observed: Observed) -> str | None:
    if observed.interrupted:
        return "Interrupted"
    if policy.run.spec.suspend:
        return "SuspendRequested"
    return "WaitingForQuota" if any(job.held for job in observed.jobs.values()) else None


def _pods_ready(policy: Policy, status: RunStatus, observed: Observed, *, suspended: bool) -> None:
    running = [job for job in observed.jobs.values() if job.state is JobState.RUNNING]
    if status.finished or suspended:
        ready, reason, message = False, "Finished" if status.finished else "Suspended", ""
    elif observed.blocker is not None:
        ready, reason, message = False, observed.blocker.reason, observed.blocker.message
    elif policy.awaits_peers(observed):
        ready, reason, message = False, "WaitingForRanks", _not_come(policy.missing_peers(observed))
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


def _phase(status: RunStatus, observed: Observed) -> Phase:
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
