"""Helm for tests: what the chart renders, and what it does to a cluster. Helm is built where the machine has none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import helm
from tests.cluster.errors import ClusterError

from .require import missing

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "shardwise"
_HOW_TO_GET = "`python -m tests.cluster helm` builds one, with Go 1.26 and its module proxy or a filled cache."

Object = dict[str, Any]


def find() -> Path:
    """Return a Helm's path; building one for the first time takes minutes."""
    try:
        return helm.find()
    except ClusterError as error:
        missing(f"Helm ({error})", _HOW_TO_GET)


def run(
    program: Path, *arguments: str | Path, values: str | None = None, kubeconfig: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Helm, where the command takes them with `values` as YAML text. Without `kubeconfig` it finds no cluster."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("HELM_", "KUBE"))
    }
    environment["KUBECONFIG"] = str(kubeconfig or os.devnull)
    words = [str(program), *map(str, arguments), *([] if values is None else ["--values=-"])]
    return subprocess.run(
        words, env=environment, input=values, capture_output=True, text=True, timeout=120, check=False
    )


def render(
    program: Path, values: str = "", *, release: str = "shardwise", namespace: str = "shardwise"
) -> list[Object]:
    """Return the objects that the chart makes of `values`, its test's included."""
    result = run(program, "template", release, CHART, f"--namespace={namespace}", values=values)
    assert result.returncode == 0, result.stderr
    return [found for found in yaml.safe_load_all(result.stdout) if found]


def one(objects: list[Object], kind: str, ending: str = "") -> Object:
    """Return the only object of a kind whose name ends so."""
    found = [found for found in objects if found["kind"] == kind and found["metadata"]["name"].endswith(ending)]
    assert len(found) == 1, [(found["kind"], found["metadata"]["name"]) for found in objects]
    return found[0]


def pod_templates(objects: list[Object]) -> dict[str, Object]:
    """Return the pods that objects are or would make, by name, each with labels and spec."""
    pods = {found["metadata"]["name"]: found for found in objects if found["kind"] == "Pod"}
    makers = [found for found in objects if "template" in found.get("spec", {})]
    return {**pods, **{found["metadata"]["name"]: found["spec"]["template"] for found in makers}}


def selects(selector: dict[str, str], found: Object) -> bool:
    """Tell whether a selector's labels are among an object's."""
    labels: dict[str, str] = found["metadata"]["labels"]
    return selector.items() <= labels.items()


def operator_environment(objects: list[Object]) -> Object:
    """Return the operator's variables: a text, or what `valueFrom` says."""
    (container,) = one(objects, "Deployment", "-operator")["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
"""Kinds of the chart that are in no namespace."""

ALL_ON = """
watchNamespaces: [team-a, team-b]
uriSchemes: [sftp, zip]
imagePullSecrets: [pull]
operator:
  image: {repository: registry.test:5000/shardwise/operator, digest: "sha256:%s"}
  replicas: 3
  logLevel: DEBUG
  extraEnv: [{name: EXTRA, value: "1"}, {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
  podAnnotations: {example.test/why: "test"}
  podLabels: {example.test/team: "1"}
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: example.test/dedicated, operator: Exists, effect: NoSchedule}]
  affinity:
    nodeAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 1
          preference: {matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}
  topologySpreadConstraints:
    - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway}
  priorityClassName: system-cluster-critical
  terminationGracePeriodSeconds: 60
worker:
  image: {tag: "1.2.3", pullPolicy: Always}
  imagePullSecrets: [one, two]
serviceAccount: {annotations: {example.test/role: operator}}
networkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
podDisruptionBudget: {create: always, maxUnavailable: "50%%"}
metrics:
  serviceMonitor: {enabled: true, interval: 10s, labels: {release: prometheus}}
  dashboard: {enabled: true, annotations: {folder: Batch}}
katoServer:
  enabled: true
  podAnnotations: {example.test/why: "test"}
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{operator: Exists}]
  priorityClassName: system-cluster-critical
  allowFrom: [{podSelector: {matchLabels: {app: notebook}}}]
""" % ("0123456789abcdef" * 4)
"""Every option in use at once."""

MATRIX = {
    "defaults": "",
    "namespaced": "watchNamespaces: [team-a]",
    "all-on": ALL_ON,
    "bare": """
crds: {install: false}
serviceAccount: {create: false, name: mine}
rbac: {aggregatedRoles: false}
networkPolicy: {enabled: false}
podDisruptionBudget: {create: never}
operator: {replicas: 2, resources: {}}
""",
    "kato-mongodb": """
katoServer: {enabled: true, resources: {}, store: {secretRef: {name: mongodb, key: uri}}}
""",
    "kato-in-memory": "katoServer: {enabled: true, store: {persistence: {enabled: false}}}",
    "kato-own-claim": "katoServer: {enabled: true, store: {persistence: {existingClaim: mine}}}",
}
"""Values that take every way through the templates."""

every_way = pytest.mark.parametrize("values", [pytest.param(values, id=name) for name, values in MATRIX.items()])
