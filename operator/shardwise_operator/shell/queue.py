"""Why a Job waits that somebody else holds: in Kueue's words where the operator may read them, and never in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..children.names import KUEUE, KUEUE_QUEUE
from ..core.conditions import shortened
from ..observe.snapshots import JobSnapshot
from .api import Api, ApiError
from .paths import workloads_path

ASK_SECONDS = 10.0
"""From one question about a Job to the next."""
UNREADABLE_SECONDS = 600.0
"""After an answer that there is no Kueue, or no right to read its Workloads."""
VERSIONS = ("v1beta2", "v1beta1")
_JOB_UID = f"{KUEUE}job-uid"
_FORBIDDEN, _NOT_FOUND = 403, 404

log = logging.getLogger(__name__)


class QueueReasons:
    """Asks for one run; `of` may be called as often as one likes."""

    def __init__(self, *, api: Api, clock: Callable[[], float]) -> None:
        self._api, self._clock = api, clock
        self._known: tuple[str, float, str] | None = None
        self._unreadable_until = 0.0

    async def of(self, namespace: str, jobs: Collection[JobSnapshot], *, held: Collection[str]) -> str:
        """Return why the first of the Jobs waits that is held; empty when none is."""
        waiting = (job for job in jobs if job.suspended and not job.condition and not job.deleting)
        job = min((job for job in waiting if job.queue or job.uid in held), key=lambda job: job.part, default=None)
        if job is None:
            return ""
        if job.queue:
            place = f"Job {job.name} waits in queue {job.queue}"
        else:
            place = (
                f"Job {job.name} is suspended by somebody else, as Kueue does with Jobs without a queue: name one in "
                f"the label {KUEUE_QUEUE} of the run"
            )
        told = await self._told(namespace, job)
        return shortened(f"{place}: {told}" if told else place)

    async def _told(self, namespace: str, job: JobSnapshot) -> str:
        now = self._clock()
        if self._known is not None and self._known[0] == job.uid and now - self._known[1] < ASK_SECONDS:
            return self._known[2]
        told = "" if now < self._unreadable_until else await self._ask(namespace, job)
        self._known = (job.uid, now, told)
        return told

    async def _ask(self, namespace: str, job: JobSnapshot) -> str:
        for version in VERSIONS:
            try:
                found = await self._api.get(
                    workloads_path(version, namespace), params={"labelSelector": f"{_JOB_UID}={job.uid}"}
                )
            except ApiError as error:
                if error.status not in (_FORBIDDEN, _NOT_FOUND):
                    log.warning("Workloads can't be read: %s", error)
                    return ""
                if error.status == _FORBIDDEN:
                    break
            else:
                return reason_of_workloads(found.get("items") or [])
        self._unreadable_until = self._clock() + UNREADABLE_SECONDS
        return ""


def reason_of_workloads(workloads: Collection[Mapping[str, Any]]) -> str:
    """Return what the newest Workload of a Job says of its waiting; empty when it says nothing."""
    newest = max(workloads, key=lambda one: str(one["metadata"].get("creationTimestamp", "")), default=None)
    if newest is None:
        return ""
    conditions = {one.get("type"): one for one in newest.get("status", {}).get("conditions") or []}
    reserved, evicted = conditions.get("QuotaReserved", {}), conditions.get("Evicted", {})
    if newest.get("spec", {}).get("active") is False:
        return "its Workload is deactivated (spec.active is false)"
    if reserved.get("status") == "False" and reserved.get("message"):
        return str(reserved["message"])
    return str(evicted.get("message") or "") if evicted.get("status") == "True" else ""
