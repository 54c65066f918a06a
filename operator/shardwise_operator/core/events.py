"""The Kubernetes Events of a run: what a person wants to know, reported once, when it happens.

Derived from the status before and after, so that whoever writes a status reports what it means, and an operator that
starts anew reports nothing twice. `occasion` tells two events with the same words apart, and is the same when the
same event is reported again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from shardwise_api.status import Condition, ConditionType, Failure, Phase, RunStatus


class EventReason(StrEnum):
    """Reasons of Events, as `kubectl get events` lists them."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    STARTED = "Started"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    SHARD_FAILED = "ShardFailed"
    PODS_NOT_STARTING = "PodsNotStarting"
    STALLED = "Stalled"
    FINALIZING = "Finalizing"
    COMPLETED = "Completed"
    FAILED = "Failed"


_WARNINGS = frozenset(
    {
        EventReason.REJECTED,
        EventReason.SHARD_FAILED,
        EventReason.PODS_NOT_STARTING,
        EventReason.STALLED,
        EventReason.FAILED,
    }
)
_ROUTINE = frozenset({"AllRunning", "WaitingForPods", "WaitingForRanks", "Suspended", "Finished"})
"""Reasons of PodsReady that need nobody; any other says what keeps workers from starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """An Event of a run, as the API server takes it."""

    reason: EventReason
    message: str
    occasion: str = ""

    @property
    def type(self) -> str:
        """`Normal`, or `Warning` when a person may have to do something."""
        return "Warning" if self.reason in _WARNINGS else "Normal"


def run_events(*, before: RunStatus | None, after: RunStatus) -> tuple[RunEvent, ...]:
    """Return what happened between two statuses of a run, in the order in which it did."""
    previous = before or RunStatus()
    return (
        *_acceptance(previous, after),
        *_suspension(previous, after),
        *_phases(previous, after),
        *_failed_attempts(previous, after),
        *_pods_not_starting(previous, after),
        *_stall(previous, after),
        *_end(previous, after),
    )


def _acceptance(before: RunStatus, after: RunStatus) -> Iterator[RunEvent]:
    now = after.condition(ConditionType.ACCEPTED)
    if now is None or _same(before.condition(ConditionType.ACCEPTED), now):
        return
    if now.status == "True" and not before.is_true(ConditionType.ACCEPTED):
        yield _on(now, EventReason.ACCEPTED, "The manifest is valid")
    elif now.status == "False":
        # Another reason is news although the condition has not moved.
        yield RunEvent(
            reason=EventReason.REJECTED, message=_text(now), occasion=f"generation {now.observed_generation}"
        )


def _suspension(before: RunStatus, after: RunStatus) -> Iterator[RunEvent]:
    now = after.condition(ConditionType.SUSPENDED)
    was = before.is_true(ConditionType.SUSPENDED)
    if now is None or after.finished:
        return
    if now.status == "True" and not was:
        yield _on(now, EventReason.SUSPENDED, _text(now))
    elif now.status == "False" and was:
        yield _on(now, EventReason.RESUMED, "Work goes on")


def _phases(before: RunStatus, after: RunStatus) -> Iterator[RunEvent]:
    if after.phase is before.phase or before.phase is Phase.SUSPENDED:
        return
    if after.phase is Phase.RUNNING and before.phase is not Phase.FINALIZING:
        total = "" if after.items.total is None else f", {after.items.total} items"
        shards = f"Working on {after.shards.total} shards{total}"
        message = shards if after.suite is None else f"Running {after.suite.counts.total} scripts"
        yield RunEvent(reason=EventReason.STARTED, message=message)
    elif after.phase is Phase.FINALIZING:
        what = "shards" if after.suite is None else "scripts"
        yield RunEvent(reason=EventReason.FINALIZING, message=f"All {what} are over; putting the results together")


def _failed_attempts(before: RunStatus, after: RunStatus) -> Iterator[RunEvent]:
    reported, seen = Counter(map(_key, before.failures)), Counter[str]()
    for failure in after.failures:
        key = _key(failure)
        seen[key] += 1
        if failure.shard is not None and seen[key] > reported[key]:
            code = "" if failure.exit_code is None else f" (exit code {failure.exit_code})"
            message = f"{_shard(after, failure.shard)} failed{code}: {_words(failure.reason, failure.message)}"
            yield RunEvent(reason=EventReason.SHARD_FAILED, message=message, occasion=f"{seen[key]}")


def _shard(status: RunStatus, number: int) -> str:
    jobs = [] if status.suite is None else status.suite.jobs
    return f"Script {jobs[number].id}" if number < len(jobs) else f"Shard {number}"


def _pods_not_starting(before: RunStatus, after: RunStatus) -> Iterator[RunEvent]:
    now, was = after.condition(ConditionType.PODS_READY), before.condition(ConditionType.PODS_READY)
    if now is None or now.status == "True" or now.reason in _ROUTINE:
        return
    # By its reason alone: messages count seconds and pods.
    if was is None or was.reason != now.reason:
        yield _on(now, EventReason.PODS_NOT_STARTING, _text(now))


def _stall(before: RunStatus, after: RunStatus) -> Iterator[RunEvent]:
    now = after.condition(ConditionType.PROGRESSING)
    was = before.condition(ConditionType.PROGRESSING)
    if now is not None and _stalled(now) and not (was is not None and _stalled(was)):
        since = after.progress.last_updated_time
        last = "" if since is None else f" since {since:%Y-%m-%d %H:%M:%S} UTC"
        yield _on(now, EventReason.STALLED, f"Nothing has moved{last}; see the logs of the pods that run")


def _end(before: RunStatus, after: RunStatus) -> Iterator[RunEvent]:
    complete, failed = after.condition(ConditionType.COMPLETE), after.condition(ConditionType.FAILED)
    if complete is not None and complete.status == "True" and not before.is_true(ConditionType.COMPLETE):
        digest = "" if after.result is None else f"Digest {after.result.digest}"
        yield _on(complete, EventReason.COMPLETED, "; ".join(text for text in (digest, complete.message) if text))
    if failed is not None and failed.status == "True" and not before.is_true(ConditionType.FAILED):
        yield _on(failed, EventReason.FAILED, _text(failed))


def _on(condition: Condition, reason: EventReason, message: str) -> RunEvent:
    return RunEvent(reason=reason, message=message, occasion=condition.last_transition_time.isoformat())


def _same(one: Condition | None, other: Condition) -> bool:
    return one is not None and (one.status, one.reason, one.message) == (other.status, other.reason, other.message)


def _stalled(condition: Condition) -> bool:
    return condition.status == "False" and condition.reason == "Stalled"


def _text(condition: Condition) -> str:
    return _words(condition.reason, condition.message)


def _words(reason: str, message: str) -> str:
    return f"{reason}: {message}" if message else reason


def _key(failure: Failure) -> str:
    return failure.model_dump_json()
