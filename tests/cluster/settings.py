"""Names, addresses and folders of the test cluster in one place: what makes a thing and what removes it agree."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ClusterError

REPOSITORY = Path(__file__).parents[2]
SOURCES = Path(__file__).parent
KUBERNETES_VERSION = "1.34.4"
KUEUE_VERSION = "0.17.0"

PREFIX = "shardwise"
"""Everything the cluster makes outside its folder (links, namespaces, cgroups) carries this name; nothing else does."""

# Ranges of 10.0.0.0/8 that container networks seldom take; `network.py` refuses to start when the machine uses one.
LAN = "10.99.0.0/24"
POD_RANGE = "10.98.0.0/16"
SERVICE_RANGE = "10.97.0.0/24"
MACHINE_ADDRESS = "10.99.0.254"
API_SERVICE_ADDRESS = "10.97.0.1"
DNS_ADDRESS = "10.97.0.10"
API_PORT = 6443
CLUSTER_DOMAIN = "cluster.local"

# `.test` names no registry in the world: a pull of such an image fails at once.
PAUSE_IMAGE = f"{PREFIX}.test/pause:1"
BUSYBOX_IMAGE = f"{PREFIX}.test/busybox:1"
COREDNS_IMAGE = f"{PREFIX}.test/coredns:1"

# Hidden from a node behind folders of its own, so a state folder below them would vanish from its sight.
_PRIVATE_FOLDERS = (Path("/run"), Path("/var/run"), Path("/var/lib"), Path("/var/log"), Path("/proc"), Path("/sys"))


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: a network, mount and process namespace with an address on the cluster's own network."""

    name: str
    address: str
    pod_range: str

    @property
    def namespace(self) -> str:
        """Name of its network namespace and of its cgroup."""
        return f"{PREFIX}-{self.name}"


NODES = (
    Node(name="node0", address="10.99.0.1", pod_range="10.98.0.0/24"),
    Node(name="node1", address="10.99.0.2", pod_range="10.98.1.0/24"),
)
CONTROL_PLANE = NODES[0]
API_SERVER = f"https://{CONTROL_PLANE.address}:{API_PORT}"


def _cluster_folder() -> Path:
    folder = Path(os.environ.get("SHARDWISE_CLUSTER_DIR", "/var/tmp/shardwise-cluster")).resolve()
    if any(folder.is_relative_to(private) for private in _PRIVATE_FOLDERS) or len(folder.parts) < 3:
        raise ClusterError(
            f"SHARDWISE_CLUSTER_DIR: {folder} can't hold a cluster; take a folder like /var/tmp/cluster."
        )
    return folder


@dataclass(frozen=True)
class Folders:
    """Where a cluster keeps its files; all of it goes with `down`."""

    root: Path = field(default_factory=_cluster_folder)

    @property
    def certificates(self) -> Path:
        """The CA's and everybody's keys and certificates."""
        return self.root / "pki"

    @property
    def kubeconfigs(self) -> Path:
        """One file for each identity that talks to the API server."""
        return self.root / "kubeconfigs"

    @property
    def admin_kubeconfig(self) -> Path:
        """The file that people and tests use."""
        return self.kubeconfigs / "admin.yaml"

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.root / "logs"

    @property
    def programs(self) -> Path:
        """Links to the built programs, under the names that they are started by."""
        return self.root / "bin"

    @property
    def audit_policy(self) -> Path:
        """What the API server writes down: a copy, as nodes don't see every folder of the machine."""
        return self.root / "audit.yaml"

    @property
    def audit_log(self) -> Path:
        """What programs in pods asked the API server for, a JSON document per line."""
        return self.logs / "audit.jsonl"

    @property
    def processes(self) -> Path:
        """The record of what was started."""
        return self.root / "processes.json"

    @property
    def marker(self) -> Path:
        """Says that this folder is a cluster's: `down` removes no other."""
        return self.root / ".shardwise-cluster"

    def node(self, node: Node) -> Path:
        """Everything one node writes."""
        return self.root / node.name


def cache_folder() -> Path:
    """Where built programs stay when a cluster goes."""
    return Path(os.environ.get("SHARDWISE_CACHE", REPOSITORY / ".cache")).resolve() / "cluster"
