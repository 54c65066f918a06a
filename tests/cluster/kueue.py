"""Kueue in the test cluster: built from its Go module, with the manifests that the module brings.

It judges the Jobs of namespaces that ask for it by a label, and no others; its certificate is there before its pod, as
one that it makes for itself reaches the pod up to two minutes late.
"""

from __future__ import annotations

import base64
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from . import builds, certificates, images, lifecycle
from .kubectl import kubectl
from .settings import CONTROL_PLANE, KUEUE_VERSION, Folders, cache_folder
from .shell import run, say

NAMESPACE = "kueue-system"
DEPLOYMENT = "kueue-controller-manager"
CONFIGURATION = "kueue-manager-config"
CONFIGURATION_KEY = "controller_manager_config.yaml"
LABEL = "shardwise.test/kueue"
"""Of namespaces whose Jobs Kueue is asked about; any value."""
_IMAGE = f"shardwise.test/kueue:{KUEUE_VERSION}"
_SERVICE = "kueue-webhook-service"
_SECRET = "kueue-webhook-server-cert"
_KEPT = frozenset({"mjob.kb.io", "vjob.kb.io"})

Document = dict[str, Any]


def build() -> None:
    """Build Kueue and render its manifests, once; tens of minutes where nothing is compiled yet."""
    with _alone():
        builds.ensure((builds.KUEUE,))
        if not _rendered().exists():
            _render()


@contextmanager
def _alone() -> Iterator[None]:
    """Have whoever needs it wait for whoever builds it already."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / ".kueue.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _render() -> None:
    go = builds.go_program()
    run(go, "mod", "download", "sigs.k8s.io/kueue", folder=builds.KUEUE.sources, timeout=600)
    module = run(go, "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kueue", folder=builds.KUEUE.sources).strip()
    text = run("kubectl", "kustomize", f"{module}/config/default")
    unfinished = _rendered().with_suffix(".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.rename(_rendered())


def deploy(folders: Folders) -> None:
    """Bring Kueue into the running cluster and wait until it answers; what is there already stays."""
    if DEPLOYMENT not in kubectl(folders, "get", "deployments", f"--namespace={NAMESPACE}", "--output=name"):
        # With a certificate of its own each time: a pod that is there would go on with the last one.
        _apply(folders)
    kubectl(
        folders, "rollout", "status", f"deployment/{DEPLOYMENT}", f"--namespace={NAMESPACE}", "--timeout=120s",
        timeout=150,
    )  # fmt: skip
    say(f"Kueue {KUEUE_VERSION} is up; label a namespace {LABEL}=yes to have its Jobs queued")


def _apply(folders: Folders) -> None:
    build()
    archive = folders.root / "images" / "kueue.tar"
    # No user database in it: the pod's user is a number.
    image = images.Image(tags=(_IMAGE,), files={"manager": builds.KUEUE.built.read_bytes()}, command=("/manager",))
    images.write(archive, image)
    lifecycle.load(folders, [archive], node_names=[CONTROL_PLANE.name])
    archive.unlink()
    authority, certificate, key = certificates.issued(
        name=_SERVICE, hosts=(f"{_SERVICE}.{NAMESPACE}.svc", f"{_SERVICE}.{NAMESPACE}.svc.cluster.local")
    )
    documents = list(_fitted(authority=authority, certificate=certificate, key=key))
    path = folders.root / "kueue.yaml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    path.chmod(0o600)
    # Server-side: the definitions are too long for the annotation of a client-side apply.
    kubectl(folders, "apply", "--server-side", "--force-conflicts", f"--filename={path}")
    path.unlink()


def _rendered() -> Path:
    return cache_folder() / f"manifests-of-kueue-{KUEUE_VERSION}.yaml"


def _fitted(*, authority: bytes, certificate: bytes, key: bytes) -> Iterator[Document]:
    bundle = base64.b64encode(authority).decode()
    for document in yaml.safe_load_all(_rendered().read_text(encoding="utf-8")):
        if not document:
            continue
        match document["kind"]:
            case "APIService":
                # An aggregated API that isn't up stops the deletion of every namespace.
                continue
            case "CustomResourceDefinition":
                conversion = document["spec"].get("conversion", {})
                if "webhook" in conversion:
                    conversion["webhook"]["clientConfig"]["caBundle"] = bundle
            case "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration":
                document["webhooks"] = list(_webhooks(document["webhooks"], bundle=bundle))
            case "Secret" if document["metadata"]["name"] == _SECRET:
                pair = {"tls.crt": certificate, "tls.key": key}
                document["data"] = {name: base64.b64encode(content).decode() for name, content in pair.items()}
            case "ConfigMap" if document["metadata"]["name"] == CONFIGURATION:
                configuration = yaml.safe_load(document["data"][CONFIGURATION_KEY])
                configuration["internalCertManagement"] = {"enable": False}
                configuration["integrations"] = {"frameworks": ["batch/job"]}
                document["data"] = {CONFIGURATION_KEY: yaml.safe_dump(configuration)}
            case "Deployment":
                _fit_pod(document["spec"]["template"]["spec"])
        yield document


def _webhooks(webhooks: list[Document], *, bundle: str) -> Iterator[Document]:
    for webhook in webhooks:
        own = any("kueue.x-k8s.io" in rule.get("apiGroups", ()) for rule in webhook["rules"])
        if not own and webhook["name"] not in _KEPT:
            continue
        webhook["clientConfig"]["caBundle"] = bundle
        if not own:
            webhook["namespaceSelector"] = {"matchExpressions": [{"key": LABEL, "operator": "Exists"}]}
        yield webhook


def _fit_pod(pod: Document) -> None:
    pod["nodeSelector"] = {"kubernetes.io/hostname": CONTROL_PLANE.name}
    pod["securityContext"]["runAsUser"] = 65532
    (container,) = pod["containers"]
    container["image"] = _IMAGE
    container["imagePullPolicy"] = "IfNotPresent"
    container["resources"] = {"requests": {"cpu": "50m", "memory": "128Mi"}}
    container["args"] = [*container["args"], "--feature-gates=VisibilityOnDemand=false"]
    # Whoever brings a certificate brings the metrics' one too.
    container["volumeMounts"].append({"name": "cert", "mountPath": "/etc/kueue/metrics/certs", "readOnly": True})
    container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}


def configured(text: str, changes: Document) -> str:
    """Return Kueue's configuration with other top-level settings."""
    return json.dumps(yaml.safe_load(text) | changes)
