"""A Kubernetes without machines: a real control plane, with nodes and pods that KWOK plays, for a thousand shards.

It needs no root, listens on loopback ports of its own, keeps all its files in one temporary folder, and has nothing in
common with the two-node cluster but the built programs. Whoever starts it may be killed at any moment: the kernel then
ends its processes, and a helper at the other end of a pipe removes the folder.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import httpx

from tests.support.leash import leashed

from . import builds, certificates, components, kubeconfigs
from .components import Component
from .errors import ClusterError
from .settings import CONTROL_PLANE, SERVICE_RANGE, SOURCES, Folders

PROGRAMS = (builds.HYPERKUBE, builds.ETCD, builds.KWOK)
NODES = 4
PODS_PER_NODE = 1_000
_START_SECONDS = 120.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.1
# The defaults make a Job of a thousand pods wait for its own controller's client, and the measurement one of that.
_CLIENT_RATE = ("--kube-api-qps=1000", "--kube-api-burst=2000")
_TAIL_BYTES = 4_000
# Reads until whoever holds the other end is gone, then takes the folder away; what still writes there is being killed.
_REMOVER = 'trap "" INT TERM HUP; read -r _; rm -rf "$1" || { sleep 1; rm -rf "$1"; }'

Document = dict[str, Any]


@dataclass(kw_only=True)
class FakeNodes:
    """The control plane while it runs."""

    folders: Folders
    server: str
    client: httpx.Client
    """As cluster administrator; its base URL is the API server's."""
    _processes: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folders.admin_kubeconfig

    def call(self, method: str, path: str, body: Document | None = None) -> Document:
        """Return the API server's answer; raise ClusterError with its words when it refuses."""
        answer = self.client.request(method, path, json=body)
        if not answer.is_success:
            raise ClusterError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()  # type: ignore[no-any-return]

    def raise_if_dead(self) -> None:
        """Raise with the end of its log when a component has ended."""
        for name, process in self._processes:
            if process.poll() is not None:
                raise ClusterError(f"{name} has ended with {process.returncode}:\n{self._tail(name)}")

    def wait(self, what: str, done: Callable[[], bool], *, seconds: float = _START_SECONDS) -> None:
        """Wait until something is so, and for no component that has ended."""
        deadline = time.monotonic() + seconds
        while not done():
            self.raise_if_dead()
            if time.monotonic() > deadline:
                raise ClusterError(f"{what}: not within {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)

    def _start(self, chosen: Sequence[Component]) -> None:
        for component in chosen:
            with (self.folders.logs / f"{component.name}.log").open("wb") as log:
                process = subprocess.Popen(
                    leashed(*map(str, component.command)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Nothing of the starter's: a proxy set there would come between them.
                    env={"PATH": os.environ["PATH"], "HOME": str(self.folders.root)},
                )
            self._processes.append((component.name, process))
        self.wait(", ".join(one.name for one in chosen), lambda: all(map(components.healthy, chosen)))

    def _stop(self) -> None:
        # Backwards: nobody should complain that whom it talks to is gone.
        for _, process in reversed(self._processes):
            process.kill()
            process.wait(_STOP_SECONDS)

    def _tail(self, name: str) -> str:
        return (self.folders.logs / f"{name}.log").read_bytes()[-_TAIL_BYTES:].decode(errors="replace")


@contextmanager
def fake_nodes() -> Iterator[FakeNodes]:
    """Start a control plane with fake nodes that are Ready, and remove all of it at the end.

    Call it in the main thread: the kernel ends the processes with the thread that started them.

    Raises:
        ClusterError: a program can't be built, or did not come up.
    """
    builds.ensure(PROGRAMS)
    with _folder() as root:
        folders = Folders(root)
        folders.logs.mkdir()
        ports = _Ports.free()
        server = f"https://127.0.0.1:{ports.api_server}"
        certificates.create(folders)
        kubeconfigs.create(folders, server=server)
        components.link_programs(folders)
        with _client(folders, server) as client:
            here = FakeNodes(folders=folders, server=server, client=client)
            try:
                here._start([_etcd(folders, ports)])
                here._start([_api_server(folders, ports)])
                here._start([_controller_manager(folders, ports), _scheduler(folders, ports), _kwok(folders, ports)])
                _make_nodes(here)
                yield here
            finally:
                here._stop()


@contextmanager
def _folder() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="shardwise-fake-"))
    with subprocess.Popen(
        ["sh", "-c", _REMOVER, "sh", str(root)], stdin=subprocess.PIPE, start_new_session=True
    ) as remover:
        # At the end of the block its input is closed, and it is waited for.
        yield root
        assert remover.stdin is not None


