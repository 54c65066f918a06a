"""The chart's pods: restricted, configured by the values, and a KATO server with the store it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support import helm
from tests.support.helm import ALL_ON, CHART, Object, every_way, one, operator_environment, pod_templates, selects

# Building Helm for the first time takes minutes.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def program() -> Path:
    return helm.find()


@every_way
def test_every_pod_is_restricted_and_has_a_read_only_root(program: Path, values: str) -> None:
    pods = pod_templates(helm.render(program, values))
    assert {"shardwise-operator", "shardwise-test"} <= pods.keys()

    for pod in pods.values():
        context = pod["spec"]["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, 65532, 65532)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@every_way
def test_only_who_calls_the_api_server_gets_a_token(program: Path, values: str) -> None:
    pods = pod_templates(helm.render(program, values))

    with_token = {name for name, pod in pods.items() if pod["spec"]["automountServiceAccountToken"]}
    assert with_token == {"shardwise-operator", "shardwise-test"}


@every_way
def test_no_service_of_the_namespace_writes_into_an_operator_environment(program: Path, values: str) -> None:
    # The Service shardwise-progress would: SHARDWISE_PROGRESS_PORT=tcp://…
    for pod in pod_templates(helm.render(program, values)).values():
        assert pod["spec"]["enableServiceLinks"] is False


def test_the_operators_environment_is_complete(program: Path) -> None:
    found = operator_environment(helm.render(program, namespace="here"))

    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    assert found == {
        "SHARDWISE_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "POD_NAME": {"fieldRef": {"fieldPath": "metadata.name"}},
        "POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}},
        "SHARDWISE_WATCH_NAMESPACES": "",
        "SHARDWISE_WORKER_IMAGE": f"shardwise/worker:{version}",
        "SHARDWISE_IMAGE_PULL_POLICY": "IfNotPresent",
        "SHARDWISE_IMAGE_PULL_SECRETS": "",
        "SHARDWISE_PROGRESS_URL": "http://shardwise-progress.here.svc:8090/v1/progress",
        "SHARDWISE_LEASE": "shardwise-operator",
        "SHARDWISE_LOG_LEVEL": "INFO",
    }


def test_values_reach_the_operators_operator_environment(program: Path) -> None:
    found = operator_environment(helm.render(program, ALL_ON, release="prod", namespace="here"))

    assert found["SHARDWISE_WATCH_NAMESPACES"] == "team-a,team-b"
    assert found["SHARDWISE_URI_SCHEMES"] == "sftp,zip"
    assert found["SHARDWISE_WORKER_IMAGE"] == "shardwise/worker:1.2.3"
    assert found["SHARDWISE_IMAGE_PULL_POLICY"] == "Always"
    assert found["SHARDWISE_IMAGE_PULL_SECRETS"] == "one,two"
    assert found["SHARDWISE_PROGRESS_URL"] == "http://prod-shardwise-progress.here.svc:8090/v1/progress"
    assert found["SHARDWISE_LEASE"] == "prod-shardwise-operator"
    assert found["SHARDWISE_LOG_LEVEL"] == "DEBUG"
    assert found["EXTRA"] == "1"
    assert found["NODE"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}


def test_values_reach_the_operators_pod(program: Path) -> None:
    given = yaml.safe_load(ALL_ON)
    deployment = one(helm.render(program, ALL_ON), "Deployment", "-operator")
    pod = deployment["spec"]["template"]

    assert deployment["spec"]["replicas"] == 3
    for field in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod["spec"][field] == given["operator"][field]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 60
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert given["operator"]["podAnnotations"].items() <= pod["metadata"]["annotations"].items()
    assert given["operator"]["podLabels"].items() <= pod["metadata"]["labels"].items()
    image = given["operator"]["image"]
    assert pod["spec"]["containers"][0]["image"] == f"{image['repository']}@{image['digest']}"


def test_old_and_new_operators_overlap_and_each_is_probed(program: Path) -> None:
    deployment = one(helm.render(program), "Deployment", "-operator")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 8080, "progress": 8090}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


@pytest.mark.parametrize(("replicas", "spread"), [(1, False), (2, True)])
def test_replicas_spread_over_nodes_unasked(program: Path, replicas: int, spread: bool) -> None:
    pod = one(helm.render(program, f"operator: {{replicas: {replicas}}}"), "Deployment", "-operator")["spec"][
        "template"
    ]

    assert ("topologySpreadConstraints" in pod["spec"]) is spread
    if spread:
        (constraint,) = pod["spec"]["topologySpreadConstraints"]
        assert constraint["topologyKey"] == "kubernetes.io/hostname"
        assert selects(constraint["labelSelector"]["matchLabels"], pod)


def test_ones_own_spread_is_taken_and_counts_the_operators_pods_unless_told_otherwise(program: Path) -> None:
    values = """
operator:
  topologySpreadConstraints:
    - {maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}
    - {maxSkew: 1, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: mine}}}
"""
    pod = one(helm.render(program, values), "Deployment", "-operator")["spec"]["template"]
    zone, rack = pod["spec"]["topologySpreadConstraints"]

    assert (zone["maxSkew"], zone["topologyKey"], zone["whenUnsatisfiable"]) == (2, "zone", "DoNotSchedule")
    assert zone["labelSelector"]["matchLabels"]
    assert selects(zone["labelSelector"]["matchLabels"], pod)
    assert (rack["topologyKey"], rack["labelSelector"]["matchLabels"]["app"]) == ("rack", "mine")


# The KATO server


def kato_container(program: Path, store: str) -> tuple[list[Object], Object, Object]:
    objects = helm.render(program, f"katoServer: {{enabled: true, store: {store}}}")
    pod = one(objects, "Deployment", "-kato")["spec"]["template"]["spec"]
    return objects, pod, {each["name"]: each for each in pod["containers"][0]["env"]}["STORE_URI"]


def test_there_is_no_kato_server_unless_asked_for(program: Path) -> None:
    assert not [found for found in helm.render(program) if found["metadata"]["name"].endswith("-kato")]


def test_its_store_may_be_a_secrets_uri_and_then_it_keeps_nothing(program: Path) -> None:
    objects, pod, uri = kato_container(program, "{secretRef: {name: mongodb, key: uri}}")

    assert uri == {"name": "STORE_URI", "valueFrom": {"secretKeyRef": {"name": "mongodb", "key": "uri"}}}
    assert "--store=$(STORE_URI)" in pod["containers"][0]["args"]
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp"]
    assert not [found for found in objects if found["kind"] == "PersistentVolumeClaim"]


def test_its_sqlite_file_lies_on_a_claim_that_outlives_the_release(program: Path) -> None:
    objects, pod, uri = kato_container(program, "{}")
    claim = one(objects, "PersistentVolumeClaim")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}

    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert uri["value"].startswith(f"sqlite:///{mounts['data']}/")


@pytest.mark.parametrize(
    ("persistence", "volume"),
    [
        ("{existingClaim: mine}", {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}),
        ("{enabled: false}", {"name": "data", "emptyDir": {}}),
    ],
)
def test_or_on_ones_own_claim_or_on_none(program: Path, persistence: str, volume: Object) -> None:
    objects, pod, _ = kato_container(program, f"{{persistence: {persistence}}}")

    assert volume in pod["volumes"]
    assert not [found for found in objects if found["kind"] == "PersistentVolumeClaim"]
