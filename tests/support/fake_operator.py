"""The real operator as a process of this machine, beside a control plane whose nodes and pods KWOK plays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import yaml

from shardwise_api.runs import TrainingRun
from shardwise_api.wire import Step
from shardwise_operator.children import ChildSettings
from shardwise_operator.children.job import job
from shardwise_operator.children.job_groups import JobGroup
from shardwise_operator.children.names import Labels
from tests.cluster.errors import ClusterError
from tests.cluster.fake_nodes import FakeNodes, free_ports
from tests.support.leash import leashed

REPOSITORY = Path(__file__).parents[2]
NAMESPACE = "team"
OWN_NAMESPACE = "shardwise"
OPERATOR_USER = f"system:serviceaccount:{OWN_NAMESPACE}:shardwise-operator"
RUNS = f"/apis/shardwise.dev/v1alpha1/namespaces/{NAMESPACE}/trainingruns"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_ITEMS = "shardwise.test/items"
_WORK_FOR = "shardwise.test/work-for"
_LOOK_SECONDS = 0.1
_STOP_SECONDS = 20.0

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """The operator's process."""

    pid: int
    health: str
    """URL of /healthz, /readyz and /metrics, without the last part."""
    progress: str
    log: Path

    def metrics(self) -> str:
        """Return its numbers in Prometheus' text format."""
        return httpx.get(f"{self.health}/metrics", trust_env=False).raise_for_status().text


@dataclass(kw_only=True)
class Seen:
    """What was seen of one Job or one run from outside; times are of the monotonic clock."""

    submitted: float
    work_started: float = 0.0
    work_ended: float = 0.0
    ended: float = 0.0
    largest_status_bytes: int = 0
    body: Document

    @property
    def seconds(self) -> float:
        """From its submission to its end."""
        return self.ended - self.submitted

    @property
    def work_seconds(self) -> float:
        """From the first sight of the Job with the shards to the end of that."""
        return self.work_ended - self.work_started


def items_of(shards: int) -> int:
    """Return how many items the shards come to: shard k counts k + 1 of them."""
    return shards * (shards + 1) // 2


def manifest(name: str, *, shards: int, work_for: str = "0s") -> Document:
    """Return a TrainingRun whose pods end by themselves after `work_for`; nothing of its engine is ever run."""
    return {
        "apiVersion": "shardwise.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "sharding": {"strategy": "RoundRobin", "shards": shards, "parallelism": shards},
            "output": {"uri": "s3://nowhere/output"},
            "worker": {"annotations": {_ITEMS: str(items_of(shards)), _WORK_FOR: work_for}},
            "engine": {
                "kato": {
                    "knowledgeBase": name,
                    "nodes": [{"name": "node0", "chunkSize": 5}],
                    "tokenizer": {"builtin": "words"},
                    "store": {"uri": "mongodb://nowhere.example/patterns"},
                    "dataset": {"files": {"uris": ["s3://nowhere/data.jsonl"]}},
                }
            },
        },
    }


def bare_job(name: str, *, shards: int) -> Document:
    """Return the Job that the operator would make for such a run, belonging to nobody: what Kubernetes alone needs."""
    run = TrainingRun.model_validate({**manifest(name, shards=shards), "metadata": {"name": name, "uid": "none"}})
    whole = JobGroup(number=0, of=1, completions=shards)
    settings = ChildSettings(worker_image="nothing.test/worker:1")
    made = job(run, step=Step.WORK, group=whole, parallelism=shards, settings=settings)
    template = made["spec"]["template"]
    # Without it the operator never hears of them.
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key != Labels.RUN_UID}
    made["metadata"] = {"name": name, "namespace": NAMESPACE, "labels": labels}
    template["metadata"]["labels"] = labels
    template["spec"]["serviceAccountName"] = "default"
    return made


