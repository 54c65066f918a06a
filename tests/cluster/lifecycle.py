"""Brings the cluster up, tells how it is, removes it; each can be done again from wherever the last one broke."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import (
    builds,
    certificates,
    cgroups,
    components,
    images,
    kubeconfigs,
    network,
    nodes,
    packages,
    processes,
    traces,
)
from .components import Component
from .errors import ClusterError
from .kubectl import kubectl, ready_nodes
from .settings import NODES, PREFIX, SOURCES, Folders
from .shell import say, succeeds

_START_SECONDS = 120.0
_POLL_SECONDS = 0.1


@contextmanager
def alone() -> Iterator[None]:
    """Keep a second start or removal from coming between the steps of this one; the name goes with the process."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0{PREFIX}-cluster")
        except OSError as error:
            raise ClusterError("another `up` or `down` is under way on this machine") from error
        yield


def up(folders: Folders) -> None:
    """Bring the cluster up; one that is up and well stays as it is, anything else is removed first."""
    _require_root()
    packages.ensure()
    builds.ensure()
    if not problems(folders):
        say("the cluster is up already")
        return
    started = time.monotonic()
    if traces.found(folders):
        say("removing what an earlier start left")
        down(folders)
    _lay_out(folders)
    archives = images.create(folders)
    network.create()
    cgroups.create()
    for node in NODES:
        nodes.start(folders, node)
    _report(started, "network and namespaces")
    _start(folders, components.first(folders))
    _wait(folders, "the container runtimes", lambda: all(components.containerd_ready(folders, node) for node in NODES))
    for node in NODES:
        load(folders, archives, node_names=[node.name])
    _report(started, "container runtimes with their images")
    _wait(folders, "the API server", lambda: all(map(components.healthy, components.first(folders))))
    _report(started, "etcd and API server")
    _start(folders, components.second(folders))
    kubectl(folders, "apply", f"--filename={SOURCES / 'manifests'}")
    names = {node.name for node in NODES}
    _wait(folders, "the nodes", lambda: ready_nodes(folders) == names)
    _report(started, "nodes")
    _wait(folders, "CoreDNS", lambda: _dns_ready(folders))
    _report(started, "DNS")
    _wait(folders, "every component", lambda: not problems(folders))
    say(f"the cluster is up after {time.monotonic() - started:.1f} s; export KUBECONFIG={folders.admin_kubeconfig}")


def down(folders: Folders) -> None:
    """Remove the cluster to the last trace; what is gone already is no error."""
    _require_root()
    if shutil.which("ip") is None:
        return
    if folders.root.exists() and not folders.marker.exists() and any(folders.root.iterdir()):
        raise ClusterError(f"{folders.root} was not made by a cluster: it stays as it is")
    processes.stop_all(folders)
    network.remove()
    cgroups.remove()
    for point in traces.mounts(folders):
        succeeds("umount", "--lazy", point)
    # Deleting through a mount would delete what it shows.
    if traces.mounts(folders):
        raise ClusterError(f"still mounted below {folders.root}: {', '.join(map(str, traces.mounts(folders)))}")
    if folders.root.exists():
        shutil.rmtree(folders.root)
    if left := traces.found(folders):
        raise ClusterError(f"not removed: {', '.join(left)}")


def problems(folders: Folders) -> list[str]:
    """Say in words what is wrong; an empty list is a cluster that is well."""
    recorded = processes.recorded(folders)
    expected = [*components.first(folders), *components.second(folders)]
    known = {process.name for process in recorded}
    if not recorded:
        return ["the cluster is down"]
    dead = [
        f"{process.name} has ended; the end of {process.log}:\n{process.tail()}"
        for process in recorded
        if not process.alive
    ]
    if dead:
        return dead
    missing = [f"{component.name} was never started" for component in expected if component.name not in known]
    ill = [f"{component.name} is not healthy" for component in expected if not components.healthy(component)]
    if missing or ill:
        return [*missing, *ill]
    unready = sorted({node.name for node in NODES} - ready_nodes(folders))
    return [f"{name} is not Ready" for name in unready]


def load(folders: Folders, archives: Iterable[Path], *, node_names: Iterable[str] | None = None) -> None:
    """Import image archives into the nodes: no registry is there to pull from."""
    names = {node.name for node in NODES} if node_names is None else set(node_names)
    for node in NODES:
        if node.name in names:
            for archive in archives:
                images.load(nodes.enter(folders, node), archive.resolve())


def _lay_out(folders: Folders) -> None:
    folders.root.mkdir(parents=True, mode=0o755, exist_ok=True)
    folders.marker.touch()
    folders.logs.mkdir()
    shutil.copyfile(SOURCES / "audit.yaml", folders.audit_policy)
    certificates.create(folders)
    kubeconfigs.create(folders)
    components.link_programs(folders)
    for node in NODES:
        nodes.write_configuration(folders, node)


def _start(folders: Folders, chosen: Iterable[Component]) -> None:
    for component in chosen:
        processes.start(folders, component.name, [*nodes.enter(folders, component.node), *component.command])


def _wait(folders: Folders, what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not done():
        processes.raise_if_dead(folders)
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not ready within {_START_SECONDS:.0f} s; the logs are in {folders.logs}")
        time.sleep(_POLL_SECONDS)


def _dns_ready(folders: Folders) -> bool:
    ready = "--output=jsonpath={.status.readyReplicas}"
    return kubectl(folders, "--namespace=kube-system", "get", "deployment/coredns", ready).strip() == "1"


def _report(started: float, what: str) -> None:
    say(f"  {time.monotonic() - started:5.1f} s  {what}")


def _require_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError("namespaces, links and cgroups are root's to make: start it as root, or use `make kind-up`")
