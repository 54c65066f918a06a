"""A queue of Kueue's in a namespace of its own, other people's Jobs beside, and what a run's Jobs went through."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shardwise_api.status import Condition, ConditionType
from tests.support.kube import BUSYBOX
from tests.support.workspace import DATA, Submitted, Workspace, told

QUEUE = "kueue.x-k8s.io/queue-name"
PRIORITY = "kueue.x-k8s.io/priority-class"
ANY = "any"
"""The flavor without node labels."""
LOW, HIGH = "shardwise-low", "shardwise-high"
CPU = "100m"
"""What one worker asks for."""
MAX_GENERATIONS = 20
_POLL_SECONDS = 1.0
_VERSION = "kueue.x-k8s.io/v1beta2"
# A pod's own start is most of what a step here takes, and the machine is busy.
PATIENCE_SECONDS = 300.0


def cluster_objects() -> tuple[dict[str, Any], ...]:
    """Return what all queues of a cluster share."""
    priorities = (
        {"apiVersion": _VERSION, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
        for name, value in ((LOW, 10), (HIGH, 1000))
    )
    return (flavor_object(ANY), *priorities)


def reader_of_runs(account: str, *, namespace: str) -> tuple[dict[str, Any], ...]:
    """Return what lets a service account see all runs, as whoever takes care of them must."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": "shardwise-test-reader-of-runs"}
    rule = {
        "apiGroups": ["shardwise.dev"],
        "resources": ["trainingruns", "ingestruns"],
        "verbs": ["get", "list", "watch"],
    }
    return (
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": metadata["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
    )


