"""Whether an API server would take objects, and a restricted namespace the pods they make: asked without making any."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from .helm import REPOSITORY, Object, pod_templates
from .kube import Cluster

DEFINITIONS = sorted((REPOSITORY / "crds").glob("*.yaml"))


@contextmanager
def restricted_namespace(cluster: Cluster) -> Iterator[Cluster]:
    """A namespace that takes restricted pods only."""
    with cluster.own_namespace("restricted") as corner:
        corner.kubectl("label", "namespace", corner.namespace, "pod-security.kubernetes.io/enforce=restricted")
        yield corner


def apply_definitions(cluster: Cluster) -> None:
    """Teach the cluster the kinds, as a person would by `kubectl apply`."""
    for definition in DEFINITIONS:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={definition}")
        cluster.kubectl("wait", "--for=condition=Established", f"--filename={definition}", "--timeout=60s")


def ask(cluster: Cluster, objects: list[Object]) -> subprocess.CompletedProcess[str]:
    """Ask the API server whether it would take objects; with its warnings as errors."""
    text = yaml.safe_dump_all(objects)
    options = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "--warnings-as-errors")
    return cluster.try_kubectl("apply", *options, "--filename=-", given=text)


def as_pods(objects: list[Object], namespace: str) -> list[Object]:
    """The pods that objects make, as a controller would make them."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": template["metadata"]["labels"]},
            # Accounts are judged elsewhere; one that isn't there would keep the pod out whatever its rights.
            "spec": {**template["spec"], "serviceAccountName": "default"},
        }
        for name, template in pod_templates(objects).items()
    ]


def in_namespace(objects: list[Object], namespace: str) -> list[Object]:
    """Objects of whatever namespace, in this one; those of a Role for each watched one keep apart by their number."""
    moved = [{**found, "metadata": {**found["metadata"]}} for found in objects]
    for number, found in enumerate(moved):
        if "namespace" in found["metadata"]:
            found["metadata"]["namespace"] = namespace
        if found["kind"] in {"Role", "RoleBinding"}:
            found["metadata"]["name"] += f"-{number}"
    return moved
