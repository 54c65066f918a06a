"""A Job controller and a kubelet for tests, driven step by step: what a real one does with a step's Job, and no more.

Pods are made for indexes, within parallelism, and come to the end that the test gives them. Attempts count as the
Job's own failure policy says, so that a policy that is wrong shows.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from shardwise_api import indexes
from shardwise_operator.children.names import CONTAINER
from shardwise_operator.observe.snapshots import INDEX_ANNOTATION

from .bodies import job_owner
from .fake_api import FakeApi

Body = dict[str, Any]


class FakeJobs:
    """Syncs all Jobs of an API server when told to."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api
        self._failures: Counter[tuple[str, int]] = Counter()
        self._counted: set[str] = set()
        self.names = 0

    def sync(self) -> None:
        """Let the controller look at every Job once, the garbage collector before it."""
        self._api.collect_garbage()
        for job in self._api.of("Job"):
            if not _condition(job):
                self._sync(job)

    def pods(self, job: str | None = None, *, live: bool = True) -> list[Body]:
        """Return the pods of a Job by name, or all; `live`: those that have not ended."""
        return [
            pod
            for pod in self._api.of("Pod")
            if job in (None, pod["metadata"]["ownerReferences"][0]["name"])
            and not (live and pod["status"]["phase"] in ("Succeeded", "Failed"))
        ]

    def start(self, pod: Body) -> None:
        """Have a pod's container run."""
        state = {"running": {"startedAt": self._now()}}
        self._status(pod, {"phase": "Running", "containerStatuses": [{"name": CONTAINER, "state": state}]})

    def wait(self, pod: Body, *, reason: str, message: str) -> None:
        """Have a pod's container wait."""
        state = {"waiting": {"reason": reason, "message": message}}
        self._status(pod, {"phase": "Pending", "containerStatuses": [{"name": CONTAINER, "state": state}]})

    def end(self, pod: Body, *, code: int = 0, message: str = "", reason: str | None = None) -> None:
        """Have a pod's container end; what it left reaches the API server with its exit code, as by a kubelet."""
        container: Body = next(iter(pod["status"].get("containerStatuses", ())), {})
        started = container.get("state", {}).get("running", {}).get("startedAt") or self._now()
        ended = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "startedAt": started,
            "finishedAt": self._now(),
            **({"message": message} if message else {}),
        }
        self._status(
            pod,
            {
                "phase": "Failed" if code else "Succeeded",
                "containerStatuses": [{"name": CONTAINER, "state": {"terminated": ended}}],
            },
        )

    def lose(self, pod: Body) -> None:
        """Have a pod's node lost: the pod fails by the garbage collector's word, its container's state stays."""
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
        self._status(pod, {**pod["status"], "phase": "Failed", "conditions": [condition]})

    def sweep(self, pod: Body) -> None:
        """Remove a pod."""
        self._api.remove(_path(pod))

    def _sync(self, job: Body) -> None:
        for pod in self._own(job):
            self._account(job, pod)
        spec = job["spec"]
        self._forget_beyond(job)
        done, failed = _indexes(job, "completedIndexes"), _indexes(job, "failedIndexes")
        if _condition(job):
            self._stop(job)
            return
        enough = [rule["succeededCount"] for rule in spec.get("successPolicy", {}).get("rules", ())]
        if len(done | failed) < spec["completions"] and any(len(done) >= count for count in enough):
            self._finish(job, "Complete", "SuccessPolicy")
        elif len(done | failed) == spec["completions"]:
            self._finish(job, *(("Failed", "FailedIndexes") if failed else ("Complete", "CompletionsReached")))
        elif spec.get("suspend"):
            self._stop(job)
        else:
            self._fill(job, done | failed)

    def _forget_beyond(self, job: Body) -> None:
        # The number of completions may have gone down.
        count = job["spec"]["completions"]
        for field in ("completedIndexes", "failedIndexes"):
            known = _indexes(job, field)
            if any(index >= count for index in known):
                self._update(job, {field: indexes.to_text(index for index in known if index < count)})

    def _fill(self, job: Body, over: set[int]) -> None:
        live = []
        for pod in self._own(job):
            if pod["status"]["phase"] in ("Pending", "Running"):
                if int(pod["metadata"]["labels"][INDEX_ANNOTATION]) >= job["spec"]["completions"]:
                    self._kill(pod)
                else:
                    live.append(pod)
        taken = {int(pod["metadata"]["labels"][INDEX_ANNOTATION]) for pod in live}
        wanted = min(job["spec"]["parallelism"], job["spec"]["completions"] - len(over)) - len(live)
        if "startTime" not in job.get("status", {}):
            self._update(job, {"startTime": self._now()})
        for index in [i for i in range(job["spec"]["completions"]) if i not in over | taken][: max(0, wanted)]:
            self._make(job, index)
        for pod in live[len(live) + wanted :] if wanted < 0 else ():
            self._kill(pod)

    def _make(self, job: Body, index: int) -> None:
        self.names += 1
        metadata, template = job["metadata"], job["spec"]["template"]["metadata"]
        name = f"{metadata['name']}-{index}-{self.names:05d}"
        self._api.put(
            f"/api/v1/namespaces/{metadata['namespace']}/pods/{name}",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": metadata["namespace"],
                    "labels": {**template["labels"], INDEX_ANNOTATION: str(index)},
                    "annotations": dict(template.get("annotations", {})),
                    "ownerReferences": [job_owner(metadata["uid"], metadata["name"])],
                },
                "status": {"phase": "Pending"},
            },
        )

    def _account(self, job: Body, pod: Body) -> None:
        phase, uid = pod["status"]["phase"], pod["metadata"]["uid"]
        if phase not in ("Succeeded", "Failed") or uid in self._counted or _condition(job):
            return
        self._counted.add(uid)
        index = int(pod["metadata"]["labels"][INDEX_ANNOTATION])
        over = _indexes(job, "completedIndexes") | _indexes(job, "failedIndexes")
        if index in over or index >= job["spec"]["completions"]:
            return
        if phase == "Succeeded":
            self._update(job, {"completedIndexes": indexes.to_text(_indexes(job, "completedIndexes") | {index})})
            return
        action = _action(job["spec"]["podFailurePolicy"]["rules"], pod)
        if action == "FailJob":
            self._finish(job, "Failed", "PodFailurePolicy", f"Container {CONTAINER} for pod failed with exit code")
        elif action != "Ignore":
            self._failures[job["metadata"]["uid"], index] += 1
            used_up = self._failures[job["metadata"]["uid"], index] > job["spec"]["backoffLimitPerIndex"]
            if used_up or action == "FailIndex":
                failed = _indexes(job, "failedIndexes") | {index}
                self._update(job, {"failedIndexes": indexes.to_text(failed)})
                if len(failed) > job["spec"]["maxFailedIndexes"]:
                    self._finish(job, "Failed", "MaxFailedIndexesExceeded", "Job has exceeded the maximum")

    def _finish(self, job: Body, type_: str, reason: str, message: str = "") -> None:
        condition = {
            "type": type_, "status": "True", "reason": reason, "message": message, "lastTransitionTime": self._now(),
        }  # fmt: skip
        ended = {"completionTime": self._now()} if type_ == "Complete" else {}
        self._update(job, {"conditions": [condition], **ended})
        self._stop(job)

    def _stop(self, job: Body) -> None:
        for pod in self._own(job):
            if pod["status"]["phase"] in ("Pending", "Running"):
                self._kill(pod)

    def _kill(self, pod: Body) -> None:
        if pod["status"]["phase"] == "Running":
            pod = self._api.put(_path(pod), {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": self._now()}})
            self.end(pod, code=143)
        self._api.remove(_path(pod))

    def _own(self, job: Body) -> list[Body]:
        uid = job["metadata"]["uid"]
        return [pod for pod in self._api.of("Pod") if pod["metadata"]["ownerReferences"][0]["uid"] == uid]

    def _update(self, job: Body, status: Body) -> None:
        job["status"] = {**job.get("status", {}), **status}
        path = f"/apis/batch/v1/namespaces/{job['metadata']['namespace']}/jobs/{job['metadata']['name']}"
        kept = self._api.objects[path]
        job["metadata"] = self._api.put(path, {**kept, "status": job["status"]})["metadata"]

    def _status(self, pod: Body, status: Body) -> None:
        known = self._api.objects[_path(pod)]
        pod["status"] = status
        self._api.put(_path(pod), {**known, "status": status})

    def _now(self) -> str:
        time: datetime = self._api._time()
        return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _path(pod: Body) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _condition(job: Body) -> bool:
    return bool(job.get("status", {}).get("conditions"))


def _indexes(job: Body, field: str) -> set[int]:
    return indexes.from_text(job.get("status", {}).get(field, ""))


def _action(rules: list[Body], pod: Body) -> str:
    conditions = {(c["type"], c["status"]) for c in pod["status"].get("conditions", ())}
    states = [c["state"].get("terminated", {}) for c in pod["status"].get("containerStatuses", ())]
    codes = {state.get("exitCode") for state in states}
    for rule in rules:
        if any((p["type"], p["status"]) in conditions for p in rule.get("onPodConditions", ())):
            return str(rule["action"])
        if codes & set(rule.get("onExitCodes", {}).get("values", ())):
            return str(rule["action"])
    return "Count"
