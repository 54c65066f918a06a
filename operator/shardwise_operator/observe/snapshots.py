"""What the operator keeps of a Job and of a pod: the few facts it needs, whatever the number of shards.

Completion indexes of a Job that has a part of the shards become shards here, so that nothing else has to know. A label
is anybody's to write: whose a child is, its controller says, and within its own namespace only. What is not as
Kubernetes and this operator write it is none of ours: numbers are bounded here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from shardwise_api import indexes
from shardwise_api.bounds import Int32
from shardwise_api.common import MAX_SHARDS
from shardwise_api.runs import KINDS
from shardwise_api.wire import Step

from ..children.names import (
    CONTAINER,
    GROUP,
    KUEUE_MIN_PARALLELISM,
    KUEUE_PRIORITY,
    KUEUE_QUEUE,
    Annotations,
    Labels,
    step_of,
)

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
Body = Mapping[str, Any]
RunKey = tuple[str, str]
"""Namespace and uid of a run."""
Size = Annotated[int, Field(ge=0, le=MAX_SHARDS)]
Shard = Annotated[int, Field(ge=0, lt=MAX_SHARDS)]
_NOT_OURS = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading raises where a field is missing, of another type or out of bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSnapshot:
    """A child Job."""

    run: RunKey
    """Its controller, which an object can only have in its own namespace."""
    uid: str
    name: str
    step: Step
    version: str
    deleting: bool
    suspended: bool
    completions: Size
    parallelism: Size
    part: Shard = 0
    parts: Size = 1
    """Of how many Jobs of the step this is one."""
    completed: str = ""
    failed: str = ""
    condition: str = ""
    """Complete or Failed, empty before its end."""
    reason: str = ""
    message: str = ""
    created: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    kept_message: str | None = None
    """The termination message that was written down on it."""
    queue: str = ""
    """The queue of Kueue that it is in, whoever put it there; empty: none."""
    priority: str = ""
    """Its priority class there."""
    may_shrink: bool = False
    """Kueue may let it begin with less parallelism, and is the one to say how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSnapshot:
    """A pod of a child Job."""

    run: RunKey
    """As its label claims: to be believed only if `job_uid` is a Job of that run."""
    uid: str
    name: str
    step: Step
    shard: Shard
    job_uid: str
    version: str
    deleting: bool
    phase: str
    running: bool
    created: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    waiting: str = ""
    waiting_message: str = ""
    exit_code: Int32 | None = None
    ended_reason: str = ""
    message: str = ""
    disrupted: bool = False


_JOB, _POD = TypeAdapter(JobSnapshot), TypeAdapter(PodSnapshot)


def job_snapshot(body: Body) -> JobSnapshot | None:
    """Return what matters of a Job, None when it is none of ours, or no more as it was made: it is applied anew."""
    try:
        return _JOB.validate_python(_job(body))
    except _NOT_OURS:
        return None


def pod_snapshot(body: Body) -> PodSnapshot | None:
    """Return what matters of a pod, None when it is of no Job of ours."""
    try:
        return _POD.validate_python(_pod(body))
    except _NOT_OURS:
        return None


def _controller(metadata: Body) -> Body:
    return next((owner for owner in metadata.get("ownerReferences") or () if owner.get("controller") is True), {})


