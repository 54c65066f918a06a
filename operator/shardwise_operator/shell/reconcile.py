"""One loop for each run: observe, plan, act, write the status. Woken by events, and by itself when a time limit comes.

Everything it decides comes from what is observed and from the run's status as it stands in the API server; stopping it
anywhere loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shardwise_api.common import OPERATOR
from shardwise_api.runs import Run
from shardwise_api.status import RunStatus
from shardwise_api.wire import Step

from ..children import ChildSettings
from ..core.actions import DeleteRun
from ..core.cluster_rules import rejected
from ..core.events import run_events
from ..core.observed import Blocker
from ..core.plan import Plan, plan, plan_blind
from ..observe.run import awaited_message, message_of, observe, uncounted
from ..observe.snapshots import JobSnapshot, PodSnapshot
from . import diagnosis, metrics
from .api import Api, ApiError
from .apply import ActionExecutor, NameTaken, NotLeading
from .cache import Cache
from .event_poster import EventPoster
from .parsing import parsed, status_of
from .paths import object_path, pods_path
from .queue import QueueReasons
from .requeue import requeue_after

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
"""At most one status update per run in this time."""
SETTLE_SECONDS = 0.2
"""Between two reconciles: what arrives together is handled together."""
EVENTS_SECONDS = 10.0
LONGEST_BACKOFF_SECONDS = 30.0
FAULT_SECONDS = 600.0
"""From one traceback of a run to the next one that is the same."""
PAGE = "500"
"""Pods listed at once: of ten thousand shards the answer would take all memory."""
KEEP_MESSAGES = (Step.PREPARE, Step.FINALIZE)


@dataclass(slots=True, kw_only=True)
class ReconcileContext:
    """What all loops share."""

    api: Api
    cache: Cache
    settings: ChildSettings
    leading: Callable[[], bool]
    poster: EventPoster
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    """Seconds for pauses and limits; as the event loop's, so that a test may hand in its loop's."""


class RunLoop:
    """Looks after one run until it is deleted."""

    def __init__(self, *, uid: str, context: ReconcileContext) -> None:
        self._uid = uid
        self._context = context
        self._executor = ActionExecutor(
            api=context.api, cache=context.cache, settings=context.settings, leading=context.leading
        )
        self._queue = QueueReasons(api=context.api, clock=context.clock)
        self._wake = asyncio.Event()
        self._wake.set()
        self._status: RunStatus | None = None
        self._blocker: Blocker | None = None
        self._fault: tuple[str, float] | None = None
        """The last thing that went wrong by our own fault, and when it was logged."""
        self._failures = 0
        self._written = -STATUS_SECONDS
        self._unwritten = 0
        self._fetched = False
        self._counted: set[str] = set()
        self._asked_events = -EVENTS_SECONDS
        self._from_events: tuple[str, Blocker | None] | None = None
        self.busy_since: float | None = None

    @property
    def status(self) -> RunStatus | None:
        """The run's status as last planned."""
        return self._status

    def wake(self) -> None:
        """Have the run reconciled soon."""
        self._wake.set()

    async def run(self) -> None:
        """Look after the run for ever; returns when it is gone."""
        pause: float | None = None
        while self._context.cache.run(self._uid) is not None:
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self.busy_since = self._context.clock()
            try:
                with metrics.RECONCILE_SECONDS.time():
                    pause = await self._reconcile()
                if self._blocker is None:
                    self._failures = 0
            except NotLeading:
                pause = STATUS_SECONDS
            except ApiError as error:
                pause = self._back_off(error, error.reason)
            except Exception as error:
                self._log_fault(error)
                self._failures += 1
                pause = _pause(self._failures)
            finally:
                self.busy_since = None
            await asyncio.sleep(SETTLE_SECONDS)

    def _back_off(self, error: Exception, reason: str) -> float:
        metrics.RECONCILE_ERRORS.labels(reason=reason).inc()
        self._failures += 1
        pause = _pause(self._failures)
        log.warning("run %s: %s; again in %.0f s", self._uid, error, pause)
        return pause

    async def _reconcile(self) -> float | None:
        """Reconcile once; return in how many seconds to do so again, whatever happens."""
        cache, now = self._context.cache, self._context.now()
        body = await self._body()
        if body is None or "deletionTimestamp" in body["metadata"]:
            return None
        if (body.get("spec", {}).get("managedBy") or OPERATOR) != OPERATOR:
            return None
        run, problems = parsed(body, self._status)
        if run is None or problems:
            self._blocker = None
            return await self._write_status(
                body, rejected(self._status, problems=problems, generation=body["metadata"].get("generation"), now=now)
            )
        before, blocker = self._blocker, await self._attempt(self._secure_messages(run))
        secured = blocker is None
        jobs, pods = cache.jobs(self._uid), cache.pods(self._uid)
        held = self._executor.held(jobs)
        waits_for = await self._queue.of(run.metadata.namespace, jobs, held=held)
        known_blocker = blocker or before or await self._explanation(run, now)
        made = self._planned(run, now, jobs, pods, held=held, waits_for=waits_for, blocker=known_blocker)
        pause = requeue_after(run=run, status=made.status, now=now)
        for action in made.actions if secured else ():
            refused = await self._attempt(self._executor.execute(run, action, jobs=jobs))
            blocker = blocker or refused
            if refused is None and isinstance(action, DeleteRun):
                # Asked for once: the next reconcile finds it gone, or on its way.
                self._fetched = False
        self._blocker = blocker
        if blocker is not None:
            self._failures += 1
            pause = _pause(self._failures)
        if (blocker is None) != (before is None):
            # Said at once, and taken back at once; other words for it can wait.
            self._wake.set()
        waited = await self._write_status(body, made.status)
        return pause if waited is None else waited if pause is None else min(waited, pause)

    def _planned(self, run: Run, now: datetime, jobs: list[JobSnapshot], pods: list[PodSnapshot], **seen: Any) -> Plan:
        reports = self._context.cache.reports(self._uid)
        try:
            observed = observe(
                now=now,
                run_uid=self._uid,
                jobs=jobs,
                pods=pods,
                reports=reports,
                **seen,
            )
            return plan(run, observed)
        except Exception as error:
            # A fault of ours: whatever it is, it must not keep the run from its deadlines.
            self._log_fault(error)
            problem = f"the operator can't plan this run ({type(error).__name__}); its log says more"
            return plan_blind(run, now=now, steps={job.step for job in jobs if not job.condition}, problem=problem)

    def _log_fault(self, error: Exception) -> None:
        metrics.RECONCILE_ERRORS.labels(reason=type(error).__name__).inc()
        now, kind = self._context.clock(), f"{type(error).__name__}: {error}"[:200]
        if self._fault is None or self._fault[0] != kind or now - self._fault[1] > FAULT_SECONDS:
            self._fault = (kind, now)
            log.error("run %s: unexpected", self._uid, exc_info=error)

    async def _attempt(self, work: Awaitable[None]) -> Blocker | None:
        """Have something done; return what stands in the way."""
        try:
            await work
        except (ApiError, NameTaken) as error:
            log.warning("run %s: %s", self._uid, error)
            metrics.RECONCILE_ERRORS.labels(reason=error.reason if isinstance(error, ApiError) else "NameTaken").inc()
            return diagnosis.refused(error)
        return None

    async def _body(self) -> dict[str, Any] | None:
        """Return the run; the first time as it is now, not as it was when the watch began."""
        body = self._context.cache.run(self._uid)
        if body is None or self._fetched:
            return None if body is None else dict(body)
        return await self._fetch(body)

    async def _fetch(self, known: Any) -> dict[str, Any] | None:
        metadata = known["metadata"]
        path = object_path(kind=known["kind"], namespace=metadata["namespace"], name=metadata["name"])
        try:
            body = await self._context.api.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            body = None
        if body is None or body["metadata"]["uid"] != self._uid:
            self._context.cache.evict(known["kind"], self._uid)
            return None
        self._context.cache.upsert_run(body)
        self._status = status_of(body)
        self._fetched = True
        return body

    async def _secure_messages(self, run: Run) -> None:
        """Have what the single steps left written down, or the step repeated when it is lost with its pod."""
        cache = self._context.cache
        if self._status is not None and self._status.finished:
            return
        for job in cache.jobs(self._uid):
            pods = cache.pods(self._uid)
            if job.uid not in self._counted and uncounted(job, pods):
                # Of a thousand shards the last ends may be shown after the Job's. Once: a pod may be gone for good.
                await self._refresh_pods(run)
                self._counted.add(job.uid)
            if awaited_message(job, pods):
                await self._refresh_pods(run)
                pods = cache.pods(self._uid)
                if awaited_message(job, pods) and job.condition == "Complete":
                    log.warning("run %s: what %s left is lost with its pod; it is repeated", self._uid, job.name)
                    # Unchanged: what it left may have been written down, and that not been shown yet.
                    await self._executor.delete_job(run, job, if_unchanged=True)
                    continue
            message = message_of(job, pods)
            if job.step in KEEP_MESSAGES and job.condition and job.kept_message is None and message is not None:
                await self._executor.keep_message(run, job, message)

    async def _refresh_pods(self, run: Run) -> None:
        page = {"labelSelector": f"shardwise.dev/run-uid={self._uid}", "limit": PAGE}
        while True:
            listed = await self._context.api.get(pods_path(run.metadata.namespace), params=page)
            for pod in listed.get("items", []):
                self._context.cache.upsert_pod(pod)
            following = listed.get("metadata", {}).get("continue")
            if not following:
                return
            page["continue"] = following

    async def _explanation(self, run: Run, now: datetime) -> Blocker | None:
        cache = self._context.cache
        stuck = diagnosis.unexplained(now=now, jobs=cache.jobs(self._uid), pods=cache.pods(self._uid))
        if stuck is None:
            self._from_events = None
            return None
        kind, uid = stuck
        lately = self._context.clock() - self._asked_events < EVENTS_SECONDS
        if lately and self._from_events is not None and self._from_events[0] == uid:
            return self._from_events[1]
        self._asked_events = self._context.clock()
        # A pod that was made since is the proof that a Job's pods can be made again.
        since = max((p.created for p in cache.pods(self._uid) if p.job_uid == uid and p.created), default=None)
        try:
            found = await diagnosis.diagnose(
                api=self._context.api, namespace=run.metadata.namespace, kind=kind, uid=uid, since=since
            )
        except ApiError as error:
            # The run goes on without an explanation.
            log.warning("run %s: Events can't be read: %s", self._uid, error)
            found = None
        self._from_events = (uid, found)
        return found

    async def _write_status(self, body: dict[str, Any], status: RunStatus) -> float | None:
        """Write the status if it changed; return in how many seconds it may be written when it is too early now."""
        before = self._status
        if before == status:
            return None
        wait = self._written + STATUS_SECONDS - self._context.clock()
        if wait > 0:
            return wait
        if not self._context.leading():
            return STATUS_SECONDS
        metadata = body["metadata"]
        path = object_path(kind=body["kind"], namespace=metadata["namespace"], name=metadata["name"])
        newest = self._context.cache.run(self._uid) or body
        kept = {key: newest["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        document = {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": kept,
            "spec": newest["spec"],
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        self._written = self._context.clock()
        try:
            answer = await self._context.api.replace(f"{path}/status", document)
        except ApiError as error:
            # Somebody changed the run meanwhile, or the answer alone was lost: reconcile again with what it is now.
            self._fetched = False
            if error.status not in (404, 409):
                # Less and less often, whatever wakes the loop meanwhile.
                self._unwritten += 1
                self._written += _pause(self._unwritten) - STATUS_SECONDS
                raise
            self._wake.set()
            return STATUS_SECONDS
        self._unwritten = 0
        # Counted anew from its end: it may have been long on its way to a busy API server, and the next one isn't.
        self._written = self._context.clock()
        metrics.STATUS_UPDATES.inc()
        self._status = status
        self._context.cache.upsert_run(answer)
        self._context.poster.post(body, *run_events(before=before, after=status))
        return None


def _pause(failures: int) -> float:
    return float(min(LONGEST_BACKOFF_SECONDS, 0.5 * 2.0 ** min(failures, 10)))
