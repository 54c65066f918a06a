"""The pods of a run, as `logs` needs them: which step and shard, which attempt, and whether it has something to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shardwise_api.wire import Step
from shardwise_operator.children.names import CONTAINER, Labels
from shardwise_operator.observe.snapshots import shard_of

from .client import Document
from .view import RunView

_ORDER = {str(step): position for position, step in enumerate(Step)}

Source = tuple[str, int]
"""A step and a completion index: what all attempts at the same work share."""


def selector(run: RunView) -> dict[str, str]:
    """Return the parameters that select a run's pods: not those of an earlier run of the same name."""
    return {"labelSelector": f"{Labels.RUN}={run.name},{Labels.RUN_UID}={run.uid}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One attempt."""

    name: str
    uid: str
    step: str
    shard: int
    created: str
    container: str
    started: bool
    """Whether its container has run, so that there is a log."""
    restarted: bool
    """Whether its container has run before, so that there is an earlier log."""
    ended: bool
    waiting: str
    """Why it doesn't run yet, as `ImagePullBackOff: …`."""
    document: Document = field(repr=False, compare=False)

    @property
    def source(self) -> Source:
        """Return which work it does."""
        return self.step, self.shard

    @property
    def label(self) -> str:
        """Return what its lines are marked with."""
        return f"shard {self.shard}" if self.step == Step.WORK else self.step


def pod_view(document: Document) -> PodView:
    """Return a pod of a run."""
    metadata = document["metadata"]
    labels: Mapping[str, str] = metadata.get("labels") or {}
    status = document.get("status") or {}
    containers = [container["name"] for container in (document.get("spec") or {}).get("containers") or []]
    container = CONTAINER if CONTAINER in containers else next(iter(containers), CONTAINER)
    found: Document = next((c for c in status.get("containerStatuses") or [] if c.get("name") == container), {})
    state = found.get("state") or {}
    ended = status.get("phase") in ("Succeeded", "Failed")
    restarts = int(found.get("restartCount") or 0)
    return PodView(
        name=metadata["name"],
        uid=metadata.get("uid") or metadata["name"],
        step=labels.get(Labels.STEP) or str(Step.WORK),
        shard=shard_of(metadata) or 0,
        created=metadata.get("creationTimestamp") or "",
        container=container,
        started="running" in state or "terminated" in state or restarts > 0,
        restarted=restarts > 0,
        ended=ended,
        waiting=_waiting(status, state.get("waiting") or {}),
        document=document,
    )


def _waiting(status: Document, waiting: Mapping[str, str]) -> str:
    if reason := waiting.get("reason"):
        return f"{reason}: {waiting['message']}" if waiting.get("message") else reason
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason')}: {condition.get('message')}"
    return str(status.get("reason") or status.get("phase") or "Pending")


def wanted(pods: Iterable[PodView], *, steps: frozenset[str], shards: frozenset[int] | None) -> list[PodView]:
    """Return the pods of these steps and shards (all when None), in the order of a run, older attempts first."""
    chosen = [pod for pod in pods if pod.step in steps and (shards is None or pod.shard in shards)]
    return sorted(chosen, key=lambda pod: (_ORDER.get(pod.step, 9), pod.shard, pod.created, pod.name))


def attempts(pods: Iterable[PodView]) -> dict[Source, list[PodView]]:
    """Return the attempts at each piece of work, oldest first, as `wanted` has ordered them."""
    found: dict[Source, list[PodView]] = {}
    for pod in pods:
        found.setdefault(pod.source, []).append(pod)
    return found
