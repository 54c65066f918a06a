"""Finds out why workers don't start when neither Job nor pods say so: the answer is in Events, or in a refused call."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from ..core.conditions import shortened
from ..core.observed import Blocker
from ..observe.blockers import blocker_in_events, reason_of
from ..observe.snapshots import JobSnapshot, PodSnapshot
from .api import Api, ApiError
from .apply import NameTaken
from .paths import events_path

PATIENCE = timedelta(seconds=4)
"""A Job without pods, or a pod without a container, is nothing unusual for so long."""
_STARTING = ("", "ContainerCreating")


def refused(error: ApiError | NameTaken) -> Blocker:
    """Return what a refused call stands in the way of."""
    if isinstance(error, NameTaken):
        return Blocker(reason="NameTaken", message=str(error))
    if error.status == 0:
        return Blocker(reason="Unreachable", message=f"the API server does not answer: {error.message}")
    reason = reason_of(error.message, otherwise=error.reason or "ApiError")
    # Forbidden is also what admission says; only this is about the operator's own rights.
    lacking = reason == "Forbidden" and "cannot" in error.message
    hint = "; the operator's role lacks a right: install the chart with its rbac, for this namespace too"
    return Blocker(reason=reason, message=shortened(f"{error.message}{hint if lacking else ''}"))


def unexplained(
    *, now: datetime, jobs: Collection[JobSnapshot], pods: Collection[PodSnapshot]
) -> tuple[str, str] | None:
    """Return kind and uid of an object whose Events may say why too few workers run; None when enough do."""
    for job in jobs:
        if job.condition or job.suspended or job.deleting or job.created is None:
            continue
        own = [pod for pod in pods if pod.job_uid == job.uid and pod.exit_code is None and not pod.deleting]
        for pod in own:
            stuck = pod.phase == "Pending" and pod.waiting in _STARTING and pod.exit_code is None
            if stuck and pod.created is not None and now - pod.created > PATIENCE:
                return "Pod", pod.uid
        # One of several Jobs may have to wait until another needs fewer places.
        if not own and job.parallelism and now - job.created > PATIENCE:
            return "Job", job.uid
    return None


async def diagnose(
    *, api: Api, namespace: str, kind: str, uid: str, since: datetime | None = None
) -> Blocker | None:  # fmt: skip
    """Return what an object's Events say is wrong; what they said before `since` is over."""
    selector = f"involvedObject.kind={kind},involvedObject.uid={uid},type=Warning"
    found = await api.get(events_path(namespace), params={"fieldSelector": selector, "limit": "50"})
    return blocker_in_events(found.get("items", []), since=since)