def _job(body: Body) -> Body:
    metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
    labels = metadata.get("labels") or {}
    step, owner = step_of(labels), _controller(metadata)
    annotations = metadata.get("annotations") or {}
    shards = annotations.get(Annotations.SHARDS)
    of_a_run = owner.get("apiVersion", "").partition("/")[0] == GROUP and owner.get("kind") in KINDS
    if step is None or not of_a_run or (shards is None) != (Annotations.PART not in annotations):
        raise ValueError("not as it was made")
    part, parts = map(int, annotations.get(Annotations.PART, "0/1").split("/"))
    completed = _shards(status.get("completedIndexes", ""), of=shards)
    failed = _shards(status.get("failedIndexes", ""), of=shards)
    end: Body = next(
        (c for c in status.get("conditions", ()) if c["type"] in ("Complete", "Failed") and c["status"] == "True"), {}
    )
    return {
        "run": (metadata["namespace"], owner["uid"]),
        "uid": metadata["uid"],
        "name": metadata["name"],
        "step": step,
        "version": metadata["resourceVersion"],
        "deleting": "deletionTimestamp" in metadata,
        "suspended": bool(spec.get("suspend")),
        "completions": spec.get("completions", 1),
        "parallelism": spec.get("parallelism", 1),
        "part": part,
        "parts": parts,
        "completed": completed,
        "failed": failed,
        "condition": end.get("type", ""),
        "reason": end.get("reason", ""),
        "message": end.get("message", ""),
        "created": _time(metadata.get("creationTimestamp")),
        "started": _time(status.get("startTime")),
        "ended": _time(status.get("completionTime") or end.get("lastTransitionTime")),
        "kept_message": annotations.get(Annotations.MESSAGE),
        "queue": labels.get(KUEUE_QUEUE, ""),
        "priority": labels.get(KUEUE_PRIORITY, ""),
        "may_shrink": KUEUE_MIN_PARALLELISM in annotations,
    }


def _pod(body: Body) -> Body:
    metadata, status = body["metadata"], body.get("status", {})
    step, owner, shard = step_of(metadata.get("labels") or {}), _controller(metadata), shard_of(metadata)
    if step is None or owner.get("kind") != "Job" or owner.get("apiVersion") != "batch/v1" or shard is None:
        raise ValueError("of no Job of ours")
    container: Body = next((c for c in status.get("containerStatuses", ()) if c["name"] == CONTAINER), {})
    state = container.get("state", {})
    terminated = state.get("terminated") or {}
    waiting = _waiting(status, state)
    return {
        "run": (metadata["namespace"], metadata["labels"][Labels.RUN_UID]),
        "uid": metadata["uid"],
        "name": metadata["name"],
        "step": step,
        "shard": shard,
        "job_uid": owner["uid"],
        "version": metadata["resourceVersion"],
        "deleting": "deletionTimestamp" in metadata,
        "phase": status.get("phase", "Pending"),
        # Of a pod whose node was lost nobody takes that back.
        "running": "running" in state and status.get("phase") not in ("Succeeded", "Failed"),
        "created": _time(metadata.get("creationTimestamp")),
        "started": _time((state.get("running") or terminated).get("startedAt")),
        "ended": _time(terminated.get("finishedAt")),
        "waiting": waiting[0],
        "waiting_message": waiting[1],
        "exit_code": terminated.get("exitCode"),
        "ended_reason": terminated.get("reason") or status.get("reason", ""),
        "message": terminated.get("message", ""),
        "disrupted": any(
            c["type"] == "DisruptionTarget" and c["status"] == "True" for c in status.get("conditions", ())
        ),
    }


def shard_of(metadata: Body) -> int | None:
    """Return the shard that a pod works on, None when it is of no Indexed Job, or not as that made it."""
    annotations = metadata.get("annotations") or {}
    index = (metadata.get("labels") or {}).get(INDEX_ANNOTATION) or annotations.get(INDEX_ANNOTATION)
    try:
        return int(_shards(str(index), of=annotations.get(Annotations.SHARDS)))
    except ValueError:
        return None


def _waiting(status: Body, state: Body) -> tuple[str, str]:
    if waiting := state.get("waiting"):
        return waiting.get("reason", ""), waiting.get("message", "")
    if not state and status.get("phase", "Pending") == "Pending":
        for condition in status.get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return condition.get("reason", ""), condition.get("message", "")
    return "", ""


def _shards(positions: str, *, of: str | None) -> str:
    found = indexes.from_text(positions)
    return positions if of is None else indexes.to_text(indexes.select(of, found))


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return time.astimezone(UTC)
