"""Carries out a plan with few calls: children are applied once, and then only resumed, suspended or stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from shardwise_api import indexes
from shardwise_api.runs import Run
from shardwise_api.wire import Step

from ..children import ChildSettings, children_of, document_of
from ..children.job_groups import JobGroup, JobGroupState, job_groups_of, parallelisms
from ..children.names import KUEUE_PRIORITY, KUEUE_QUEUE, Annotations, child_name, queue_labels
from ..core.actions import Action, DeleteRun, EnsureJob
from ..core.policies import policy_of
from ..observe.snapshots import JobSnapshot, job_snapshot
from .api import Api, ApiError
from .cache import Cache
from .paths import object_path

_NOT_FOUND = 404
_CONFLICT = 409


class NotLeading(Exception):
    """Another replica may lead by now: nothing may be written."""


class NameTaken(Exception):
    """An object that isn't the run's has the name of one of its children."""


class ActionExecutor:
    """Carries out actions for one operator."""

    def __init__(
        self, *, api: Api, cache: Cache, settings: ChildSettings, leading: Callable[[], bool] = lambda: True
    ) -> None:
        self._api = api
        self._cache = cache
        self._settings = settings
        self._leading = leading
        self._let_go: set[str] = set()
        """Jobs that were made to run, or told to, by uid: one found suspended is held by somebody else."""
        self._documents: dict[str, dict[str, Any]] = {}
        """What this operator has written for workers of a gang to read, by the uid of their Job."""

    async def execute(self, run: Run, action: Action, *, jobs: Collection[JobSnapshot]) -> None:
        """Carry out one action; repeating it does nothing.

        Raises:
            ApiError: the API server refused, or did not answer.
            NameTaken: a child's name is somebody else's.
            NotLeading: before any write; the caller has lost its Lease.
        """
        if isinstance(action, DeleteRun):
            await self._delete_run(run)
            return
        # The newest, as the observation has it: of one that was made anew the old one's end may have been missed.
        own = {job.part: job for job in jobs if job.step is action.step}
        if isinstance(action, EnsureJob):
            await self._ensure(run, action, own)
            return
        for job in own.values():
            if job.condition or job.deleting:
                continue
            if job.queue or self.held([job]):
                # Kueue would let it go on, now or when there is quota, and only what is gone gives its quota back.
                await self.delete_job(run, job)
            else:
                await self._suspend(run, job)

    def held(self, jobs: Collection[JobSnapshot]) -> frozenset[str]:
        """Return the uids of Jobs that somebody suspended whom no queue's label names: they are left to whoever did."""
        return frozenset(job.uid for job in jobs if job.suspended and not job.queue and job.uid in self._let_go)

    async def keep_message(self, run: Run, job: JobSnapshot, message: str) -> None:
        """Write a step's termination message down on its Job: pods go with their node."""
        await self._merge(run, job, {"metadata": {"annotations": {Annotations.MESSAGE.value: message}}})

    async def delete_job(self, run: Run, job: JobSnapshot, *, if_unchanged: bool = False) -> None:
        """Delete a Job with its pods; `if_unchanged`: only if it is still what was seen."""
        version = {"resourceVersion": job.version} if if_unchanged else {}
        if await self._delete(_job_path(run, job.name), {"uid": job.uid, **version}):
            # The watch may be between two connections just now, and never tell.
            self._cache.evict("Job", job.uid)

    async def _ensure(self, run: Run, action: EnsureJob, own: Mapping[int, JobSnapshot]) -> None:
        groups = job_groups_of(run, action)
        given = _shares(run, action, groups, own)
        places = {number: given.get(number) if _sized_by_queue(job) else job.parallelism for number, job in own.items()}
        if len(groups) > 1 and given != places:
            # A place that was given away by a call whose answer is lost must not be given away twice.
            own = await self._as_they_are(run, action, groups)
            given = _shares(run, action, groups, own)
        for number, job in own.items():
            if number in given and not job.condition and not job.deleting:
                await self._go_on(run, action, job, parallelism=given[number])
        missing = {number: parallelism for number, parallelism in given.items() if number not in own}
        if missing and not await self._must_wait(run, action, missing):
            await self._make(run, children_of(run=run, action=action, settings=self._settings, jobs=missing))

    async def _must_wait(self, run: Run, action: EnsureJob, missing: Collection[int]) -> bool:
        """Say whether a pod of a Job that is gone may still work on a shard; its end wakes the loop."""
        if action.step is not Step.WORK or not self._cache.leftovers(run.metadata.uid or "", step=action.step):
            return False
        for number in missing:
            name = child_name(run=run.metadata.name, step=action.step, part=number)
            try:
                await self._api.get(_job_path(run, name))
            except ApiError as error:
                if error.status != _NOT_FOUND:
                    raise
            else:
                # It is there, and not as it was made: the pods are its own.
                return False
        return True

    async def _make(self, run: Run, children: Sequence[dict[str, Any]]) -> None:
        refused: ApiError | NameTaken | None = None
        for child in children:
            try:
                await self._apply(run, child)
            except (ApiError, NameTaken) as error:
                if child["kind"] != "Job":
                    raise
                # The other Jobs of the step need not wait for this one.
                refused = refused or error
        if refused is not None:
            raise refused

    async def _as_they_are(self, run: Run, action: EnsureJob, groups: Sequence[JobGroup]) -> dict[int, JobSnapshot]:
        found = {}
        for group in groups:
            name = child_name(run=run.metadata.name, step=action.step, part=group.number)
            try:
                body = await self._api.get(_job_path(run, name))
            except ApiError as error:
                if error.status != _NOT_FOUND:
                    raise
                continue
            self._cache.upsert_job(body)
            seen = job_snapshot(body)
            # Of somebody else's the attempt to make ours will tell.
            if seen is not None and seen.run == (run.metadata.namespace, run.metadata.uid):
                found[group.number] = seen
        return found

    async def _go_on(self, run: Run, action: EnsureJob, job: JobSnapshot, *, parallelism: int) -> None:
        wanted: dict[str, Any] = {} if _sized_by_queue(job) else {"parallelism": parallelism}
        given = {"parallelism": job.parallelism, "suspend": job.suspended, "completions": job.completions}
        if policy_of(run).resizable and action.step is Step.WORK:
            await self._ensure_document(run, action, job)
            # An API server takes another number of completions only together with the same parallelism.
            wanted["completions"] = action.completions
        labels = self._queue_labels(run, job)
        # In a queue, or held by somebody who did not say so: theirs to let go.
        if not (job.queue or KUEUE_QUEUE in labels or self.held([job])):
            wanted["suspend"] = False
        changed = {key: value for key, value in wanted.items() if given[key] != value}
        if "completions" in changed:
            changed["parallelism"] = parallelism
        if changed or labels:
            patch = {"spec": changed} if changed else {}
            await self._merge(run, job, {**patch, **({"metadata": {"labels": labels}} if labels else {})})
        if wanted.get("suspend") is False:
            self._let_go.add(job.uid)

    def _queue_labels(self, run: Run, job: JobSnapshot) -> dict[str, str]:
        """Return the labels of its queue that a Job lacks; they may change as long as it waits."""
        if not job.suspended:
            return {}
        if job.step is not Step.WORK and (job.queue or not self.held([job])):
            # One short pod each: they need no queue unless somebody lets nothing run without one.
            return {}
        known = {KUEUE_QUEUE: job.queue, KUEUE_PRIORITY: job.priority}
        return {key: value for key, value in queue_labels(run).items() if known[key] != value}

    async def _ensure_document(self, run: Run, action: EnsureJob, job: JobSnapshot) -> None:
        # Before the Job's size: a rank that starts must not learn a number that is over. Compared with what was written
        # and not with the Job's size, which says nothing about a document that was written and not followed up.
        document = document_of(run, action=action)
        if self._documents.get(job.uid) != document["data"]:
            # Of a call whose answer is lost nobody knows what it left.
            self._documents = {}
            await self._apply(run, document)
            self._documents = {job.uid: document["data"]}

    async def _apply(self, run: Run, child: dict[str, Any]) -> None:
        metadata = child["metadata"]
        path = object_path(kind=child["kind"], namespace=metadata["namespace"], name=metadata["name"])
        found = await self._refuse_foreign(run, child, path)
        if child["kind"] == "Job" and found is not None and job_snapshot(found) is not None:
            # Made by a call whose answer was lost: what others have changed in it since is theirs.
            self._cache.upsert_job(found)
            return
        self._fence()
        made = await self._api.apply(path, child)
        if child["kind"] == "Job":
            self._cache.upsert_job(made)
            if not child["spec"]["suspend"]:
                self._let_go.add(made["metadata"]["uid"])

    async def _refuse_foreign(self, run: Run, child: Mapping[str, Any], path: str) -> dict[str, Any] | None:
        # What has this name may be somebody else's: it must neither be changed nor go when the run goes.
        try:
            found = await self._api.get(path)
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        metadata = found["metadata"]
        owners = [owner["uid"] for owner in metadata.get("ownerReferences", [])]
        what = f"{child['kind']} {metadata['name']}"
        if owners != [run.metadata.uid]:
            raise NameTaken(f"{what} is there and not of this run: delete it, or give the run another name")
        if metadata.get("deletionTimestamp"):
            raise NameTaken(f"{what} is being deleted: it is made anew when it is gone")
        return found

    async def _suspend(self, run: Run, job: JobSnapshot) -> None:
        if not job.suspended:
            self._let_go.discard(job.uid)
            await self._merge(run, job, {"spec": {"suspend": True}})

    async def _merge(self, run: Run, job: JobSnapshot, patch: dict[str, Any]) -> None:
        # With its uid: another Job may have the name by now, and the end of this one may have been missed.
        metadata = {**patch.get("metadata", {}), "uid": job.uid}
        self._fence()
        try:
            merged = await self._api.merge(_job_path(run, job.name), {**patch, "metadata": metadata})
        except ApiError as error:
            if error.status != _NOT_FOUND and "metadata.uid" not in error.message:
                raise
            self._cache.evict("Job", job.uid)
        else:
            self._cache.upsert_job(merged)

    async def _delete_run(self, run: Run) -> None:
        path = object_path(kind=run.kind, namespace=run.metadata.namespace, name=run.metadata.name)
        await self._delete(path, {"uid": run.metadata.uid or ""})

    async def _delete(self, path: str, preconditions: dict[str, str]) -> bool:
        self._fence()
        try:
            return await self._api.delete(path, {"propagationPolicy": "Background", "preconditions": preconditions})
        except ApiError as error:
            # Another one has the name by now and this one is gone; or it has changed, and is looked at again.
            if error.status != _CONFLICT:
                raise
            return False

    def _fence(self) -> None:
        if not self._leading():
            raise NotLeading


def _shares(run: Run, action: EnsureJob, groups: Sequence[JobGroup], own: Mapping[int, JobSnapshot]) -> dict[int, int]:
    states = {number: JobGroupState(parallelism=job.parallelism, left=_left(job)) for number, job in own.items()}
    return parallelisms(run, action, groups, states=states)


def _sized_by_queue(job: JobSnapshot) -> bool:
    """Say whether Kueue has let a Job begin with as much parallelism as there was quota for."""
    return job.may_shrink and bool(job.queue) and not job.suspended


def _left(job: JobSnapshot) -> int:
    over = sum(len(indexes.from_text(text)) for text in (job.completed, job.failed))
    # A Job that failed as a whole needs no place for what it did not come to.
    return 0 if job.condition else job.completions - over


def _job_path(run: Run, name: str) -> str:
    return object_path(kind="Job", namespace=run.metadata.namespace, name=name)
