"""A kubeconfig for each identity, with its keys inside: one file is all that a client needs."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from .certificates import CLIENTS
from .settings import API_SERVER, PREFIX, Folders


def create(folders: Folders, *, server: str = API_SERVER) -> None:
    """Write one file for every client; `admin.yaml` is for people and tests."""
    folders.kubeconfigs.mkdir(parents=True, mode=0o700)
    authority = _inline(folders.certificates / "ca.crt")
    for client in CLIENTS:
        user = {
            "client-certificate-data": _inline(folders.certificates / f"{client.file}.crt"),
            "client-key-data": _inline(folders.certificates / f"{client.file}.key"),
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": PREFIX, "cluster": {"server": server, "certificate-authority-data": authority}},
            ],
            "users": [{"name": client.name, "user": user}],
            "contexts": [{"name": PREFIX, "context": {"cluster": PREFIX, "user": client.name}}],
            "current-context": PREFIX,
        }
        path = folders.kubeconfigs / f"{client.file}.yaml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content, sort_keys=False))


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
