"""What the watches have shown, by run: the only memory that a reconcile reads.

Kept here and not in the framework's indexes, which never hear of an object that went while a watch was down; the
auditor compares with lists now and then and evicts such objects. An older event never replaces a newer one,
and what was deleted does not come back by an answer that was on its way: a uid is never used again.

Children are kept by namespace and uid of their run: what another namespace says of a run is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from shardwise_api.wire import ProgressReport, Step

from ..observe.run import final_report
from ..observe.snapshots import JobSnapshot, PodSnapshot, RunKey, job_snapshot, pod_snapshot

Body = Mapping[str, Any]
REMEMBERED_ENDS = 10_000
"""Deleted objects whose late events are told apart from news; an answer is late by seconds."""


@dataclass(slots=True)
class _Children:
    jobs: dict[str, JobSnapshot] = field(default_factory=dict)
    pods: dict[str, PodSnapshot] = field(default_factory=dict)
    reports: dict[int, ProgressReport] = field(default_factory=dict)


class Cache:
    """Runs, and of each its Jobs, pods and newest reports. `on_change` is called with the uid of a run that changed."""

    def __init__(self, *, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._runs: dict[str, Body] = {}
        self._children: dict[RunKey, _Children] = {}
        self._run_of_job: dict[str, RunKey] = {}
        self._run_of_pod: dict[str, RunKey] = {}
        self._watched: dict[str, dict[str, str]] = {}
        self._ended: dict[str, None] = {}

    def upsert_run(self, body: Body, *, deleted: bool = False) -> None:
        """Take in a run as a watch or an answer shows it."""
        uid = body["metadata"]["uid"]
        if deleted:
            self._end(uid)
            self._drop_reports(uid)
            self._runs.pop(uid, None)
        elif uid not in self._ended and not _older(body["metadata"]["resourceVersion"], _version(self._runs.get(uid))):
            self._runs[uid] = body
            self._expect(body["kind"], uid)
        self._changed((body["metadata"]["namespace"], uid))

    def upsert_job(self, body: Body, *, deleted: bool = False) -> None:
        """Take in a Job."""
        seen, uid = job_snapshot(body), body["metadata"]["uid"]
        if seen is None or self._run_of_job.get(uid, seen.run) != seen.run:
            # No more as it was made: known as it was, nobody would mend it.
            self._drop_job(uid)
            return
        run = seen.run
        if uid in self._ended and not deleted:
            return
        jobs = self._of(run).jobs
        known = jobs.get(uid)
        if deleted:
            self._end(uid)
            self._drop_job(uid)
            return
        if known is None or not _older(seen.version, known.version):
            jobs[uid] = seen
            self._run_of_job[uid] = run
            self._expect("Job", uid)
            self._changed(run)

    def upsert_pod(self, body: Body, *, deleted: bool = False) -> None:
        """Take in a pod."""
        seen = pod_snapshot(body)
        if seen is None or (seen.uid in self._ended and not deleted):
            return
        run = seen.run
        if self._run_of_pod.get(seen.uid, run) != run:
            self._drop_pod(seen.uid)
        pods = self._of(run).pods
        known = pods.get(seen.uid)
        if deleted:
            self._end(seen.uid)
            pods[seen.uid], self._run_of_pod[seen.uid] = seen, run
            self._drop_pod(seen.uid)
            return
        if known is None or not _older(seen.version, known.version):
            pods[seen.uid] = seen
            self._run_of_pod[seen.uid] = run
            self._expect("Pod", seen.uid)
            self._changed(run)

    def accept(self, report: ProgressReport) -> None:
        """Take in a progress report; an older one than the last of its shard says nothing new."""
        run = self._key(report.run)
        if run is None:
            return
        reports = self._of(run).reports
        known = reports.get(report.shard)
        if known is None or known.time <= report.time:
            reports[report.shard] = report
            self._changed(run)

    def run(self, uid: str) -> Body | None:
        """Return a run as it was seen last."""
        return self._runs.get(uid)

    def runs(self) -> Collection[str]:
        """Return the uids of all runs."""
        return list(self._runs)

    def jobs(self, run: str) -> list[JobSnapshot]:
        """Return a run's Jobs."""
        return list(self._known(run).jobs.values())

    def pods(self, run: str) -> list[PodSnapshot]:
        """Return the pods of a run's Jobs."""
        children = self._known(run)
        return [pod for pod in children.pods.values() if pod.job_uid in children.jobs]

    def leftovers(self, run: str, *, step: Step) -> list[PodSnapshot]:
        """Return pods of a step that have not ended though their Job is gone, as they say by their labels."""
        children = self._known(run)
        return [
            pod
            for pod in children.pods.values()
            if pod.step is step
            and pod.job_uid not in children.jobs
            and pod.exit_code is None
            and pod.phase not in ("Succeeded", "Failed")
        ]

    def reports(self, run: str) -> Mapping[int, ProgressReport]:
        """Return a run's newest report of each shard."""
        return self._known(run).reports

    def pod(self, uid: str) -> tuple[str, PodSnapshot] | None:
        """Return a pod of a run's Job, with the uid of the run."""
        key = self._run_of_pod.get(uid)
        if key is None or self._key(key[1]) != key:
            return None
        children = self._of(key)
        pod = children.pods[uid]
        return (key[1], pod) if pod.job_uid in children.jobs else None

    def watched(self, kind: str) -> Mapping[str, str]:
        """Return uid and resource version of every object of a kind as the watch itself showed it last.

        What only an answer has shown so far has an empty version: a watch owes it, and its end too.
        """
        return self._watched.get(kind, {})

    def on_watch_event(self, kind: str, body: Body, *, deleted: bool = False) -> None:
        """Take in what a watch shows, of any kind: TrainingRun, IngestRun, Job or Pod."""
        metadata = body["metadata"]
        shown = self._watched.setdefault(kind, {})
        if deleted:
            shown.pop(metadata["uid"], None)
        elif metadata["uid"] not in self._ended:
            shown[metadata["uid"]] = metadata["resourceVersion"]
        self.upsert(kind, body, deleted=deleted)

    def upsert(self, kind: str, body: Body, *, deleted: bool = False) -> None:
        """Take in an object that an answer shows."""
        upsert = {"Job": self.upsert_job, "Pod": self.upsert_pod}.get(kind, self.upsert_run)
        upsert(body, deleted=deleted)

    def evict(self, kind: str, uid: str) -> None:
        """Drop an object that is no more, though no watch said so."""
        self._watched.get(kind, {}).pop(uid, None)
        self._end(uid)
        if kind == "Job":
            self._drop_job(uid)
        elif kind == "Pod":
            self._drop_pod(uid)
        elif (key := self._key(uid)) is not None:
            self._drop_reports(uid)
            del self._runs[uid]
            self._changed(key)

    def _expect(self, kind: str, uid: str) -> None:
        self._watched.setdefault(kind, {}).setdefault(uid, "")

    def _end(self, uid: str) -> None:
        self._ended[uid] = None
        if len(self._ended) > REMEMBERED_ENDS:
            del self._ended[next(iter(self._ended))]

    def _key(self, uid: str) -> RunKey | None:
        body = self._runs.get(uid)
        return None if body is None else (body["metadata"]["namespace"], uid)

    def _of(self, run: RunKey) -> _Children:
        return self._children.setdefault(run, _Children())

    def _known(self, uid: str) -> _Children:
        key = self._key(uid)
        return _Children() if key is None else self._children.get(key) or _Children()

    def _drop_job(self, uid: str) -> None:
        run = self._run_of_job.pop(uid, None)
        if run is not None:
            self._of(run).jobs.pop(uid, None)
            self._changed(run)

    def _drop_pod(self, uid: str) -> None:
        run = self._run_of_pod.pop(uid, None)
        if run is not None:
            children = self._of(run)
            pod = children.pods.pop(uid, None)
            if pod is not None and pod.job_uid in children.jobs:
                # Deleted with its node or by anybody: what it did is done, and counts.
                report = final_report(run[1], pod, known=children.reports.get(pod.shard))
                if report is not None:
                    children.reports[pod.shard] = report
            self._changed(run)

    def _changed(self, run: RunKey) -> None:
        children, known = self._children.get(run), self._key(run[1])
        if children is not None and known != run and not children.jobs and not children.pods:
            # The last child of a deleted run is gone.
            del self._children[run]
        if known in (None, run):
            self._on_change(run[1])

    def _drop_reports(self, run: str) -> None:
        self._known(run).reports.clear()


def _version(body: Body | None) -> str:
    return "" if body is None else str(body["metadata"]["resourceVersion"])


def _older(version: str, known: str) -> bool:
    # Versions are numbers to every API server since Kubernetes 1.35, and were before without saying so.
    return version.isdigit() and known.isdigit() and int(version) < int(known)
