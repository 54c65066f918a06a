"""What tests look at again and again, asked of the API server itself: to start kubectl takes a tenth of a second."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml

_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "/api/v1": {
        "pods": ("pod",),
        "configmaps": ("configmap",),
        "serviceaccounts": ("serviceaccount",),
        "events": (),
    },
    "/apis/batch/v1": {"jobs": ("job",)},
    "/apis/networking.k8s.io/v1": {"networkpolicies": ()},
    "/apis/shardwise.dev/v1alpha1": {"trainingruns": ("trun",), "ingestruns": ("irun",)},
    "/apis/kueue.x-k8s.io/v1beta2": {"workloads": ()},
}
_PATHS = {
    word: (group, plural)
    for group, kinds in _GROUPS.items()
    for plural, others in kinds.items()
    for word in (plural, *others)
}
_SELECTORS = {"--selector": "labelSelector", "--field-selector": "fieldSelector"}


class NoAnswer(Exception):
    """The API server did not answer, or was too busy to."""


class Refused(Exception):
    """It answered that it won't, or that there is no such thing."""


def read(kubeconfig: Path, *, namespace: str, words: Sequence[str]) -> Any:
    """Return what `kubectl get WORDS` does; None where kubectl is needed for it.

    Raises:
        NoAnswer: ask again.
        Refused: an answer that is none.
    """
    kinds, *rest = words
    names = [word for word in rest if not word.startswith("--")]
    options = [word.partition("=") for word in rest if word.startswith("--")]
    paths = [_PATHS.get(kind) for kind in kinds.split(",")]
    # By its text: a cluster that is made anew has other certificates.
    client = _client(kubeconfig.read_text(encoding="utf-8"))
    if client is None or None in paths or len(names) > 1 or any(option not in _SELECTORS for option, _, _ in options):
        return None
    selected = {_SELECTORS[option]: value for option, _, value in options}
    found = []
    for group, plural in (path for path in paths if path is not None):
        path = "/".join((group, "namespaces", namespace, plural, *names))
        found.append(_answer(client, path, selected))
    return found[0] if len(found) == 1 else {"items": [item for one in found for item in one["items"]]}


def _answer(client: httpx.Client, path: str, selected: dict[str, str]) -> Any:
    try:
        answer = client.get(path, params=selected)
    except httpx.TransportError as error:
        raise NoAnswer(str(error)) from error
    if answer.is_success:
        return answer.json()
    if answer.status_code == 429 or answer.is_server_error:
        raise NoAnswer(answer.text)
    raise Refused(answer.text)


@cache
def _client(kubeconfig: str) -> httpx.Client | None:
    """Return a client as the kubeconfig's user, None where it logs in otherwise than with a certificate in it."""
    content = yaml.safe_load(kubeconfig)
    context = next(one["context"] for one in content["contexts"] if one["name"] == content["current-context"])
    cluster = next(one["cluster"] for one in content["clusters"] if one["name"] == context["cluster"])
    user = next(one["user"] for one in content["users"] if one["name"] == context["user"])
    if "client-certificate-data" not in user or "certificate-authority-data" not in cluster:
        return None
    trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "pair.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(
            b"\n".join(base64.b64decode(user[key]) for key in ("client-certificate-data", "client-key-data"))
        )
        trust.load_cert_chain(pair)
    # No proxy of the environment: kubectl gets none either.
    return httpx.Client(base_url=cluster["server"], verify=trust, trust_env=False, timeout=30)
