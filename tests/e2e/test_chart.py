"""A real API server takes the chart, admits its pods as restricted, and grants what it should."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support import helm
from tests.support.dry_run import DEFINITIONS, apply_definitions, as_pods, ask, in_namespace, restricted_namespace
from tests.support.helm import CHART, every_way
from tests.support.kube import Cluster, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

NO_OPERATOR = ("--set=operator.image.repository=nowhere.test/operator", "--set=operator.image.pullPolicy=Never")
HELMS_MARKS = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace", "helm.sh/resource-policy")


@pytest.fixture(scope="module")
def program() -> Path:
    return helm.find()


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> Iterator[Cluster]:
    with restricted_namespace(cluster) as corner:
        yield corner


@pytest.fixture(scope="module")
def with_definitions(cluster: Cluster) -> None:
    apply_definitions(cluster)


# What is rendered


@every_way
def test_the_api_server_takes_every_object(program: Path, restricted: Cluster, values: str) -> None:
    rendered = helm.render(program, values, release="dry", namespace=restricted.namespace)
    # The Prometheus operator's kind isn't there; integration looks at it.
    objects = [found for found in rendered if found["kind"] not in {"ServiceMonitor", "Pod"}]

    result = ask(restricted, in_namespace(objects, restricted.namespace))

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(objects)


@every_way
def test_a_restricted_namespace_admits_every_pod(program: Path, restricted: Cluster, values: str) -> None:
    rendered = helm.render(program, values, release="dry", namespace=restricted.namespace)
    pods = as_pods(rendered, restricted.namespace)

    result = ask(restricted, pods)

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(pods) >= 2


def test_it_would_not_admit_a_pod_that_is_less_restricted(program: Path, restricted: Cluster) -> None:
    (pod, *_) = as_pods(helm.render(program, namespace=restricted.namespace), restricted.namespace)
    del pod["spec"]["securityContext"]["seccompProfile"]

    result = ask(restricted, [pod])

    assert "violates PodSecurity" in result.stderr


# What is installed


def release_of(corner: Cluster) -> str:
    """A release's name that nobody else in the cluster has."""
    return f"chart-{corner.namespace.rpartition('-')[2]}"


def call(program: Path, corner: Cluster, *arguments: str | Path, values: str | None = None) -> str:
    """Run Helm on the corner's namespace, which must go well."""
    result = helm.run(
        program, *arguments, f"--namespace={corner.namespace}", values=values, kubeconfig=corner.kubeconfig
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@contextmanager
def installed(program: Path, corner: Cluster, *options: str, values: str) -> Iterator[str]:
    """A release of the chart, which goes again. Its pods never start: another operator may be at work here."""
    release = release_of(corner)
    call(program, corner, "install", release, CHART, *options, *NO_OPERATOR, values=values)
    try:
        yield release
    finally:
        call(program, corner, "uninstall", release)


@pytest.fixture(scope="module")
def namespaced(program: Path, cluster: Cluster, with_definitions: None) -> Iterator[tuple[Cluster, Cluster, str]]:
    """The operator's namespace, the one that it watches, and its release."""
    with cluster.own_namespace("chart") as corner, cluster.own_namespace("watched") as watched:
        values = f"{{crds: {{install: false}}, watchNamespaces: [{watched.namespace}]}}"
        with installed(program, corner, values=values) as release:
            yield corner, watched, release


def may(corner: Cluster, account: str, verb: str, resource: str, *, subresource: str = "") -> bool:
    """Whether the API server grants this in the corner's namespace."""
    result = corner.try_kubectl("auth", "can-i", verb, resource, f"--subresource={subresource}", f"--as={account}")
    assert result.stdout.strip() in {"yes", "no"}, result.stderr
    return result.stdout.strip() == "yes"


def test_the_api_server_grants_the_operator_its_work_where_it_watches(
    namespaced: tuple[Cluster, Cluster, str],
) -> None:
    corner, watched, release = namespaced
    account = f"system:serviceaccount:{corner.namespace}:{release}-shardwise-operator"

    for verb, resource in [
        ("watch", "trainingruns.shardwise.dev"),
        ("create", "jobs.batch"),
        ("patch", "networkpolicies.networking.k8s.io"),
        ("create", "events.events.k8s.io"),
    ]:
        assert may(watched, account, verb, resource), (verb, resource)
        assert not may(corner, account, verb, resource), (verb, resource)
    assert may(watched, account, "update", "trainingruns.shardwise.dev", subresource="status")
    assert may(corner, account, "create", "tokenreviews.authentication.k8s.io")
    assert may(corner, account, "update", f"leases.coordination.k8s.io/{release}-shardwise-operator")


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "trainingruns.shardwise.dev"),
        ("update", "trainingruns.shardwise.dev"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("update", "leases.coordination.k8s.io/other"),
        ("impersonate", "users"),
    ],
)
def test_and_nothing_that_could_be_misused(namespaced: tuple[Cluster, Cluster, str], verb: str, resource: str) -> None:
    corner, watched, release = namespaced
    account = f"system:serviceaccount:{corner.namespace}:{release}-shardwise-operator"

    assert not may(corner, account, verb, resource)
    assert not may(watched, account, verb, resource)


@pytest.mark.parametrize(("role", "edits"), [("view", False), ("edit", True)])
def test_who_may_view_or_edit_a_namespace_may_do_so_with_its_runs(
    namespaced: tuple[Cluster, Cluster, str], role: str, edits: bool
) -> None:
    _, watched, _ = namespaced
    person = f"{role}er"
    watched.kubectl("create", "rolebinding", person, f"--clusterrole={role}", f"--user={person}")

    # A controller puts aggregated roles together.
    eventually(partial(may, watched, person, "list", "trainingruns.shardwise.dev"), what=f"{role} sees runs")
    if edits:
        eventually(partial(may, watched, person, "create", "ingestruns.shardwise.dev"), what=f"{role} makes runs")
    else:
        assert not may(watched, person, "create", "ingestruns.shardwise.dev")
    assert may(watched, person, "get", "trainingruns.shardwise.dev", subresource="status")
    assert not may(watched, person, "update", "trainingruns.shardwise.dev", subresource="status")


