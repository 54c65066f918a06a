"""kubectl with the cluster's own kubeconfig, whatever the caller's environment says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .settings import Folders
from .shell import run


def kubectl(folders: Folders, *arguments: str | Path, timeout: float = 120) -> str:
    """Run kubectl as the cluster's administrator."""
    # A proxy would look for the cluster's addresses outside.
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment["KUBECONFIG"] = str(folders.admin_kubeconfig)
    return run("kubectl", *arguments, environment=environment, timeout=timeout)


def ready_nodes(folders: Folders) -> set[str]:
    """Names of the nodes that say they are Ready."""
    nodes: dict[str, Any] = json.loads(kubectl(folders, "get", "nodes", "--output=json"))
    return {node["metadata"]["name"] for node in nodes["items"] if _is_ready(node)}


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