@dataclass(frozen=True, kw_only=True)
class _Ports:
    etcd: int
    etcd_peer: int
    etcd_health: int
    api_server: int
    controller_manager: int
    scheduler: int
    kwok: int

    @classmethod
    def free(cls) -> _Ports:
        names = [one.name for one in fields(cls)]
        return cls(**dict(zip(names, free_ports(len(names)), strict=True)))


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody listened on just now."""
    # All held at once, so that they differ.
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _client(folders: Folders, server: str) -> httpx.Client:
    pki = folders.certificates
    context = ssl.create_default_context(cafile=pki / "ca.crt")
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    # No proxy of the environment: all of it is on loopback.
    return httpx.Client(base_url=server, verify=context, trust_env=False, timeout=30)


def _make_nodes(here: FakeNodes) -> None:
    for number in range(NODES):
        name = f"fake{number}"
        size = {"cpu": "1k", "memory": "1Ti", "pods": str(PODS_PER_NODE)}
        here.call(
            "POST",
            "/api/v1/nodes",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "status": {"capacity": size, "allocatable": size},
            },
        )
    here.wait("the fake nodes", lambda: len(_ready(here)) == NODES)
    # A pod is refused until its namespace's account is there.
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    here.wait("the default service account", lambda: here.client.get(account).is_success)


def _ready(here: FakeNodes) -> list[str]:
    return [
        node["metadata"]["name"]
        for node in here.call("GET", "/api/v1/nodes")["items"]
        if not node["spec"].get("taints")
        and any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions", ()))
    ]


def _etcd(folders: Folders, ports: _Ports) -> Component:
    pki = folders.certificates
    url = f"https://127.0.0.1:{ports.etcd}"
    command: tuple[str | Path, ...] = (
        folders.programs / "etcd",
        f"--data-dir={folders.root}/etcd",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls=http://127.0.0.1:{ports.etcd_peer}",
        f"--listen-metrics-urls=http://127.0.0.1:{ports.etcd_health}",
        f"--cert-file={pki}/etcd.crt",
        f"--key-file={pki}/etcd.key",
        f"--trusted-ca-file={pki}/ca.crt",
        "--client-cert-auth",
        # It lives no longer than its starter: no need to wait for the disk.
        "--unsafe-no-fsync",
    )
    return _component("etcd", command, health=f"http://127.0.0.1:{ports.etcd_health}/health")


def _api_server(folders: Folders, ports: _Ports) -> Component:
    pki = folders.certificates
    command: tuple[str | Path, ...] = (
        folders.programs / "kube-apiserver",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        # Loopback can't be an endpoint, and no pod is there that would call it.
        "--endpoint-reconciler-type=none",
        f"--secure-port={ports.api_server}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--etcd-servers=https://127.0.0.1:{ports.etcd}",
        f"--etcd-cafile={pki}/ca.crt",
        f"--etcd-certfile={pki}/apiserver-etcd-client.crt",
        f"--etcd-keyfile={pki}/apiserver-etcd-client.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/service-accounts.key",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        "--authorization-mode=RBAC",
        f"--audit-policy-file={SOURCES / 'fake-audit.yaml'}",
        f"--audit-log-path={folders.audit_log}",
        # One file: whoever reads it wants all of it.
        "--audit-log-maxsize=500",
    )
    return _component("kube-apiserver", command, health=f"https://127.0.0.1:{ports.api_server}/readyz")


def _controller_manager(folders: Folders, ports: _Ports) -> Component:
    command: tuple[str | Path, ...] = (
        folders.programs / "kube-controller-manager",
        *_identity(folders, "controller-manager"),
        f"--secure-port={ports.controller_manager}",
        f"--root-ca-file={folders.certificates}/ca.crt",
        f"--service-account-private-key-file={folders.certificates}/service-accounts.key",
        "--use-service-account-credentials=true",
        "--concurrent-job-syncs=10",
        # KWOK may be late for minutes with their heartbeats on a busy machine, and pods of lost nodes are deleted.
        "--node-monitor-grace-period=30m",
    )
    health = f"https://127.0.0.1:{ports.controller_manager}/healthz"
    return _component("kube-controller-manager", command, health=health)


def _scheduler(folders: Folders, ports: _Ports) -> Component:
    command: tuple[str | Path, ...] = (
        folders.programs / "kube-scheduler",
        *_identity(folders, "scheduler"),
        f"--secure-port={ports.scheduler}",
    )
    return _component("kube-scheduler", command, health=f"https://127.0.0.1:{ports.scheduler}/healthz")


def _kwok(folders: Folders, ports: _Ports) -> Component:
    command: tuple[str | Path, ...] = (
        builds.KWOK.built,
        f"--kubeconfig={folders.admin_kubeconfig}",
        f"--config={SOURCES / 'kwok.yaml'}",
        f"--server-address=127.0.0.1:{ports.kwok}",
    )
    return _component("kwok", command, health=f"http://127.0.0.1:{ports.kwok}/healthz")


def _identity(folders: Folders, client: str) -> tuple[str, ...]:
    path = folders.kubeconfigs / f"{client}.yaml"
    options = ("--kubeconfig", "--authentication-kubeconfig", "--authorization-kubeconfig")
    return (
        *(f"{option}={path}" for option in options), "--bind-address=127.0.0.1", "--leader-elect=false", *_CLIENT_RATE,
    )  # fmt: skip


def _component(name: str, command: tuple[str | Path, ...], *, health: str) -> Component:
    return Component(name=name, node=CONTROL_PLANE, command=command, health=health)
