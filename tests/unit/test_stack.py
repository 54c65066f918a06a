"""The trial stack's files agree with each other: a Secret that nobody makes is found here and not on a cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import TrainingRun
from tests.support.helm import REPOSITORY, pod_templates

STACK = REPOSITORY / "examples" / "stack"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((STACK / "kustomization.yaml").read_text(encoding="utf-8"))
OBJECTS: list[dict[str, Any]] = [
    found
    for name in KUSTOMIZATION["resources"]
    for found in yaml.safe_load_all((STACK / name).read_text(encoding="utf-8"))
]
PODS = pod_templates(OBJECTS)
SECRETS = dict(re.findall(r'^secret (\w+) "(.+)"$', (STACK / "secrets.sh").read_text(encoding="utf-8"), flags=re.M))


def secret_refs(value: Any) -> list[dict[str, str]]:
    """Every reference to a Secret's key, wherever it stands."""
    if isinstance(value, list):
        return [found for part in value for found in secret_refs(part)]
    if isinstance(value, dict):
        own = [value["secretKeyRef"]] if "secretKeyRef" in value else []
        return own + [found for part in value.values() for found in secret_refs(part)]
    return []


def test_the_kustomization_has_every_manifest_but_the_run() -> None:
    manifests = {path.name for path in STACK.glob("*.yaml")}

    assert manifests - {"kustomization.yaml", "run.yaml"} == set(KUSTOMIZATION["resources"])


def test_no_manifest_holds_a_secret() -> None:
    assert [found for found in OBJECTS if found["kind"] == "Secret"] == []


@pytest.mark.parametrize("name", PODS)
def test_an_image_says_what_it_is(name: str) -> None:
    for container in PODS[name]["spec"]["containers"]:
        _, _, tag = container["image"].partition(":")
        assert re.match(r"\d", tag), container["image"]


@pytest.mark.parametrize("name", ["mongodb", "postgresql"])
def test_a_database_takes_its_password_from_the_secret_of_its_name(name: str) -> None:
    assert secret_refs(PODS[name]) == [{"name": name, "key": "password"}]
    assert name in SECRETS


@pytest.mark.parametrize("name", ["mongodb", "postgresql"])
def test_a_secrets_uri_names_the_service_its_port_and_the_user(name: str) -> None:
    (service,) = (found for found in OBJECTS if found["kind"] == "Service" and found["metadata"]["name"] == name)
    users = [variable["value"] for variable in PODS[name]["spec"]["containers"][0]["env"] if "USER" in variable["name"]]

    host = f"{name}.$namespace.svc:{service['spec']['ports'][0]['port']}"
    assert f"{users[0]}:PASSWORD@{host}/" in SECRETS[name]


def test_the_script_makes_secrets_where_the_stack_is() -> None:
    assert f"${{NAMESPACE:-{KUSTOMIZATION['namespace']}}}" in (STACK / "secrets.sh").read_text(encoding="utf-8")


def test_the_run_reads_the_stacks_sentences_and_writes_its_store() -> None:
    run = parse_manifest((STACK / "run.yaml").read_text(encoding="utf-8"), name="run.yaml")
    assert isinstance(run, TrainingRun)
    kato = run.spec.engine.kato
    assert kato is not None
    assert kato.store is not None
    assert kato.store.secret_ref is not None
    assert kato.dataset.files is not None
    (mount,) = run.spec.worker.volume_mounts
    (volume,) = run.spec.worker.volumes
    (sentences,) = (found for found in OBJECTS if found["kind"] == "ConfigMap")

    assert kato.store.secret_ref.name in SECRETS
    assert volume["configMap"]["name"] == sentences["metadata"]["name"]
    assert [Path(uri) for uri in kato.dataset.files.uris] == [
        Path(mount["mountPath"], key) for key in sentences["data"]
    ]