def test_the_notes_tell_the_next_command_and_what_is_missing(program: Path, cluster: Cluster) -> None:
    values = """
crds: {install: false}
watchNamespaces: [default, nowhere-to-be-found]
imagePullSecrets: [lost]
networkPolicy: {enabled: false}
katoServer: {enabled: true, store: {secretRef: {name: forgotten, key: uri}}}
"""
    corner = Cluster(kubeconfig=cluster.kubeconfig, own=cluster.own)
    notes = call(program, corner, "install", "notes", CHART, "--dry-run=server", values=values).partition("NOTES:")[2]

    assert "kubectl --namespace default get trainingruns --watch" in notes
    assert "http://notes-shardwise-kato.default.svc:8000" in notes
    warnings = [line for line in notes.splitlines() if line.startswith("WARNING")]
    for word in ("nowhere-to-be-found", "lost", "networkPolicy.enabled", "forgotten"):
        assert sum(word in warning for warning in warnings) == 1, notes
    assert not any("namespace default" in warning for warning in warnings)


def test_a_release_takes_definitions_over_upgrades_and_leaves_them_when_it_goes(
    program: Path, cluster: Cluster, with_definitions: None
) -> None:
    def marks(definition: Path) -> dict[str, str]:
        metadata = cluster.get(f"--filename={definition}")["metadata"]
        return {key: value for key, value in metadata.get("annotations", {}).items() if key in HELMS_MARKS}

    values = "{rbac: {aggregatedRoles: false}, watchNamespaces: [default]}"
    with cluster.own_namespace("chart") as corner, marks_put_back(cluster):
        refused = helm.run(
            program,
            *("install", release_of(corner), CHART, f"--namespace={corner.namespace}"),
            values=values,
            kubeconfig=corner.kubeconfig,
        )
        assert "invalid ownership metadata" in refused.stderr
        with installed(program, corner, "--take-ownership", values=values) as release:
            assert all(marks(definition)["meta.helm.sh/release-name"] == release for definition in DEFINITIONS)
            call(program, corner, "upgrade", release, CHART, "--reuse-values", values="operator: {replicas: 2}")
            replicas = corner.get("deployment", f"{release}-shardwise-operator")["spec"]["replicas"]
            assert replicas == 2
        assert not corner.get("deployments")["items"]
        assert all(marks(definition)["helm.sh/resource-policy"] == "keep" for definition in DEFINITIONS)


@contextmanager
def marks_put_back(cluster: Cluster) -> Iterator[None]:
    """Whoever owned the definitions before, nobody or a release, owns them again."""
    before = {definition: cluster.get(f"--filename={definition}")["metadata"] for definition in DEFINITIONS}
    try:
        yield
    finally:
        for definition, old in before.items():
            new = cluster.get(f"--filename={definition}")["metadata"]
            for command, part in (("annotate", "annotations"), ("label", "labels")):
                had, has = old.get(part, {}), new.get(part, {})
                words = [f"{key}={value}" for key, value in had.items()] + [f"{key}-" for key in has if key not in had]
                if words:
                    cluster.kubectl(command, "--overwrite", f"--filename={definition}", *words)


class _Ready(BaseHTTPRequestHandler):
    """Answers as an operator that is ready, or not."""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        self.send_response(self.server.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    status = 200


@contextmanager
def operator(status: int) -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Ready) as server:
        server.status = status
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "path", "code", "told"),
    [
        (200, "/readyz", 0, "the operator is ready"),
        (503, "/readyz", 1, "503"),
        (200, "/elsewhere", 1, "404"),
    ],
)
def test_helm_test_sees_whether_the_kinds_are_served_and_the_operator_is_ready(
    program: Path,
    cluster: Cluster,
    with_definitions: None,
    tmp_path: Path,
    status: int,
    path: str,
    code: int,
    told: str,
) -> None:
    rendered = helm.render(program)
    (container,) = next(found for found in rendered if found["kind"] == "Pod")["spec"]["containers"]
    python, *command = container["command"]
    config = cluster.kubectl("config", "view", "--minify", "--raw", "--output=json")
    server = yaml.safe_load(config)["clusters"][0]["cluster"]["server"]
    with cluster.own_namespace("chart") as corner, operator(status) as url:
        # An account without any rights, as the chart makes it.
        corner.kubectl("create", "serviceaccount", "test")
        (tmp_path / "token").write_text(corner.kubectl("create", "token", "test"), encoding="utf-8")
        made = ("get", "configmap", "kube-root-ca.crt", "--ignore-not-found", "--output=name")
        eventually(lambda: corner.kubectl(*made), what="its namespace has the authority's certificate")
        authority = corner.get("configmap", "kube-root-ca.crt")["data"]["ca.crt"]
        (tmp_path / "ca.crt").write_text(authority, encoding="utf-8")
        result = subprocess.run(
            [sys.executable, *command],
            env={
                "KUBERNETES_SERVICE_HOST": str(urlsplit(server).hostname),
                "KUBERNETES_SERVICE_PORT": str(urlsplit(server).port or 443),
                "SERVICE_ACCOUNT": str(tmp_path),
                "READY_URL": f"{url}{path}",
                "PATIENCE_SECONDS": "0",
            },
            capture_output=True,
            text=True,
            check=False,
        )

    assert python == "python"
    assert result.returncode == code, result.stdout + result.stderr
    assert told in result.stdout