@contextmanager
def operator_beside(here: FakeNodes) -> Iterator[Operator]:
    """Install the CRDs and start the operator; it leads and watches when the block begins, and is ended after it."""
    _install(here)
    health, progress = free_ports(2)
    log = here.folders.logs / "operator.log"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
        "KUBECONFIG": str(_kubeconfig(here)),
        "SHARDWISE_NAMESPACE": OWN_NAMESPACE,
        "SHARDWISE_WORKER_IMAGE": "nothing.test/worker:1",
        "SHARDWISE_HEALTH_PORT": str(health),
        "SHARDWISE_PROGRESS_PORT": str(progress),
        "SHARDWISE_PROGRESS_URL": f"http://127.0.0.1:{progress}/v1/progress",
        "POD_NAME": "operator-beside",
    }
    with log.open("wb") as stream, subprocess.Popen(
        leashed(sys.executable, "-m", "shardwise_operator"), stdout=stream, stderr=subprocess.STDOUT, env=environment
    ) as process:  # fmt: skip
        operator = Operator(
            pid=process.pid,
            health=f"http://127.0.0.1:{health}",
            progress=f"http://127.0.0.1:{progress}/v1/progress",
            log=log,
        )
        try:
            here.wait("the operator's lead", lambda: _leads(operator, process))
            yield operator
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def follow(
    here: FakeNodes, *, path: str, body: Document, seconds: float, tick: Callable[[], object] = bool
) -> Seen:  # fmt: skip
    """Create a Job or a run and look at it until it has ended. `tick` is called between the looks.

    Raises:
        ClusterError: it failed, or did not end in time; the message says what stands in its status.
    """
    name = body["metadata"]["name"]
    seen = Seen(submitted=monotonic(), body=here.call("POST", path, body))
    work = f"{JOBS}/{name}"
    while not seen.ended:
        sleep(_LOOK_SECONDS)
        tick()
        seen.body = here.call("GET", f"{path}/{name}")
        status = seen.body.get("status", {})
        now = monotonic()
        seen.largest_status_bytes = max(seen.largest_status_bytes, size_of(status))
        if not seen.work_ended:
            made = here.client.get(work)
            if made.is_success:
                seen.work_started = seen.work_started or now
                seen.work_ended = now if "Complete" in _conditions(made.json()) else 0.0
        conditions = _conditions(seen.body)
        if "Complete" in conditions:
            seen.ended = now
        elif "Failed" in conditions or now - seen.submitted > seconds:
            raise ClusterError(f"{name} did not get ready within {seconds:.0f} s: {json.dumps(status)[:2000]}")
        else:
            here.raise_if_dead()
    return seen


def remove(here: FakeNodes, *, path: str, name: str) -> None:
    """Delete a Job or a run, and wait until its pods are gone: they must not be in the way of what comes next."""
    here.call("DELETE", f"{path}/{name}", {"propagationPolicy": "Background"})
    here.wait("the end of all pods", lambda: not here.call("GET", f"{PODS}?limit=1")["items"])


def size_of(status: Document) -> int:
    """Return how many bytes of JSON a status takes."""
    return len(json.dumps(status, separators=(",", ":"), ensure_ascii=False).encode())


def _conditions(body: Document) -> set[str]:
    return {one["type"] for one in body.get("status", {}).get("conditions", ()) if one["status"] == "True"}


def _leads(operator: Operator, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise ClusterError(f"the operator has ended:\n{operator.log.read_text()[-4000:]}")
    try:
        return "\nshardwise_leader 1.0" in operator.metrics()
    except httpx.HTTPError:
        return False


def _install(here: FakeNodes) -> None:
    for path in sorted((REPOSITORY / "crds").glob("*.yaml")):
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        made = here.call("POST", crds, yaml.safe_load(path.read_text(encoding="utf-8")))
        plural = made["spec"]["names"]["plural"]
        collection = f"/apis/shardwise.dev/v1alpha1/{plural}"
        here.wait(f"the CRD {plural}", lambda collection=collection: here.client.get(collection).is_success)  # type: ignore[misc]
    for name in (NAMESPACE, OWN_NAMESPACE):
        here.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        here.wait(f"the account of {name}", lambda account=account: here.client.get(account).is_success)  # type: ignore[misc]


def _kubeconfig(here: FakeNodes) -> Path:
    """Write a kubeconfig with a service account's token: the audit log then tells the operator from everybody else."""
    accounts = f"/api/v1/namespaces/{OWN_NAMESPACE}/serviceaccounts"
    name = OPERATOR_USER.rpartition(":")[2]
    here.call("POST", accounts, {"metadata": {"name": name}})
    here.call(
        "POST",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {
            "metadata": {"name": name},
            # What it may do is tested with the chart's role, on real nodes.
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": OWN_NAMESPACE}],
        },
    )
    asked = {"spec": {"expirationSeconds": 24 * 3600}}
    token = here.call("POST", f"{accounts}/{name}/token", asked)["status"]["token"]
    content = yaml.safe_load(here.kubeconfig.read_text(encoding="utf-8"))
    content["users"][0]["user"] = {"token": token}
    path = here.folders.kubeconfigs / "operator.yaml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
