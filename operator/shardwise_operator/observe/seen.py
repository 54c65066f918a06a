"""What the operator keeps of a Job and of a pod: the few facts it needs, whatever the number of shards.

Completion indexes of a Job that has a part of the shards become shards here, so that nothing else has to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shardwise_api import indexes
from shardwise_api.wire import Step

from ..children.names import CONTAINER, Annotations, Labels, step_of

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSeen:
    """A child Job."""

    uid: str
    name: str
    step: Step
    version: str
    deleting: bool
    suspended: bool
    completions: int
    parallelism: int
    part: int = 0
    parts: int = 1
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen:
    """A pod of a child Job."""

    uid: str
    name: str
    step: Step
    shard: int
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
    exit_code: int | None = None
    ended_reason: str = ""
    message: str = ""
    disrupted: bool = False


def job_seen(body: Body) -> JobSeen | None:
    """Return what matters of a Job, None when it is none of ours, or no more as it was made: it is applied anew."""
    metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
    step = step_of(metadata.get("labels", {}))
    if step is None:
        return None
    annotations = metadata.get("annotations", {})
    shards = annotations.get(Annotations.SHARDS)
    if (shards is None) != (Annotations.PART not in annotations):
        return None
    try:
        part, parts = map(int, annotations.get(Annotations.PART, "0/1").split("/"))
        completed = _shards(status.get("completedIndexes", ""), of=shards)
        failed = _shards(status.get("failedIndexes", ""), of=shards)
    except ValueError:
        return None
    end: Body = next(
        (c for c in status.get("conditions", ()) if c["type"] in ("Complete", "Failed") and c["status"] == "True"), {}
    )
    return JobSeen(
        uid=metadata["uid"],
        name=metadata["name"],
        step=step,
        version=metadata["resourceVersion"],
        deleting="deletionTimestamp" in metadata,
        suspended=bool(spec.get("suspend")),
        completions=spec.get("completions", 1),
        parallelism=spec.get("parallelism", 1),
        part=part,
        parts=parts,
        completed=completed,
        failed=failed,
        condition=end.get("type", ""),
        reason=end.get("reason", ""),
        message=end.get("message", ""),
        created=_time(metadata.get("creationTimestamp")),
        started=_time(status.get("startTime")),
        ended=_time(status.get("completionTime") or end.get("lastTransitionTime")),
        kept_message=annotations.get(Annotations.MESSAGE),
    )


def pod_seen(body: Body) -> PodSeen | None:
    """Return what matters of a pod, None when it is none of ours."""
    metadata, status = body["metadata"], body.get("status", {})
    labels = metadata.get("labels", {})
    step = step_of(labels)
    owner = next((o for o in metadata.get("ownerReferences", ()) if o.get("kind") == "Job"), None)
    shard = shard_of(metadata)
    if step is None or owner is None or shard is None:
        return None
    container: Body = next((c for c in status.get("containerStatuses", ()) if c["name"] == CONTAINER), {})
    state = container.get("state", {})
    terminated = state.get("terminated") or {}
    waiting = _waiting(status, state)
    return PodSeen(
        uid=metadata["uid"],
        name=metadata["name"],
        step=step,
        shard=shard,
        job_uid=owner["uid"],
        version=metadata["resourceVersion"],
        deleting="deletionTimestamp" in metadata,
        phase=status.get("phase", "Pending"),
        # Of a pod whose node was lost nobody takes that back.
        running="running" in state and status.get("phase") not in ("Succeeded", "Failed"),
        created=_time(metadata.get("creationTimestamp")),
        started=_time((state.get("running") or terminated).get("startedAt")),
        ended=_time(terminated.get("finishedAt")),
        waiting=waiting[0],
        waiting_message=waiting[1],
        exit_code=terminated.get("exitCode"),
        ended_reason=terminated.get("reason") or status.get("reason", ""),
        message=terminated.get("message", ""),
        disrupted=any(c["type"] == "DisruptionTarget" and c["status"] == "True" for c in status.get("conditions", ())),
    )


def shard_of(metadata: Body) -> int | None:
    """Return the shard that a pod works on, None when it is of no Indexed Job, or not as that made it."""
    annotations = metadata.get("annotations") or {}
    index = (metadata.get("labels") or {}).get(INDEX_ANNOTATION) or annotations.get(INDEX_ANNOTATION)
    try:
        return int(_shards(str(index), of=annotations.get(Annotations.SHARDS)))
    except ValueError:
        return None


def run_uid(body: Body) -> str:
    """Return the identity of the run that a child belongs to."""
    return str(body["metadata"].get("labels", {}).get(Labels.RUN_UID, ""))


def _waiting(status: Body, state: Body) -> tuple[str, str]:
    if waiting := state.get("waiting"):
        return waiting.get("reason", ""), waiting.get("message", "")
    if not state and status.get("phase", "Pending") == "Pending":
        for condition in status.get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return condition.get("reason", ""), condition.get("message", "")
    return "", ""


def _shards(positions: str, *, of: str | None) -> str:
    return positions if of is None else indexes.to_text(indexes.counted_in(of, indexes.from_text(positions)))


def _time(text: str | None) -> datetime | None:
    return None if not text else datetime.fromisoformat(text)
