"""Kueue for tests, driven step by step: what version 0.17 does with Jobs in a namespace of one queue, and no more.

It labels and suspends Jobs when they are made, has a Workload for each, lets a Job begin when its quota fits and stops
one that runs without it. A Job that is let in and found suspended is let go on: its Workload still has the quota. One
that has another size than it was let in with is stopped, and waits anew.
"""

from __future__ import annotations

from typing import Any

from .fake_api import FakeApi

Body = dict[str, Any]
QUEUE = "kueue.x-k8s.io/queue-name"
MIN_PARALLELISM = "kueue.x-k8s.io/job-min-parallelism"
DEFAULT = "default"


class FakeKueue:
    """See the module. `quota` is of pods; `queues` are there, `manage_all`: Jobs without a queue are suspended too."""

    def __init__(
        self, api: FakeApi, *, quota: int = 2, queues: tuple[str, ...] = ("q",), manage_all: bool = False
    ) -> None:
        self._api = api
        self.quota = quota
        self.queues = queues
        self._manage_all = manage_all
        self.admitted: dict[str, int] = {}
        """Pods of the Jobs that were let in, by uid."""
        self.inactive: set[str] = set()
        api.admit = self._webhook

    def generations(self) -> dict[str, int]:
        """Return the most generations that a Job of each name came to."""
        found: dict[str, int] = {}
        for _, kind, body in self._api.log:
            if kind == "Job":
                metadata = body["metadata"]
                found[metadata["name"]] = max(found.get(metadata["name"], 0), metadata["generation"])
        return found

    def evict(self, name: str) -> None:
        """Take the quota from a Job, as for one of a higher priority; it waits anew."""
        job = self._api.body("Job", name)
        assert job is not None
        self._stop(job)

    def sync(self) -> None:
        """Look at every Job once."""
        jobs = {job["metadata"]["uid"]: job for job in self._api.of("Job") if self._manages(job)}
        over = {uid for uid, job in jobs.items() if job.get("status", {}).get("conditions")}
        for uid in [uid for uid in self.admitted if uid not in jobs or uid in over]:
            del self.admitted[uid]
        for uid, job in jobs.items():
            if uid in over:
                continue
            if uid in self.admitted and not self._as_admitted(job):
                self._stop(job)
            elif uid in self.admitted and job["spec"].get("suspend"):
                self._spec(job, suspend=False)
            elif uid not in self.admitted and not job["spec"].get("suspend"):
                self._spec(job, suspend=True)
            elif uid not in self.admitted:
                self._let_in(job)

    def _webhook(self, made: Body) -> Body:
        if made["kind"] == "Job":
            labels = made["metadata"]["labels"]
            if DEFAULT in self.queues:
                labels.setdefault(QUEUE, DEFAULT)
            if self._manages(made):
                made["spec"]["suspend"] = True
        return made

    def _manages(self, job: Body) -> bool:
        return self._manage_all or QUEUE in job["metadata"].get("labels", {})

    def _as_admitted(self, job: Body) -> bool:
        uid, size = job["metadata"]["uid"], job["spec"]["parallelism"]
        return bool(self.admitted[uid] == size)

    def _let_in(self, job: Body) -> None:
        metadata, size = job["metadata"], job["spec"]["parallelism"]
        queue = metadata["labels"].get(QUEUE, "")
        free = self.quota - sum(self.admitted.values())
        least = int(metadata.get("annotations", {}).get(MIN_PARALLELISM, size))
        if queue not in self.queues:
            self._tell(job, f"LocalQueue {queue} doesn't exist")
        elif metadata["uid"] in self.inactive:
            self._tell(job, "The workload is deactivated", active=False)
        elif free < least:
            missing = f"insufficient unused quota for cpu in flavor any, {least - free} more needed"
            self._tell(job, f"couldn't assign flavors to pod set main: {missing}")
        else:
            self.admitted[metadata["uid"]] = min(size, free)
            self._spec(job, suspend=False, parallelism=min(size, free))

    def _stop(self, job: Body) -> None:
        self.admitted.pop(job["metadata"]["uid"], None)
        self._spec(job, suspend=True)

    def _tell(self, job: Body, message: str, *, active: bool = True) -> None:
        metadata = job["metadata"]
        name = f"job-{metadata['name']}-{metadata['uid']}"
        path = f"/apis/kueue.x-k8s.io/v1beta2/namespaces/{metadata['namespace']}/workloads/{name}"
        condition = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": message}
        labels = {"kueue.x-k8s.io/job-uid": metadata["uid"]}
        self._api.put(
            path,
            {
                "kind": "Workload",
                "metadata": {
                    **self._api.objects.get(path, {}).get("metadata", {}),
                    "name": name,
                    "namespace": metadata["namespace"],
                    "labels": labels,
                    "ownerReferences": [{"uid": metadata["uid"]}],
                },
                "spec": {"active": active},
                "status": {"conditions": [condition]},
            },
        )

    def _spec(self, job: Body, **spec: Any) -> None:
        metadata = job["metadata"]
        self._api.change("Job", metadata["name"], spec=spec)
