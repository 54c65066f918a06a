"""What the watches have shown, by run: the only memory that a reconcile reads.

Kept here and not in the framework's indexes, which never hear of an object that went while a watch was down; the
watchdog compares with lists now and then and has such objects forgotten. An older event never replaces a newer one,
and what was deleted does not come back by an answer that was on its way: a uid is never used again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from shardwise_api.wire import ProgressReport

from ..observe.seen import JobSeen, PodSeen, job_seen, pod_seen, run_uid

Body = Mapping[str, Any]
REMEMBERED_ENDS = 10_000
"""Deleted objects whose late events are told apart from news; an answer is late by seconds."""


@dataclass(slots=True)
class _Children:
    jobs: dict[str, JobSeen] = field(default_factory=dict)
    pods: dict[str, PodSeen] = field(default_factory=dict)
    reports: dict[int, ProgressReport] = field(default_factory=dict)


class Cache:
    """Runs, and of each its Jobs, pods and newest reports. `on_change` is called with the uid of a run that changed."""

    def __init__(self, *, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._runs: dict[str, Body] = {}
        self._children: dict[str, _Children] = {}
        self._run_of_pod: dict[str, str] = {}
        self._watched: dict[str, dict[str, str]] = {}
        self._ended: dict[str, None] = {}

    def see_run(self, body: Body, *, deleted: bool = False) -> None:
        """Take in a run as a watch or an answer shows it."""
        uid = body["metadata"]["uid"]
        if deleted:
            self._end(uid)
            self._runs.pop(uid, None)
            self._drop_reports(uid)
        elif uid not in self._ended and not _older(body["metadata"]["resourceVersion"], _version(self._runs.get(uid))):
            self._runs[uid] = body
            self._expect(body["kind"], uid)
        self._changed(uid)

    def see_job(self, body: Body, *, deleted: bool = False) -> None:
        """Take in a Job."""
        seen, run = job_seen(body), run_uid(body)
        if seen is None and run:
            # No more as it was made: known as it was, nobody would mend it.
            self._of(run).jobs.pop(body["metadata"]["uid"], None)
            self._changed(run)
        if seen is None or not run or (seen.uid in self._ended and not deleted):
            return
        jobs = self._of(run).jobs
        known = jobs.get(seen.uid)
        if deleted:
            self._end(seen.uid)
            jobs.pop(seen.uid, None)
        elif known is None or not _older(seen.version, known.version):
            jobs[seen.uid] = seen
            self._expect("Job", seen.uid)
        self._changed(run)

    def see_pod(self, body: Body, *, deleted: bool = False) -> None:
        """Take in a pod."""
        seen, run = pod_seen(body), run_uid(body)
        if seen is None or not run or (seen.uid in self._ended and not deleted):
            return
        pods = self._of(run).pods
        known = pods.get(seen.uid)
        if deleted:
            self._end(seen.uid)
            pods.pop(seen.uid, None)
            self._run_of_pod.pop(seen.uid, None)
        elif known is None or not _older(seen.version, known.version):
            pods[seen.uid] = seen
            self._run_of_pod[seen.uid] = run
            self._expect("Pod", seen.uid)
        self._changed(run)

    def accept(self, report: ProgressReport) -> None:
        """Take in a progress report; an older one than the last of its shard says nothing new."""
        reports = self._of(report.run).reports
        known = reports.get(report.shard)
        if known is None or known.time <= report.time:
            reports[report.shard] = report
            self._changed(report.run)

    def run(self, uid: str) -> Body | None:
        """Return a run as it was seen last."""
        return self._runs.get(uid)

    def runs(self) -> Collection[str]:
        """Return the uids of all runs."""
        return list(self._runs)

    def jobs(self, run: str) -> list[JobSeen]:
        """Return a run's Jobs."""
        return list(self._children[run].jobs.values()) if run in self._children else []

    def pods(self, run: str) -> list[PodSeen]:
        """Return a run's pods."""
        return list(self._children[run].pods.values()) if run in self._children else []

    def reports(self, run: str) -> Mapping[int, ProgressReport]:
        """Return a run's newest report of each shard."""
        return self._children[run].reports if run in self._children else {}

    def pod(self, uid: str) -> tuple[str, PodSeen] | None:
        """Return a pod with the uid of its run."""
        run = self._run_of_pod.get(uid)
        return None if run is None else (run, self._of(run).pods[uid])

    def watched(self, kind: str) -> Mapping[str, str]:
        """Return uid and resource version of every object of a kind as the watch itself showed it last.

        What only an answer has shown so far has an empty version: a watch owes it, and its end too.
        """
        return self._watched.get(kind, {})

    def see(self, kind: str, body: Body, *, deleted: bool = False) -> None:
        """Take in what a watch shows, of any kind: TrainingRun, IngestRun, Job or Pod."""
        metadata = body["metadata"]
        shown = self._watched.setdefault(kind, {})
        if deleted:
            shown.pop(metadata["uid"], None)
        elif metadata["uid"] not in self._ended:
            shown[metadata["uid"]] = metadata["resourceVersion"]
        self.take(kind, body, deleted=deleted)

    def take(self, kind: str, body: Body, *, deleted: bool = False) -> None:
        """Take in an object that an answer shows."""
        take = {"Job": self.see_job, "Pod": self.see_pod}.get(kind, self.see_run)
        take(body, deleted=deleted)

    def forget(self, kind: str, uid: str) -> None:
        """Drop an object that is no more, though no watch said so."""
        self._watched.get(kind, {}).pop(uid, None)
        self._end(uid)
        if kind == "Job":
            for run, children in list(self._children.items()):
                if children.jobs.pop(uid, None) is not None:
                    self._changed(run)
        elif kind == "Pod":
            run_of_pod = self._run_of_pod.pop(uid, None)
            if run_of_pod is not None:
                self._of(run_of_pod).pods.pop(uid, None)
                self._changed(run_of_pod)
        elif uid in self._runs:
            del self._runs[uid]
            self._drop_reports(uid)
            self._changed(uid)

    def _expect(self, kind: str, uid: str) -> None:
        self._watched.setdefault(kind, {}).setdefault(uid, "")

    def _end(self, uid: str) -> None:
        self._ended[uid] = None
        if len(self._ended) > REMEMBERED_ENDS:
            del self._ended[next(iter(self._ended))]

    def _of(self, run: str) -> _Children:
        return self._children.setdefault(run, _Children())

    def _changed(self, run: str) -> None:
        children = self._children.get(run)
        if children is not None and run not in self._runs and not children.jobs and not children.pods:
            # The last child of a deleted run is gone.
            del self._children[run]
        self._on_change(run)

    def _drop_reports(self, run: str) -> None:
        if run in self._children:
            self._children[run].reports.clear()


def _version(body: Body | None) -> str:
    return "" if body is None else str(body["metadata"]["resourceVersion"])


def _older(version: str, known: str) -> bool:
    # Versions are numbers to every API server since Kubernetes 1.35, and were before without saying so.
    return version.isdigit() and known.isdigit() and int(version) < int(known)
