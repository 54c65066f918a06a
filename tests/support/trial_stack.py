"""Parts of examples/stack as pods that really run, with images of the tests in the place of the public ones.

What stands in for a language model is the tests' Ollama: its code goes as a ConfigMap to the worker's image, which has
what it needs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from tests.support.helm import REPOSITORY
from tests.support.kube import Cluster
from tests.support.ollama.hand import OllamaServer
from tests.support.workspace import Workspace

STACK = REPOSITORY / "examples" / "stack"
_CODE = Path(__file__).parent / "ollama"
_PORT = 11434


@dataclass(frozen=True, kw_only=True)
class TrialStack:
    """A PostgreSQL and a language model's server in a namespace, as its pods and this process reach them."""

    store: str
    """The database's URI from here, for our own cluster's pods can be reached from its machine."""
    llm: OllamaServer
    llm_url: str
    """As pods reach it."""


@contextmanager
def trial_stack(workspace: Workspace, *, images: Mapping[str, str]) -> Iterator[TrialStack]:
    """Have PostgreSQL and Ollama run in a workspace, with Secret `postgresql` as the stack's script makes it."""
    cluster = workspace.cluster
    with ExitStack() as stack:
        for claim in ("data-postgresql-0", "ollama"):
            stack.enter_context(workspace.volume(claim))
        secret = make_secrets(cluster)["postgresql"]
        cluster.apply(
            *_objects("postgresql", image=images["postgresql"]),
            _code(),
            *map(_with_code, _objects("ollama", image=images["worker"])),
        )
        for name in ("statefulset/postgresql", "deployment/ollama"):
            cluster.kubectl("rollout", "status", name, "--timeout=110s")
        host = urlsplit(secret["uri"]).hostname or ""
        url = f"http://{_address(cluster, 'ollama')}:{_PORT}"
        http = stack.enter_context(httpx.Client(base_url=url, timeout=60, trust_env=False))
        yield TrialStack(
            store=secret["uri"].replace(host, _address(cluster, "postgresql")),
            llm=OllamaServer(url=url, http=http),
            llm_url=f"http://ollama.{workspace.namespace}.svc:{_PORT}",
        )


def make_secrets(corner: Cluster) -> dict[str, dict[str, str]]:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"KUBECONFIG": str(corner.kubeconfig), "NAMESPACE": corner.namespace}
    subprocess.run([STACK / "secrets.sh"], env=environment, check=True, capture_output=True)
    template = "{{range .data}}{{. | base64decode}}\n{{end}}"
    found = {}
    for name in ("mongodb", "postgresql"):
        password, uri = corner.kubectl("get", "secret", name, f"--output=go-template={template}").split()
        found[name] = {"password": password, "uri": uri}
    return found


def _objects(name: str, *, image: str) -> list[dict[str, Any]]:
    found = list(yaml.safe_load_all((STACK / f"{name}.yaml").read_text(encoding="utf-8")))
    for one in found:
        if "template" in one["spec"]:
            (container,) = one["spec"]["template"]["spec"]["containers"]
            container["image"] = image
    return found


def _code() -> dict[str, Any]:
    files = {path.name: path.read_text(encoding="utf-8") for path in _CODE.glob("*.py")}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ollama-code"}, "data": files}


def _with_code(one: dict[str, Any]) -> dict[str, Any]:
    if one["kind"] == "Deployment":
        pod = one["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        container["command"] = ["python", "-m", "ollama", "--host=0.0.0.0", f"--port={_PORT}"]
        container["env"].append({"name": "PYTHONPATH", "value": "/code"})
        container["volumeMounts"].append({"name": "code", "mountPath": "/code/ollama"})
        pod["volumes"].append({"name": "code", "configMap": {"name": "ollama-code"}})
    return one


def _address(cluster: Cluster, name: str) -> str:
    (pod,) = cluster.get("pods", f"--selector=app.kubernetes.io/name={name}")["items"]
    address: str = pod["status"]["podIP"]
    return address
