"""The cluster that everything else is tested on: it schedules, connects and judges as a Kubernetes should."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import images, packages
from tests.cluster.settings import MACHINE_ADDRESS
from tests.e2e.conftest import manage
from tests.support.kube import BUSYBOX, Cluster, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

REPOSITORY = Path(__file__).parents[2]
_EXAMPLE = REPOSITORY / "examples" / "kato-pydocs.yaml"
# Set aside for documentation (RFC 5737): nobody answers there, wherever a packet to it may go.
_OUTSIDE = "203.0.113.1"


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> list[str]:
    return sorted(node["metadata"]["name"] for node in cluster.get("nodes")["items"])


@pytest.fixture(scope="module")
def pods(cluster: Cluster, nodes: list[str]) -> Iterator[Cluster]:
    """A namespace with a web server and its Service on each node."""
    with cluster.own_namespace("pods") as corner:
        for node in nodes:
            corner.apply(_web_server(node), _service(node))
        corner.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s")
        yield corner


def test_two_nodes_are_ready(cluster: Cluster) -> None:
    ready = {
        node["metadata"]["name"]: {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"]
        for node in cluster.get("nodes")["items"]
    }

    assert len(ready) == 2
    assert set(ready.values()) == {"True"}


def test_pods_reach_each_other_by_address_on_every_node(pods: Cluster, nodes: list[str]) -> None:
    addresses = {node: pods.get("pod", f"web-{node}")["status"]["podIP"] for node in nodes}

    for here in nodes:
        for there in nodes:
            assert _fetch(pods, here, f"{addresses[there]}:8080") == there


def test_pods_reach_each_other_by_the_name_of_a_service(pods: Cluster, nodes: list[str]) -> None:
    for here in nodes:
        for there in nodes:
            name = f"service-{there}.{pods.namespace}.svc.cluster.local"
            eventually(partial(_fetch, pods, here, name, check=False), what=name)
            assert _fetch(pods, here, name) == there
            assert _fetch(pods, here, f"service-{there}") == there


def test_logs_and_exec_work_on_every_node(pods: Cluster, nodes: list[str]) -> None:
    for node in nodes:
        assert pods.kubectl("logs", f"web-{node}") == f"serving on {node}\n"
        assert pods.kubectl("exec", f"web-{node}", "--", "cat", "/tmp/www/index.html") == f"{node}\n"


def test_pods_have_no_way_out(own_cluster: Cluster, pods: Cluster, nodes: list[str]) -> None:
    for node in nodes:
        refused = pods.try_kubectl("exec", f"web-{node}", "--", "nc", "-w", "3", _OUTSIDE, "80")
        assert refused.returncode != 0
        assert "unreachable" in refused.stderr
        unknown = pods.try_kubectl("exec", f"web-{node}", "--", "nslookup", "example.org")
        assert unknown.returncode != 0


def test_pods_reach_what_the_machine_offers_them(own_cluster: Cluster, pods: Cluster, nodes: list[str]) -> None:
    with ThreadingHTTPServer((MACHINE_ADDRESS, 0), _Greeting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers = [_fetch(pods, node, f"{MACHINE_ADDRESS}:{server.server_port}") for node in nodes]
        server.shutdown()

    assert answers == ["from the machine"] * len(nodes)


def test_an_image_of_ours_runs_once_loaded(own_cluster: Cluster, nodes: list[str], tmp_path: Path) -> None:
    tag = "shardwise.test/loaded:1"
    busybox = packages.busybox().read_bytes()
    image = images.Image(tags=(tag,), files={"bin/busybox": busybox}, command=("/bin/busybox", "echo", "loaded"))
    manage("load", images.write(tmp_path / "loaded.tar", image))

    with own_cluster.own_namespace("loaded") as corner:
        for node in nodes:
            container = {"name": "loaded", "image": tag, "imagePullPolicy": "Never"}
            corner.apply(_pod(f"loaded-{node}", nodeName=node, restartPolicy="Never", containers=[container]))
            corner.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/loaded-{node}", "--timeout=120s")
        said = [corner.kubectl("logs", f"loaded-{node}") for node in nodes]

    assert said == ["loaded\n"] * len(nodes)


def test_an_indexed_job_completes_over_both_nodes(cluster: Cluster, nodes: list[str]) -> None:
    with cluster.own_namespace("job") as corner:
        corner.apply(_indexed_job(4))
        corner.kubectl("wait", "--for=condition=Complete", "job/indexed", "--timeout=120s")

        status = corner.get("job", "indexed")["status"]
        ran = corner.get("pods")["items"]
        said = {corner.kubectl("logs", pod["metadata"]["name"]).strip() for pod in ran}

    assert (status["succeeded"], status["completedIndexes"]) == (4, "0-3")
    assert sorted({pod["spec"]["nodeName"] for pod in ran}) == nodes
    assert said == {"index 0", "index 1", "index 2", "index 3"}


@pytest.fixture(scope="module")
def runs(cluster: Cluster) -> Iterator[Cluster]:
    """A namespace where the project's kinds are known."""
    cluster.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
    cluster.kubectl("wait", "--for=condition=Established", f"--filename={REPOSITORY / 'crds'}", "--timeout=30s")
    with cluster.own_namespace("runs") as corner:
        yield corner
        for plural in ("trainingruns", "ingestruns"):
            corner.kubectl("delete", f"{plural}.shardwise.dev", "--all")
    # The definitions stay: other tests' runs would go with them, and in somebody else's cluster theirs.


