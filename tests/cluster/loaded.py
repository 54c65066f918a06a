"""What images the nodes have, so that whoever loads some can leave out what is there."""

from __future__ import annotations

from . import nodes
from .settings import NODES, Folders
from .shell import run


def by_node(folders: Folders) -> dict[str, list[str]]:
    """Return the full names of each node's images; raises `ClusterError` when the cluster is down."""
    words = ("ctr", "--namespace", "k8s.io", "images", "list", "--quiet")
    return {node.name: run(*nodes.enter(folders, node), *words).split() for node in NODES}
