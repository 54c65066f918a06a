"""Shardwise in the cluster as a person installs it: by Helm, with a MongoDB and a KATO server beside it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.kube import Cluster, eventually

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "shardwise"
NAMESPACE = "shardwise-e2e"
RELEASE = "shardwise"
CONTROL = {"kubernetes.io/hostname": "node0"}
"""Where servers are, so that the other node may be lost."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The installed operator."""

    cluster: Cluster
    images: Mapping[str, str]
    helm: str

    @property
    def mongo(self) -> str:
        """The pattern store's URI as pods reach it."""
        return f"mongodb://mongo.{NAMESPACE}:27017"

    @property
    def kato(self) -> str:
        """The KATO server's URL as pods reach it."""
        return f"http://{RELEASE}-kato.{NAMESPACE}:8000"

    def operator_pods(self) -> list[dict[str, Any]]:
        """Return the operator's pods."""
        selector = "--selector=app.kubernetes.io/component=operator"
        found: list[dict[str, Any]] = self.cluster.get("pods", selector)["items"]
        return found

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have no operator meanwhile."""
        deployment = f"deployment/{RELEASE}-operator"
        self.cluster.kubectl("scale", deployment, "--replicas=0")
        eventually(lambda: not self.operator_pods(), seconds=60, what="the operator has ended")
        try:
            yield
        finally:
            self.cluster.kubectl("scale", deployment, "--replicas=1")
            self.cluster.kubectl("rollout", "status", deployment, "--timeout=90s")

    def configure(self, **changes: Any) -> None:
        """Upgrade the release with other values; dots in names are written as `__`."""
        self.helm_run(
            "upgrade", RELEASE, CHART, "--reuse-values", "--wait", "--timeout=120s",
            *(f"--set-json={name.replace('__', '.')}={json.dumps(value)}" for name, value in changes.items()),
        )  # fmt: skip

    def helm_run(self, *arguments: str | Path) -> str:
        """Run Helm against the cluster."""
        words = [self.helm, f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={NAMESPACE}"]
        done = subprocess.run([*words, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"helm {arguments[0]}: {done.stderr}\n{_why(self.cluster)}"
        return done.stdout


@contextmanager
def installed(*, cluster: Cluster, images: Mapping[str, str], helm: str) -> Iterator[Installed]:
    """Install the chart and a MongoDB, wait until both work, and remove them at the end."""
    corner = Cluster(kubeconfig=cluster.kubeconfig, own=cluster.own, namespace=NAMESPACE)
    # What an earlier, killed test run left must not be mistaken for this one's.
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=90s")
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    this = Installed(cluster=corner, images=images, helm=helm)
    try:
        corner.apply(*_mongo(images["mongo"]))
        this.helm_run("install", RELEASE, CHART, "--take-ownership", "--wait", "--timeout=180s", *_values(this))
        eventually(
            lambda: corner.get("deployment", "mongo")["status"].get("readyReplicas") == 1, seconds=120, what="MongoDB"
        )
        yield this
    finally:
        # An own cluster may be broken by now, and goes as a whole.
        if not cluster.own:
            this.helm_run("uninstall", RELEASE, "--ignore-not-found", "--wait")
            cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found")


def _values(this: Installed) -> list[str]:
    parts: dict[str, Any] = {
        "operator.nodeSelector": CONTROL,
        "katoServer.nodeSelector": CONTROL,
        "katoServer.enabled": True,
        "katoServer.store.uri": this.mongo,
        "kueue.enabled": True,
    }
    for value, image in (("operator", "operator"), ("worker", "worker"), ("katoServer", "kato-server")):
        repository, tag = this.images[image].rsplit(":", 1)
        parts[f"{value}.image.repository"] = repository
        parts[f"{value}.image.tag"] = tag
    return [f"--set-json={name}={json.dumps(value)}" for name, value in parts.items()]


def _mongo(image: str) -> tuple[dict[str, Any], dict[str, Any]]:
    labels = {"app": "mongo"}
    container = {
        "name": "mongo",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 27017}],
        "readinessProbe": {"tcpSocket": {"port": 27017}, "periodSeconds": 2},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "nodeSelector": CONTROL,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mongo"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mongo"},
        "spec": {"selector": labels, "ports": [{"port": 27017}]},
    }
    return deployment, service


def _why(cluster: Cluster) -> str:
    return "\n".join(
        cluster.try_kubectl(*words).stdout[-3000:]
        for words in (
            ("get", "pods", "--output=wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", "--selector=app.kubernetes.io/component=operator", "--tail=30"),
        )
    )
