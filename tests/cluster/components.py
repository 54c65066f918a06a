"""The programs that make a cluster: how each is started, and where it says that it is well."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import builds, certificates, nodes
from .settings import (
    API_PORT,
    API_SERVER,
    CLUSTER_DOMAIN,
    CONTROL_PLANE,
    NODES,
    SERVICE_RANGE,
    Folders,
    Node,
)
from .shell import succeeds

_HYPERKUBE_NAMES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
_ETCD = "https://127.0.0.1:2379"
_ETCD_HEALTH_PORT = 2381
_ISSUER = f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}"
# A laptop's worth of clients: the defaults make a Job of hundreds of pods wait for its own controller.
_CLIENT_RATE = ("--kube-api-qps=200", "--kube-api-burst=400")
_HEALTH_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Component:
    """One program on one node."""

    name: str
    node: Node
    command: tuple[str | Path, ...]
    health: str = ""


def link_programs(folders: Folders) -> None:
    """Lay out the programs under the names that they are started by."""
    folders.programs.mkdir()
    for name in _HYPERKUBE_NAMES:
        (folders.programs / name).symlink_to(builds.HYPERKUBE.built)
    (folders.programs / "etcd").symlink_to(builds.ETCD.built)


def first(folders: Folders) -> Iterator[Component]:
    """What needs nobody: the store, the API server that waits for it, and the container runtimes."""
    yield _etcd(folders)
    yield _api_server(folders)
    for node in NODES:
        configuration = folders.node(node) / "containerd.toml"
        yield Component(name=f"containerd-{node.name}", node=node, command=("containerd", "--config", configuration))


def second(folders: Folders) -> Iterator[Component]:
    """What needs the API server."""
    yield _controller_manager(folders)
    yield _scheduler(folders)
    for node in NODES:
        yield _kubelet(folders, node)
        yield _proxy(folders, node)


def healthy(component: Component) -> bool:
    """Ask a component how it is; one that can't be asked counts as well."""
    if not component.health:
        return True
    # Health is no secret, and some of the programs serve it under a certificate that they made for themselves.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with suppress(OSError, urllib.error.URLError), opener.open(component.health, timeout=_HEALTH_SECONDS) as answer:
        return bool(answer.status == 200)
    return False


def containerd_ready(folders: Folders, node: Node) -> bool:
    """Whether the runtime of a node answers."""
    return succeeds(*nodes.enter(folders, node), "ctr", "version")


def _etcd(folders: Folders) -> Component:
    pki = folders.certificates
    tls = (f"--cert-file={pki}/etcd.crt", f"--key-file={pki}/etcd.key", f"--trusted-ca-file={pki}/ca.crt")
    command: tuple[str | Path, ...] = (
        folders.programs / "etcd",
        f"--data-dir={folders.root}/etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        f"--listen-metrics-urls=http://{CONTROL_PLANE.address}:{_ETCD_HEALTH_PORT}",
        *tls,
        "--client-cert-auth",
        # It lives no longer than the machine: no need to wait for the disk.
        "--unsafe-no-fsync",
    )
    health = f"http://{CONTROL_PLANE.address}:{_ETCD_HEALTH_PORT}/health"
    return Component(name="etcd", node=CONTROL_PLANE, command=command, health=health)


def _api_server(folders: Folders) -> Component:
    pki = folders.certificates
    command: tuple[str | Path, ...] = (
        folders.programs / "kube-apiserver",
        f"--advertise-address={CONTROL_PLANE.address}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--etcd-servers={_ETCD}",
        f"--etcd-cafile={pki}/ca.crt",
        f"--etcd-certfile={pki}/apiserver-etcd-client.crt",
        f"--etcd-keyfile={pki}/apiserver-etcd-client.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--requestheader-client-ca-file={pki}/ca.crt",
        f"--requestheader-allowed-names={certificates.FRONT_PROXY}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer={_ISSUER}",
        f"--service-account-key-file={pki}/service-accounts.key",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        # Its own namespace has no route to Services, so webhooks are called at their endpoints.
        "--enable-aggregator-routing=true",
        f"--audit-policy-file={folders.audit_policy}",
        f"--audit-log-path={folders.audit_log}",
        # One file: whoever reads it wants all of it.
        "--audit-log-maxsize=500",
    )
    return Component(name="kube-apiserver", node=CONTROL_PLANE, command=command, health=f"{API_SERVER}/readyz")


def _controller_manager(folders: Folders) -> Component:
    command: tuple[str | Path, ...] = (
        folders.programs / "kube-controller-manager",
        *_identity(folders, "controller-manager"),
        f"--bind-address={CONTROL_PLANE.address}",
        f"--root-ca-file={folders.certificates}/ca.crt",
        f"--service-account-private-key-file={folders.certificates}/service-accounts.key",
        "--use-service-account-credentials=true",
        *_CLIENT_RATE,
    )
    health = f"https://{CONTROL_PLANE.address}:10257/healthz"
    return Component(name="kube-controller-manager", node=CONTROL_PLANE, command=command, health=health)


def _scheduler(folders: Folders) -> Component:
    command: tuple[str | Path, ...] = (
        folders.programs / "kube-scheduler",
        *_identity(folders, "scheduler"),
        f"--bind-address={CONTROL_PLANE.address}",
        *_CLIENT_RATE,
    )
    health = f"https://{CONTROL_PLANE.address}:10259/healthz"
    return Component(name="kube-scheduler", node=CONTROL_PLANE, command=command, health=health)


def _kubelet(folders: Folders, node: Node) -> Component:
    command: tuple[str | Path, ...] = (
        folders.programs / "kubelet",
        f"--config={folders.node(node)}/kubelet.yaml",
        f"--kubeconfig={folders.kubeconfigs}/kubelet-{node.name}.yaml",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    )
    return Component(
        name=f"kubelet-{node.name}", node=node, command=command, health=f"http://{node.address}:10248/healthz"
    )


def _proxy(folders: Folders, node: Node) -> Component:
    command: tuple[str | Path, ...] = (folders.programs / "kube-proxy", f"--config={folders.node(node)}/proxy.yaml")
    return Component(
        name=f"kube-proxy-{node.name}", node=node, command=command, health=f"http://{node.address}:10256/healthz"
    )


def _identity(folders: Folders, client: str) -> tuple[str, ...]:
    path = folders.kubeconfigs / f"{client}.yaml"
    options = ("--kubeconfig", "--authentication-kubeconfig", "--authorization-kubeconfig")
    # One of each: electing a leader would only cost seconds.
    return (*(f"{option}={path}" for option in options), "--leader-elect=false")