def test_the_example_is_accepted_and_found_by_its_short_name(runs: Cluster) -> None:
    runs.kubectl("apply", "--server-side", f"--filename={_EXAMPLE}")

    assert runs.get("trun", "pydocs")["spec"]["engine"]["kato"]["knowledgeBase"] == "pydocs"


def test_a_bad_manifest_is_refused_with_the_field_and_the_reason(runs: Cluster) -> None:
    refusal = _refusal(runs, name="idle-workers", parallelism=5)

    assert "spec.sharding.parallelism" in refusal
    assert "parallelism must not exceed shards: more workers than shards would have nothing to do" in refusal


def test_a_change_of_what_is_immutable_is_refused(runs: Cluster) -> None:
    runs.kubectl("apply", "--server-side", f"--filename={_EXAMPLE}")

    assert "of sharding only parallelism may change" in _refusal(runs, name="pydocs", shards=8)


class _Greeting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from the machine")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing among the tests' own words."""


def _refusal(corner: Cluster, *, name: str, **sharding: int) -> str:
    manifest = copy.deepcopy(yaml.safe_load(_EXAMPLE.read_text()))
    manifest["metadata"]["name"] = name
    manifest["spec"]["sharding"].update(sharding)
    refused = corner.try_kubectl("apply", "--server-side", "--filename=-", given=yaml.safe_dump(manifest))
    assert refused.returncode != 0
    return refused.stderr


def _fetch(corner: Cluster, node: str, address: str, *, check: bool = True) -> str:
    # Debian's static busybox crashes over its own -T.
    fetch = ("timeout", "5", "wget", "-q", "-O-", f"http://{address}/")
    result = corner.try_kubectl("exec", f"web-{node}", "--", *fetch)
    assert not check or result.returncode == 0, result.stderr
    return result.stdout.strip()


def _web_server(node: str) -> dict[str, Any]:
    script = f"mkdir /tmp/www; echo {node} > /tmp/www/index.html; echo serving on {node}; httpd -f -p 8080 -h /tmp/www"
    container = {
        "name": "web",
        "image": BUSYBOX,
        "command": ["sh", "-c", script],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    # As strict as the operator's own pods will be.
    strict = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return _pod(
        f"web-{node}",
        labels={"web": node},
        nodeName=node,
        securityContext=strict,
        terminationGracePeriodSeconds=0,
        containers=[container],
    )


def _pod(name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def _service(node: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"service-{node}"},
        "spec": {"selector": {"web": node}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def _indexed_job(completions: int) -> dict[str, Any]:
    pod = {
        "restartPolicy": "Never",
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"job": "indexed"}},
            }
        ],
        "containers": [
            {"name": "worker", "image": BUSYBOX, "command": ["sh", "-c", "echo index $JOB_COMPLETION_INDEX"]},
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "indexed"},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": completions,
            "template": {"metadata": {"labels": {"job": "indexed"}}, "spec": pod},
        },
    }
