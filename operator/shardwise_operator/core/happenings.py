"""What a person wants to know about a run, told once, when it happens: the text of Kubernetes Events.

Derived from the status before and after, so that whoever writes a status tells what it means, and an operator that
starts anew tells nothing twice. `occasion` tells two happenings with the same words apart, and is the same when the
same one is told again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from shardwise_api.status import Condition, ConditionType, Failure, Phase, RunStatus


class Happened(StrEnum):
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
    {Happened.REJECTED, Happened.SHARD_FAILED, Happened.PODS_NOT_STARTING, Happened.STALLED, Happened.FAILED}
)
_ROUTINE = frozenset({"AllRunning", "WaitingForPods", "WaitingForRanks", "Suspended", "Finished"})
"""Reasons of PodsReady that need nobody; any other says what keeps workers from starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened to a run."""

    reason: Happened
    message: str
    occasion: str = ""

    @property
    def type(self) -> str:
        """`Normal`, or `Warning` when a person may have to do something."""
        return "Warning" if self.reason in _WARNINGS else "Normal"


def happenings(*, before: RunStatus | None, after: RunStatus) -> tuple[Happening, ...]:
    """Return what happened between two statuses of a run, in the order in which it did."""
    known = before or RunStatus()
    return (
        *_acceptance(known, after),
        *_suspension(known, after),
        *_phases(known, after),
        *_failed_attempts(known, after),
        *_hindrance(known, after),
        *_stall(known, after),
        *_end(known, after),
    )


def _acceptance(before: RunStatus, after: RunStatus) -> Iterator[Happening]:
    now = after.condition(ConditionType.ACCEPTED)
    if now is None or _same(before.condition(ConditionType.ACCEPTED), now):
        return
    if now.status == "True" and not before.is_true(ConditionType.ACCEPTED):
        yield _on(now, Happened.ACCEPTED, "The manifest is valid")
    elif now.status == "False":
        # Another reason is news although the condition has not moved.
        yield Happening(reason=Happened.REJECTED, message=_told(now), occasion=f"generation {now.observed_generation}")


def _suspension(before: RunStatus, after: RunStatus) -> Iterator[Happening]:
    now = after.condition(ConditionType.SUSPENDED)
    was = before.is_true(ConditionType.SUSPENDED)
    if now is None or after.finished:
        return
    if now.status == "True" and not was:
        yield _on(now, Happened.SUSPENDED, _told(now))
    elif now.status == "False" and was:
        yield _on(now, Happened.RESUMED, "Work goes on")


def _phases(before: RunStatus, after: RunStatus) -> Iterator[Happening]:
    if after.phase is before.phase or before.phase is Phase.SUSPENDED:
        return
    if after.phase is Phase.RUNNING and before.phase is not Phase.FINALIZING:
        total = "" if after.items.total is None else f", {after.items.total} items"
        shards = f"Working on {after.shards.total} shards{total}"
        message = shards if after.suite is None else f"Running {after.suite.counts.total} scripts"
        yield Happening(reason=Happened.STARTED, message=message)
    elif after.phase is Phase.FINALIZING:
        what = "shards" if after.suite is None else "scripts"
        yield Happening(reason=Happened.FINALIZING, message=f"All {what} are over; putting the results together")


def _failed_attempts(before: RunStatus, after: RunStatus) -> Iterator[Happening]:
    told, seen = Counter(map(_key, before.failures)), Counter[str]()
    for failure in after.failures:
        key = _key(failure)
        seen[key] += 1
        if failure.shard is not None and seen[key] > told[key]:
            code = "" if failure.exit_code is None else f" (exit code {failure.exit_code})"
            message = f"{_shard(after, failure.shard)} failed{code}: {_words(failure.reason, failure.message)}"
            yield Happening(reason=Happened.SHARD_FAILED, message=message, occasion=f"{seen[key]}")


def _shard(status: RunStatus, number: int) -> str:
    jobs = [] if status.suite is None else status.suite.jobs
    return f"Script {jobs[number].id}" if number < len(jobs) else f"Shard {number}"


def _hindrance(before: RunStatus, after: RunStatus) -> Iterator[Happening]:
    now, was = after.condition(ConditionType.PODS_READY), before.condition(ConditionType.PODS_READY)
    if now is None or now.status == "True" or now.reason in _ROUTINE:
        return
    # By its reason alone: messages count seconds and pods.
    if was is None or was.reason != now.reason:
        yield _on(now, Happened.PODS_NOT_STARTING, _told(now))


def _stall(before: RunStatus, after: RunStatus) -> Iterator[Happening]:
    now = after.condition(ConditionType.PROGRESSING)
    was = before.condition(ConditionType.PROGRESSING)
    if now is not None and _stalled(now) and not (was is not None and _stalled(was)):
        since = after.progress.last_updated_time
        last = "" if since is None else f" since {since:%Y-%m-%d %H:%M:%S} UTC"
        yield _on(now, Happened.STALLED, f"Nothing has moved{last}; see the logs of the pods that run")


def _end(before: RunStatus, after: RunStatus) -> Iterator[Happening]:
    complete, failed = after.condition(ConditionType.COMPLETE), after.condition(ConditionType.FAILED)
    if complete is not None and complete.status == "True" and not before.is_true(ConditionType.COMPLETE):
        digest = "" if after.result is None else f"Digest {after.result.digest}"
        yield _on(complete, Happened.COMPLETED, "; ".join(text for text in (digest, complete.message) if text))
    if failed is not None and failed.status == "True" and not before.is_true(ConditionType.FAILED):
        yield _on(failed, Happened.FAILED, _told(failed))


def _on(condition: Condition, reason: Happened, message: str) -> Happening:
    return Happening(reason=reason, message=message, occasion=condition.last_transition_time.isoformat())


def _same(one: Condition | None, other: Condition) -> bool:
    return one is not None and (one.status, one.reason, one.message) == (other.status, other.reason, other.message)


def _stalled(condition: Condition) -> bool:
    return condition.status == "False" and condition.reason == "Stalled"


def _told(condition: Condition) -> str:
    return _words(condition.reason, condition.message)


def _words(reason: str, message: str) -> str:
    return f"{reason}: {message}" if message else reason


def _key(failure: Failure) -> str:
    return failure.model_dump_json()
