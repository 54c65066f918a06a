"""When a run is reconciled though nothing happens: limits run out, and a stall is the lack of events."""

from __future__ import annotations

from datetime import datetime, timedelta

from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, RunStatus

RESYNC_SECONDS = 10.0
"""The slow resync of a run that works: what a lost event can cost."""
_SHORTEST = 0.05


def requeue_after(*, run: Run, status: RunStatus, now: datetime) -> float | None:
    """Return seconds until the next reconcile, None when only an event can change anything."""
    if status.finished:
        ttl = run.spec.ttl_seconds_after_finished
        if ttl is None or status.completion_time is None:
            return None
        return max(_SHORTEST, (status.completion_time + timedelta(seconds=ttl) - now).total_seconds())
    limits = [
        seconds
        for seconds in (run.spec.active_deadline_seconds, run.spec.start_deadline_seconds)
        if seconds is not None
    ]
    since = _counting_since(status)
    soonest = RESYNC_SECONDS
    for seconds in limits:
        left = (since + timedelta(seconds=seconds) - now).total_seconds() if since is not None else RESYNC_SECONDS
        if left > 0:
            # A little later: the limit must be over by then.
            soonest = min(soonest, left + _SHORTEST)
    return soonest


def _counting_since(status: RunStatus) -> datetime | None:
    suspended = status.condition(ConditionType.SUSPENDED)
    if suspended is None:
        return status.start_time
    return None if suspended.status == "True" else suspended.last_transition_time
