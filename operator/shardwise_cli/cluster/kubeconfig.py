"""Which cluster, as kubectl would choose it: files, context and namespace.

kr8s reads a kubeconfig too, but takes the current context from the first file only and the namespace of the current
context even where another one is asked for; so both are chosen here and handed to it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import ClientError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What the command line says of the cluster; None is kubectl's default."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The cluster to talk to."""

    kubeconfig: str | None
    """A path, or several with colons between; None in a pod."""
    context: str | None
    namespace: str
    server: str
    """Its URL."""
    proxied: bool = False
    """Whether the kubeconfig itself names the proxy to it."""

    def __str__(self) -> str:
        return f"{self.server} (context {self.context})" if self.context else self.server


def locate(
    options: ClusterOptions, *, environment: Mapping[str, str] = os.environ, service_account: Path = _SERVICE_ACCOUNT
) -> Target:
    """Return the cluster that is meant.

    Raises:
        ClientError: none can be found, with what was looked at.
    """
    listed = options.kubeconfig or environment.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    paths = [options.kubeconfig] if options.kubeconfig else [path for path in listed.split(os.pathsep) if path]
    files = [path for path in paths if Path(path).is_file()]
    if files:
        return _from_files(options, files)
    if options.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in environment and service_account.is_dir():
        return _in_cluster(options, environment, service_account)
    named = "--kubeconfig" if options.kubeconfig else "KUBECONFIG" if environment.get("KUBECONFIG") else "the default"
    raise ClientError(
        f"no kubeconfig: there is no {', '.join(paths)} ({named}). Point KUBECONFIG or --kubeconfig at one, "
        "as for kubectl"
    )


def _in_cluster(options: ClusterOptions, environment: Mapping[str, str], service_account: Path) -> Target:
    own = service_account / "namespace"
    namespace = options.namespace or (own.read_text(encoding="utf-8").strip() if own.is_file() else "default")
    server = f"https://{environment['KUBERNETES_SERVICE_HOST']}:{environment.get('KUBERNETES_SERVICE_PORT', '443')}"
    return Target(kubeconfig=None, context=None, namespace=namespace, server=server)


def _from_files(options: ClusterOptions, files: list[str]) -> Target:
    contexts: dict[str, Any] = {}
    clusters: dict[str, Any] = {}
    current = ""
    for path in files:
        document = _read(path)
        # As kubectl has it: the first file that says something has it its way.
        contexts = {**_named(document, "contexts", "context"), **contexts}
        clusters = {**_named(document, "clusters", "cluster"), **clusters}
        current = current or str(document.get("current-context") or "")
    shown = ", ".join(files)
    chosen = options.context or current
    known = f"known are {', '.join(sorted(contexts))}" if contexts else "it has none"
    if not chosen:
        raise ClientError(f"{shown} has no current context: choose one with --context ({known})")
    if chosen not in contexts:
        raise ClientError(f"{shown} has no context {chosen!r}: {known}")
    context = contexts[chosen]
    cluster = clusters.get(str(context.get("cluster"))) or {}
    server = cluster.get("server")
    if not server:
        raise ClientError(f"{shown}: context {chosen!r} names cluster {context.get('cluster')!r}, which has no server")
    namespace = options.namespace or context.get("namespace") or "default"
    return Target(
        kubeconfig=os.pathsep.join(files),
        context=chosen,
        namespace=str(namespace),
        server=str(server),
        proxied="proxy-url" in cluster,
    )


def _read(path: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClientError(f"{path} can't be read as a kubeconfig: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ClientError(f"{path} is not a kubeconfig: it has no clusters and contexts")
    return document


def _named(document: dict[str, Any], plural: str, singular: str) -> dict[str, Any]:
    entries = document.get(plural)
    if not isinstance(entries, list):
        return {}
    found: dict[str, Any] = {}
    for entry in entries:
        if isinstance(entry, dict) and entry.get("name") is not None:
            found.setdefault(str(entry["name"]), entry.get(singular) or {})
    return found