def flavor_object(name: str, *, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a flavor, of nodes with these labels."""
    spec = {"spec": {"nodeLabels": labels}} if labels else {}
    return {"apiVersion": _VERSION, "kind": "ResourceFlavor", "metadata": {"name": name}, **spec}


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A LocalQueue with a ClusterQueue of the namespace's name behind it."""

    workspace: Workspace

    @property
    def name(self) -> str:
        """The ClusterQueue's."""
        return self.workspace.namespace

    def set_quota(self, cpu: str, *, flavor: str = ANY) -> None:
        """Let this much CPU be had at once."""
        resources = [{"name": "cpu", "nominalQuota": cpu}]
        self.workspace.cluster.apply(
            {
                "apiVersion": _VERSION,
                "kind": "ClusterQueue",
                "metadata": {"name": self.name},
                "spec": {
                    "namespaceSelector": {},
                    "preemption": {"withinClusterQueue": "LowerPriority"},
                    "resourceGroups": [
                        {"coveredResources": ["cpu"], "flavors": [{"name": flavor, "resources": resources}]}
                    ],
                },
            }
        )

    def add_local(self, name: str) -> None:
        """Add a LocalQueue."""
        self.workspace.cluster.apply(
            {
                "apiVersion": _VERSION,
                "kind": "LocalQueue",
                "metadata": {"name": name},
                "spec": {"clusterQueue": self.name},
            }
        )

    def kato(
        self, name: str, *, samples: int = 100, labels: dict[str, str] | None = None, slow: bool = False, **spec: Any
    ) -> dict[str, Any]:
        """Return a run of four shards, two at once; a slow one is in the middle of its work for a while."""
        worker = spec.pop("worker", {})
        manifest = self.workspace.manifest(name, samples=samples, **spec)
        manifest["spec"]["sharding"] = {"shards": 4, "parallelism": 2, **spec.get("sharding", {})}
        manifest["spec"]["blockSize"] = 5 if slow else 50
        manifest["spec"]["worker"] |= {
            "labels": {QUEUE: "q"} if labels is None else labels,
            "resources": {"requests": {"cpu": CPU}},
            **worker,
        }
        if not slow:
            manifest["spec"]["engine"]["kato"]["store"] = {"uri": f"sqlite:///{DATA}/{name}.db"}
        return manifest

    def training(self, name: str, *, ranks: int, difflogic: dict[str, Any], **worker: Any) -> dict[str, Any]:
        """Return a training by ranks."""
        manifest = self.kato(name, worker=worker)
        manifest["spec"]["sharding"] = {"shards": ranks}
        del manifest["spec"]["blockSize"]
        manifest["spec"]["engine"] = {"difflogic": difflogic}
        return manifest

    def run(self, manifest: dict[str, Any]) -> Queued:
        """Apply a run."""
        return Queued(run=self.workspace.apply(manifest), queue=self)

    @contextmanager
    def taken(self, *, pods: int = 2, name: str = "other", priority: str = "") -> Iterator[None]:
        """Have somebody else's Job in the queue's whole quota meanwhile."""
        labels = {QUEUE: "q"} | ({PRIORITY: priority} if priority else {})
        self.workspace.cluster.apply(_other(name, pods=pods, labels=labels))
        try:
            self.until(lambda: self.job(name)["spec"].get("suspend") is False, what=f"{name} is admitted")
            yield
        finally:
            self.workspace.cluster.kubectl("delete", "job", name, "--cascade=foreground", "--timeout=60s")

    def jobs(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return the Jobs whose names begin like this."""
        found = self.workspace.cluster.get("jobs")["items"]
        return [job for job in found if job["metadata"]["name"].startswith(prefix)]

    def job(self, name: str) -> dict[str, Any]:
        """Return a Job."""
        found: dict[str, Any] = self.workspace.cluster.get("job", name)
        return found

    def workloads(self, job: str) -> list[dict[str, Any]]:
        """Return the Workloads of the Jobs whose names begin like this."""
        found = self.workspace.cluster.get("workloads")["items"]
        return [
            one
            for one in found
            if any(owner["name"].startswith(job) for owner in one["metadata"].get("ownerReferences", ()))
        ]

    def set_active(self, job: str, active: bool) -> None:
        """Deactivate or activate a Job's Workload, as an administrator does."""
        (workload,) = self.workloads(job)
        patch = json.dumps({"spec": {"active": active}})
        self.workspace.cluster.kubectl(
            "patch", "workload", workload["metadata"]["name"], "--type=merge", f"--patch={patch}"
        )

    @staticmethod
    def until(probe: Callable[[], Any], *, what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Return the probe's answer once it is true; looked at seldom, since others need the processor."""
        end = time.monotonic() + seconds
        while not (answer := probe()):
            assert time.monotonic() < end, f"{what}: still {answer!r} after {seconds:.0f} s"
            time.sleep(_POLL_SECONDS)
        return answer


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A run in a queue."""

    run: Submitted
    queue: Queue

    def waits(self, *words: str, reason: str = "WaitingForQuota") -> None:
        """Wait until the run waits and says why."""

        def look() -> bool:
            found = self._suspended
            return (
                found is not None
                and found.status == "True"
                and found.reason == reason
                and all(word in (found.message or "") for word in words)
            )

        try:
            self.queue.until(look, what=f"{self.run.name} waits: {reason} {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {told(self.run.status)}") from error

    def works(self, *, items: int = 1) -> None:
        """Wait until workers have done this much, and are at it."""
        self.queue.until(
            lambda: self.run.status.items.done >= items and self.run.status.phase == "Running",
            what=f"{self.run.name} works",
        )

    def complete(self) -> str:
        """Return the digest at the end, which must be a good one; its Jobs were not fought over, and nothing failed."""
        status = self.run.complete(seconds=PATIENCE_SECONDS)
        assert status.failures == [], status.failures
        self.is_quiet()
        assert status.result is not None
        return status.result.digest

    def is_quiet(self) -> None:
        """Fail when somebody has fought over a Job of this run."""
        generations = {job["metadata"]["name"]: job["metadata"]["generation"] for job in self.queue.jobs(self.run.name)}
        assert all(number <= MAX_GENERATIONS for number in generations.values()), generations

    def delete(self) -> None:
        """Delete it, as a person does."""
        self.run.cluster.kubectl("delete", "trun", self.run.name, "--wait=false")

    @property
    def pods(self) -> list[dict[str, Any]]:
        """Its workers that have not ended."""
        found = self.run.pods("shardwise.dev/step=work")
        return [pod for pod in found if pod["status"].get("phase") in ("Pending", "Running")]

    @property
    def _suspended(self) -> Condition | None:
        return self.run.status.condition(ConditionType.SUSPENDED)


def _other(name: str, *, pods: int, labels: dict[str, str]) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": BUSYBOX,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": CPU}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {"completions": pods, "parallelism": pods, "suspend": True, "template": {"spec": pod}},
    }
