"""The cluster's network: a namespace for each node, a bridge inside the first one, one link to the machine.

Bridge, firewall rules and settings live inside the namespaces and go with them. No namespace has a default route, so
nothing in the cluster can leave the machine; the machine itself gets three routes to the cluster, bound to the link.
"""

from __future__ import annotations

import ipaddress
import json
from contextlib import suppress
from pathlib import Path

from .errors import ClusterError
from .settings import CONTROL_PLANE, LAN, MACHINE_ADDRESS, NODES, POD_RANGE, PREFIX, SERVICE_RANGE, Node
from .shell import run, succeeds

_NAMESPACES = Path("/run/netns")
_MACHINE_LINK = f"{PREFIX}0"
_BRIDGE = "lan"
_PREFIX_LENGTH = ipaddress.ip_network(LAN).prefixlen
# The last two as kube-proxy wants them; they belong to the namespace. Not every kernel has each of them.
_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/ipv4/conf/all/route_localnet": "1",
}


def create() -> None:
    """Make namespaces, links, addresses and routes; raise before touching anything when a range is taken."""
    _refuse_taken_ranges()
    for node in NODES:
        run("ip", "netns", "add", node.namespace)
        _inside(node, "link", "set", "lo", "up")
        for name, value in _SETTINGS.items():
            _set(node, name, value)
    _inside(CONTROL_PLANE, "link", "add", _BRIDGE, "type", "bridge")
    _inside(CONTROL_PLANE, "addr", "add", f"{CONTROL_PLANE.address}/{_PREFIX_LENGTH}", "dev", _BRIDGE)
    _inside(CONTROL_PLANE, "link", "set", _BRIDGE, "up")
    for node in NODES:
        if node != CONTROL_PLANE:
            _plug_in(node)
    _plug_in_machine()
    for node in NODES:
        for other in NODES:
            if other != node:
                _inside(node, "route", "add", other.pod_range, "via", other.address)


def remove() -> None:
    """Remove whatever is there of it; links and routes go with the namespaces that hold them."""
    if _MACHINE_LINK in links():
        run("ip", "link", "delete", _MACHINE_LINK)
    for node in NODES:
        # A namespace half made is a plain file that `ip` can't delete.
        if namespace_path(node).exists() and not succeeds("ip", "netns", "delete", node.namespace):
            succeeds("umount", namespace_path(node))
            namespace_path(node).unlink(missing_ok=True)
    # `ip` makes this folder a mount of itself; with nobody else's namespaces in it, it can go and will come back.
    if _NAMESPACES.exists() and not any(_NAMESPACES.iterdir()):
        succeeds("umount", _NAMESPACES)
        with suppress(OSError):
            _NAMESPACES.rmdir()


def links() -> list[str]:
    """Links that the machine itself sees and that carry the cluster's name."""
    found = json.loads(run("ip", "-json", "link", "show"))
    return [link["ifname"] for link in found if str(link["ifname"]).startswith(PREFIX)]


def namespaces() -> list[str]:
    """Network namespaces that carry the cluster's name."""
    return sorted(path.name for path in _NAMESPACES.glob(f"{PREFIX}-*"))


def namespace_path(node: Node) -> Path:
    """The file that stands for a node's network namespace."""
    return _NAMESPACES / node.namespace


def _plug_in(node: Node) -> None:
    """Join a node to the bridge."""
    names = ("eth0", "netns", node.namespace, "type", "veth", "peer", "name", node.name)
    run("ip", "link", "add", *names, "netns", CONTROL_PLANE.namespace)
    _inside(CONTROL_PLANE, "link", "set", node.name, "master", _BRIDGE, "up")
    _inside(node, "addr", "add", f"{node.address}/{_PREFIX_LENGTH}", "dev", "eth0")
    _inside(node, "link", "set", "eth0", "up")


def _plug_in_machine() -> None:
    """Let the machine reach nodes, pods and Services; without its routes, answers to pods would go to its gateway."""
    run("ip", "link", "add", _MACHINE_LINK, "type", "veth", "peer", "name", "machine", "netns", CONTROL_PLANE.namespace)
    _inside(CONTROL_PLANE, "link", "set", "machine", "master", _BRIDGE, "up")
    run("ip", "addr", "add", f"{MACHINE_ADDRESS}/{_PREFIX_LENGTH}", "dev", _MACHINE_LINK)
    run("ip", "link", "set", _MACHINE_LINK, "up")
    for node in NODES:
        run("ip", "route", "add", node.pod_range, "via", node.address)
    run("ip", "route", "add", SERVICE_RANGE, "via", CONTROL_PLANE.address)


def _inside(node: Node, *command: str) -> None:
    run("ip", "-netns", node.namespace, *command)


def _set(node: Node, name: str, value: str) -> None:
    """Change a setting of the namespace; which namespace /proc/sys/net shows depends on who looks."""
    script = f"[ ! -e /proc/sys/{name} ] || echo {value} > /proc/sys/{name}"
    run("nsenter", f"--net={namespace_path(node)}", "sh", "-c", script)


def _refuse_taken_ranges() -> None:
    ours = [ipaddress.ip_network(text) for text in (LAN, POD_RANGE, SERVICE_RANGE)]
    for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
        if route["dst"] == "default" or str(route.get("dev", "")).startswith(PREFIX):
            continue
        taken = ipaddress.ip_network(route["dst"], strict=False)
        if any(taken.overlaps(range_) for range_ in ours):
            raise ClusterError(f"the machine already routes {taken}, which the cluster needs for itself")
