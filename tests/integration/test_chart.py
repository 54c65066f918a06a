"""What the chart renders from good values, its definitions included, and that it refuses bad ones by name.

Whether an API server takes it is asked in e2e.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from shardwise_api import crdgen
from shardwise_api.runs import KINDS
from tests.support import helm
from tests.support.helm import CHART, CLUSTER_SCOPED, MATRIX, Object, every_way

# Building Helm for the first time takes minutes.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def program() -> Path:
    return helm.find()


@every_way
def test_helm_finds_nothing_to_complain_about(program: Path, values: str) -> None:
    result = helm.run(program, "lint", "--strict", CHART, values=values)

    assert result.returncode == 0, result.stdout + result.stderr


@every_way
def test_nothing_is_rendered_twice_and_everything_is_labelled(program: Path, values: str) -> None:
    objects = helm.render(program, values, namespace="here")
    keys = [(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in objects]

    assert len(keys) == len(set(keys))
    watched = (yaml.safe_load(values) or {}).get("watchNamespaces", [])
    for found in objects:
        assert found["metadata"]["labels"]["app.kubernetes.io/part-of"] == "shardwise"
        namespace = found["metadata"].get("namespace")
        if found["kind"] in CLUSTER_SCOPED:
            assert namespace is None
        else:
            assert namespace in ["here", *(watched if found["kind"] in {"Role", "RoleBinding"} else [])]


# The definitions


def definitions(objects: list[Object]) -> list[Object]:
    return [found for found in objects if found["kind"] == "CustomResourceDefinition"]


def test_the_definitions_are_rendered_as_generated(program: Path) -> None:
    rendered = {found["metadata"].pop("name"): found for found in definitions(helm.render(program))}

    assert rendered.keys() == {f"{model.plural}.shardwise.dev" for model in KINDS.values()}
    for model in KINDS.values():
        generated = crdgen.definition(model)
        assert rendered[generated["metadata"]["name"]]["spec"] == generated["spec"]


@pytest.mark.parametrize(
    ("values", "kept"), [("", True), ("crds: {keep: false}", False), ("crds: {install: false}", None)]
)
def test_the_definitions_stay_when_the_release_goes_unless_told_otherwise(
    program: Path, values: str, kept: bool | None
) -> None:
    found = definitions(helm.render(program, values))

    assert len(found) == (0 if kept is None else len(KINDS))
    for definition in found:
        annotations = definition["metadata"].get("annotations", {})
        assert (annotations.get("helm.sh/resource-policy") == "keep") is kept


# Bad values


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ("operator: {replica: 2}", "replica"),
        ("surprise: 1", "surprise"),
        ("operator: {replicas: 0}", "/operator/replicas"),
        ("operator: {replicas: two}", "/operator/replicas"),
        ("operator: {logLevel: LOUD}", "/operator/logLevel"),
        ("operator: {image: {digest: abc}}", "/operator/image/digest"),
        ("operator: {image: {repository: ''}}", "/operator/image/repository"),
        ("operator: {image: {tag: latest}}", "operator.image.tag"),
        ("worker: {image: {tag: latest}}", "worker.image.tag"),
        ("worker: {image: {pullPolicy: Sometimes}}", "/worker/image/pullPolicy"),
        ("operator: {resources: {limit: {memory: 1Gi}}}", "/operator/resources"),
        ("operator: {extraEnv: [{value: '1'}]}", "/operator/extraEnv/0"),
        ("operator: {extraEnv: [{name: POD_IP, value: '1'}]}", "operator.extraEnv: POD_IP"),
        ("operator: {extraEnv: [{name: SHARDWISE_LEASE, value: x}]}", "operator.extraEnv: SHARDWISE_LEASE"),
        ("operator: {podLabels: {app.kubernetes.io/name: x}}", "operator.podLabels: app.kubernetes.io/name"),
        ("watchNamespaces: team-a", "/watchNamespaces"),
        ("watchNamespaces: [Team_A]", "/watchNamespaces/0"),
        ("watchNamespaces: [a, a]", "/watchNamespaces"),
        ("serviceAccount: {create: false}", "serviceAccount.name"),
        ("podDisruptionBudget: {create: maybe}", "/podDisruptionBudget/create"),
        ("podDisruptionBudget: {maxUnavailable: half}", "/podDisruptionBudget/maxUnavailable"),
        ("metrics: {serviceMonitor: {interval: often}}", "/metrics/serviceMonitor/interval"),
        ("katoServer: {store: {uri: 'mongodb://me:secret@mongodb:27017'}}", "/katoServer/store/uri"),
        ("katoServer: {store: {uri: 'sqlite:////etc/patterns.db'}}", "/katoServer/store/uri"),
        ("katoServer: {enabled: true, store: {secretRef: {name: mongodb}}}", "katoServer.store.secretRef"),
        ("katoServer: {settings: {SESSION_TTL: 1}}", "/katoServer/settings/SESSION_TTL"),
        ("katoServer: {settings: {LOG_LEVEL: LOUD}}", "/katoServer/settings/LOG_LEVEL"),
    ],
)
def test_a_bad_value_is_refused_by_name(program: Path, values: str, field: str) -> None:
    result = helm.run(program, "template", "shardwise", CHART, values=values)

    assert result.returncode != 0
    assert field in result.stderr


def test_a_longer_release_name_stays_within_what_names_may_be(program: Path) -> None:
    for found in helm.render(program, MATRIX["all-on"], release="r" * 53):
        longest = 253 if found["kind"] in CLUSTER_SCOPED else 63
        assert len(found["metadata"]["name"]) <= longest
        assert all(len(str(value)) <= 63 for value in found["metadata"]["labels"].values())
