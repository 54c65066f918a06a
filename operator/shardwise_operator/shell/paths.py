"""Paths of the API, written once."""

from __future__ import annotations

from shardwise_api.runs import KINDS

from ..children.names import GROUP, VERSION

_COLLECTIONS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Service": "/api/v1/namespaces/{}/services",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    **{kind: f"/apis/{GROUP}/{VERSION}/namespaces/{{}}/{model.plural}" for kind, model in KINDS.items()},
}


def object_path(*, kind: str, namespace: str, name: str) -> str:
    """Return the path of one object."""
    return f"{_COLLECTIONS[kind].format(namespace)}/{name}"


def pods_path(namespace: str) -> str:
    """Return the path of a namespace's pods."""
    return f"/api/v1/namespaces/{namespace}/pods"


def events_path(namespace: str) -> str:
    """Return the path of a namespace's Events."""
    return f"/api/v1/namespaces/{namespace}/events"


def workloads_path(version: str, namespace: str) -> str:
    """Return the path of a namespace's Workloads, by which Kueue knows Jobs."""
    return f"/apis/kueue.x-k8s.io/{version}/namespaces/{namespace}/workloads"


def collection_paths(kind: str, namespaces: tuple[str, ...]) -> list[str]:
    """Return what to list to see all objects of a kind: one collection, or one for each watched namespace."""
    if kind == "Pod":
        return [pods_path(namespace) for namespace in namespaces] if namespaces else ["/api/v1/pods"]
    pattern = _COLLECTIONS[kind]
    return [pattern.format(name) for name in namespaces] if namespaces else [pattern.replace("namespaces/{}/", "")]
