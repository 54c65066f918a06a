"""Jobs and pods as an API server tells of them, for tests of what is made of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from shardwise_operator.observe.snapshots import JobSnapshot, PodSnapshot, job_snapshot, pod_snapshot

from .virtual_time import T0

Body = dict[str, Any]
RUN_UID = "1234"
NAMESPACE = "team"


def text(seconds: float) -> str:
    """Return a time as Kubernetes writes it, `seconds` after T0."""
    at: datetime = T0 + timedelta(seconds=seconds)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def run_owner(uid: str = RUN_UID) -> Body:
    """Return the reference of a Job to its run."""
    return {
        "apiVersion": "shardwise.dev/v1alpha1", "kind": "TrainingRun", "name": "words", "uid": uid, "controller": True,
    }  # fmt: skip


def job_owner(uid: str, name: str = "words") -> Body:
    """Return the reference of a pod to its Job."""
    return {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": True}


def job(step: str = "work", *, uid: str = "", version: int = 1, run: str = RUN_UID, **parts: Any) -> Body:
    """Return a Job of eight shards; `parts` go into metadata, spec and status."""
    name = "words" if step == "work" else f"words-{step}"
    return {
        "metadata": {
            "uid": uid or f"job-{step}", "name": name, "resourceVersion": str(version), "creationTimestamp": text(0),
            "namespace": NAMESPACE, "labels": {"shardwise.dev/run-uid": run, "shardwise.dev/step": step},
            "ownerReferences": [run_owner(run)], **parts.get("metadata", {}),
        },
        "spec": {"completions": 8 if step == "work" else 1, "parallelism": 2, "suspend": False,
                 **parts.get("spec", {})},
        "status": {"startTime": text(1), **parts.get("status", {})},
    }  # fmt: skip


def over(type_: str, reason: str = "", *, at: float = 50, **status: Any) -> Body:
    """Return the status of a Job that has ended."""
    condition = {"type": type_, "status": "True", "reason": reason, "message": "", "lastTransitionTime": text(at)}
    return {"startTime": text(1), "conditions": [condition], **status}


def pod(
    shard: int = 0, *, step: str = "work", uid: str = "", job_uid: str = "", version: int = 1, run: str = RUN_UID,
    metadata: Body | None = None, **status: Any,
) -> Body:  # fmt: skip
    """Return a pod of a shard; pending, unless `status` says more."""
    uid = uid or f"pod-{step}-{shard}"
    return {
        "metadata": {
            "uid": uid, "name": f"words-{shard}-{uid[-5:]}", "resourceVersion": str(version),
            "creationTimestamp": text(0),
            "labels": {
                "shardwise.dev/run-uid": run, "shardwise.dev/step": step,
                "batch.kubernetes.io/job-completion-index": str(shard),
            },
            "namespace": NAMESPACE, "ownerReferences": [job_owner(job_uid or f"job-{step}")],
            **(metadata or {}),
        },
        "status": {"phase": "Pending", **status},
    }  # fmt: skip


def running(at: float = 5) -> Body:
    """Return the status of a pod that runs."""
    return {
        "phase": "Running", "containerStatuses": [{"name": "worker", "state": {"running": {"startedAt": text(at)}}}],
    }  # fmt: skip


def ended(code: int, message: str = "", *, at: float = 40, reason: str = "", **more: Any) -> Body:
    """Return the status of a pod whose worker has ended."""
    terminated = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "startedAt": text(5),
                  "finishedAt": text(at), "message": message}  # fmt: skip
    state = [{"name": "worker", "state": {"terminated": terminated}}]
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": state, **more}


def waiting(reason: str, message: str = "") -> Body:
    """Return the status of a pod whose container waits."""
    return {"containerStatuses": [{"name": "worker", "state": {"waiting": {"reason": reason, "message": message}}}]}


def condition(type_: str, status: str, reason: str = "", message: str = "") -> Body:
    """Return a condition of a pod."""
    return {"type": type_, "status": status, "reason": reason, "message": message}


def snapshot_of_job(body: Body) -> JobSnapshot:
    """Return what is kept of a Job."""
    found = job_snapshot(body)
    assert found is not None
    return found


def snapshot_of_pod(body: Body) -> PodSnapshot:
    """Return what is kept of a pod."""
    found = pod_snapshot(body)
    assert found is not None
    return found
