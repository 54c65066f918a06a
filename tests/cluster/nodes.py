"""Two nodes on one machine: each has its own processes, mounts and network, and writes into one folder only.

Killing a node's first process ends everything in it, and its mounts go with it: that is what makes `down` complete.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

import yaml

from . import processes
from .errors import ClusterError
from .network import namespace_path
from .packages import CNI_PROGRAMS
from .settings import CLUSTER_DOMAIN, DNS_ADDRESS, PAUSE_IMAGE, POD_RANGE, SOURCES, Folders, Node
from .shell import run, succeeds

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
_START_SECONDS = 10.0

# What kubelet wants of the whole machine. A node shows it these values in place of the real ones, which stay.
_TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def start(folders: Folders, node: Node) -> None:
    """Start a node's first process in namespaces of its own and give it its view of the file system."""
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    unshare = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    network = ("nsenter", f"--net={namespace_path(node)}")
    command = (*network, *unshare, python, "-I", SOURCES / "process_one.py")
    processes.start(folders, f"{node.name}-init", command)
    deadline = time.monotonic() + _START_SECONDS
    # Process 1 is there, and /proc is already its own, when it finds itself in it.
    while not succeeds(*enter(folders, node), "grep", "-q", "process_one", "/proc/1/cmdline"):
        processes.raise_if_dead(folders)
        if time.monotonic() > deadline:
            raise ClusterError(f"{node.name} did not start")
        time.sleep(0.05)
    run(*enter(folders, node), "sh", "-euc", _mounts(folders, node))


def enter(folders: Folders, node: Node) -> tuple[str, ...]:
    """Return the words that make a command run inside a node."""
    for process in processes.recorded(folders):
        # A number taken over by somebody else must not lead into their namespaces.
        if process.name == f"{node.name}-init" and process.alive:
            namespaces = f"/proc/{process.pid}/ns"
            network = f"--net={namespace_path(node)}"
            return ("nsenter", f"--mount={namespaces}/mnt", f"--pid={namespaces}/pid_for_children", network)
    raise ClusterError(f"{node.name} is not running: `make cluster-up` starts it")


def write_configuration(folders: Folders, node: Node) -> None:
    """Write what containerd, kubelet, kube-proxy and the network plugins of a node read."""
    folder = folders.node(node)
    for name in ("cni", "lib", "log", "sys"):
        (folder / name).mkdir(parents=True)
    (folder / "containerd.toml").write_text(_containerd(folder))
    (folder / "cni" / "10-bridge.conflist").write_text(json.dumps(_cni(node)))
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(folders, node)))
    (folder / "proxy.yaml").write_text(yaml.safe_dump(_proxy(folders, node)))


def _mounts(folders: Folders, node: Node) -> str:
    """Give a node folders of its own at the usual places; nothing of it shows outside its mount namespace."""
    folder = folders.node(node)
    lines = [f"mount --bind {shlex.quote(str(folder / name))} /var/{name}" for name in ("lib", "log")]
    for name, value in _TUNABLES.items():
        shown = folder / "sys" / name.replace("/", "-")
        shown.write_text(f"{value}\n")
        lines.append(f"[ ! -e /proc/sys/{name} ] || mount --bind {shlex.quote(str(shown))} /proc/sys/{name}")
    # Shared among the node's own processes: containers that ask for mount propagation need it.
    return "\n".join(["mount -t tmpfs -o mode=755 shardwise /run", *lines, "mount --make-rshared /"])


def _containerd(folder: Path) -> str:
    # Without the right to lower a score, asking for it fails every pod; hence restrict_oom_score_adj.
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI_PROGRAMS}"
  conf_dir = "{folder / "cni"}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


def _cni(node: Node) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        # Pods keep their own address: nothing of theirs could find its way back from outside.
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": node.pod_range}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "0.4.0", "name": "shardwise", "plugins": [bridge]}


def _kubelet(folders: Folders, node: Node) -> dict[str, object]:
    pki = folders.certificates
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzBindAddress": node.address,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        # Pods that bring their own DNS policy must not learn of the machine's resolvers.
        "resolvConf": "",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / f"serving-{node.name}.crt"),
        "tlsPrivateKeyFile": str(pki / f"serving-{node.name}.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.namespace}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Lowering a score is a right that this root may lack.
        "oomScoreAdj": 0,
        # Images come from archives, not from a registry: one that is cleaned away would be gone for good.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
    }


def _proxy(folders: Folders, node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": node.name,
        "oomScoreAdj": 0,
        "healthzBindAddress": f"{node.address}:10256",
        "nodePortAddresses": ["primary"],
        "clientConnection": {"kubeconfig": str(folders.kubeconfigs / "proxy.yaml")},
        # The connection table is the machine's: zero leaves it alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
