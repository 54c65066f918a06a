"""The chart's parts find each other: Services and policies select the pods they mean, URLs lead to Services."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

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
def test_every_service_leads_to_a_port_of_exactly_one_kind_of_pod(program: Path, values: str) -> None:
    objects = helm.render(program, values)
    pods = pod_templates(objects).values()

    for service in (found for found in objects if found["kind"] == "Service"):
        (pod,) = (pod for pod in pods if selects(service["spec"]["selector"], pod))
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_workers_and_the_test_call_services_that_are_there(program: Path) -> None:
    objects = helm.render(program, release="prod", namespace="here")
    (container,) = one(objects, "Pod")["spec"]["containers"]
    urls = {operator_environment(objects)["SHARDWISE_PROGRESS_URL"], *(each["value"] for each in container["env"])}

    served = {
        f"http://{found['metadata']['name']}.here.svc:{port['port']}"
        for found in objects
        if found["kind"] == "Service"
        for port in found["spec"]["ports"]
    }
    assert {f"http://{urlsplit(url).netloc}" for url in urls} == served


def test_only_workers_and_replicas_report_and_nobody_reads_metrics_unasked(program: Path) -> None:
    objects = helm.render(program)
    policy = one(objects, "NetworkPolicy", "-operator")["spec"]
    operator = pod_templates(objects)["shardwise-operator"]
    progress, metrics = policy["ingress"]
    workers, replicas = progress["from"]
    (test,) = metrics["from"]

    assert selects(policy["podSelector"]["matchLabels"], operator)
    assert progress["ports"] == [{"port": 8090}]
    assert workers == {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "shardwise"}},
    }
    assert replicas == {"podSelector": policy["podSelector"]}
    assert metrics["ports"] == [{"port": 8080}]
    assert selects(test["podSelector"]["matchLabels"], one(objects, "Pod"))


def test_metrics_may_be_opened_to_some_and_then_helm_test_still_gets_in(program: Path) -> None:
    objects = helm.render(program, ALL_ON)
    _, metrics = one(objects, "NetworkPolicy", "-operator")["spec"]["ingress"]
    *given, test = metrics["from"]

    assert given == yaml.safe_load(ALL_ON)["networkPolicy"]["metricsFrom"]
    assert selects(test["podSelector"]["matchLabels"], one(objects, "Pod"))
    assert not selects(test["podSelector"]["matchLabels"], pod_templates(objects)["shardwise-kato"])


def test_the_kato_server_hears_workers_and_who_is_listed(program: Path) -> None:
    objects = helm.render(program, ALL_ON)
    policy = one(objects, "NetworkPolicy", "-kato")["spec"]
    (rule,) = policy["ingress"]

    assert selects(policy["podSelector"]["matchLabels"], pod_templates(objects)["shardwise-kato"])
    assert rule["ports"] == [{"port": 8000}]
    assert [peer["podSelector"]["matchLabels"] for peer in rule["from"]] == [
        {"app.kubernetes.io/managed-by": "shardwise"},
        {"app": "notebook"},
    ]


def test_a_prometheus_that_could_not_read_is_refused_with_the_way_out(program: Path) -> None:
    result = helm.run(program, "template", "it", CHART, values="metrics: {serviceMonitor: {enabled: true}}")

    assert result.returncode != 0
    assert "name its pods in networkPolicy.metricsFrom" in result.stderr


DNS = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
NOT_METADATA = [
    {"namespaceSelector": {}},
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}},
]
WORKERS_TOO = "networkPolicy: {egress: {workers: {enabled: true}}}"
NO_EGRESS = "{operator: {enabled: false}, katoServer: {enabled: false}}"


def workers_egress(objects: list[Object]) -> list[Object]:
    rules: list[Object] = json.loads(operator_environment(objects)["SHARDWISE_WORKER_EGRESS"])
    return rules


def test_the_operator_reaches_dns_its_replicas_and_the_api_server_alone(program: Path) -> None:
    policy = one(helm.render(program), "NetworkPolicy", "-operator")["spec"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == [
        DNS,
        {"ports": [{"port": 8090}], "to": [{"podSelector": policy["podSelector"]}]},
        {"ports": [{"port": 443}, {"port": 6443}, {"port": 8443}, {"port": 16443}]},
    ]


def test_workers_reach_dns_the_operator_the_kato_server_and_anything_but_metadata(program: Path) -> None:
    objects = helm.render(program, f"{{katoServer: {{enabled: true}}, {WORKERS_TOO}}}", namespace="here")
    dns, kato, operator, anywhere = workers_egress(objects)
    pods = pod_templates(objects)

    assert dns == DNS
    for rule, name, port in ((kato, "shardwise-kato", 8000), (operator, "shardwise-operator", 8090)):
        (peer,) = rule["to"]
        assert rule["ports"] == [{"port": port}]
        assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "here"}}
        assert [pod for pod in pods if selects(peer["podSelector"]["matchLabels"], pods[pod])] == [name]
    assert anywhere == {"to": NOT_METADATA}


def test_workers_may_be_kept_to_a_store_and_still_report(program: Path) -> None:
    rule = "{to: [{ipBlock: {cidr: 10.20.0.0/16}}], ports: [{port: 27017}]}"
    objects = helm.render(program, f"networkPolicy: {{egress: {{workers: {{enabled: true, rules: [{rule}]}}}}}}")
    dns, operator, store = workers_egress(objects)

    assert (dns, operator["ports"]) == (DNS, [{"port": 8090}])
    assert store == yaml.safe_load(rule)


@pytest.mark.parametrize(
    ("store", "rules"),
    [
        ("{uri: 'mongodb://mongo:27017'}", [DNS, {"to": NOT_METADATA}]),
        ("{secretRef: {name: mongodb, key: uri}}", [DNS, {"to": NOT_METADATA}]),
        ("{}", [DNS]),
    ],
    ids=["mongodb", "secret", "sqlite"],
)
def test_the_kato_server_reaches_its_store(program: Path, store: str, rules: list[Object]) -> None:
    objects = helm.render(program, f"katoServer: {{enabled: true, store: {store}}}")

    assert one(objects, "NetworkPolicy", "-kato")["spec"]["egress"] == rules


@pytest.mark.parametrize("values", [f"egress: {NO_EGRESS}", "enabled: false"])
def test_ways_out_may_be_left_to_other_policies(program: Path, values: str) -> None:
    objects = helm.render(program, f"{{katoServer: {{enabled: true}}, networkPolicy: {{{values}}}}}")

    assert "SHARDWISE_WORKER_EGRESS" not in operator_environment(objects)
    for policy in (found for found in objects if found["kind"] == "NetworkPolicy"):
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        assert "egress" not in policy["spec"]


def test_every_pod_asks_for_processor_time_and_memory(program: Path) -> None:
    pods = pod_templates(helm.render(program, "katoServer: {enabled: true}")).values()

    assert len(pods) == 3
    for container in (each for pod in pods for each in pod["spec"]["containers"]):
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ("operator: {replicas: 1}", False),
        ("operator: {replicas: 2}", True),
        ("podDisruptionBudget: {create: always}", True),
        ("{operator: {replicas: 2}, podDisruptionBudget: {create: never}}", False),
    ],
)
def test_a_disruption_budget_comes_with_a_second_replica(program: Path, values: str, there: bool) -> None:
    objects = helm.render(program, values)
    budgets = [found for found in objects if found["kind"] == "PodDisruptionBudget"]

    assert len(budgets) == there
    for budget in budgets:
        assert selects(budget["spec"]["selector"]["matchLabels"], pod_templates(objects)["shardwise-operator"])
        assert budget["spec"]["maxUnavailable"] == 1


def test_prometheus_and_grafana_are_asked_for(program: Path) -> None:
    kinds = {found["kind"] for found in helm.render(program)}
    objects = helm.render(program, ALL_ON)
    monitor = one(objects, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    watched = [
        found
        for found in objects
        if found["kind"] == "Service" and selects(monitor["spec"]["selector"]["matchLabels"], found)
    ]

    assert not {"ServiceMonitor", "ConfigMap"} & kinds
    assert [found["metadata"]["name"] for found in watched] == ["shardwise-metrics"]
    assert endpoint["port"] in {port["name"] for port in watched[0]["spec"]["ports"]}
    assert (endpoint["path"], endpoint["interval"]) == ("/metrics", "10s")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    dashboard = one(objects, "ConfigMap")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["shardwise.json"]) == json.loads(
        (CHART / "files/dashboards/shardwise.json").read_text(encoding="utf-8")
    )
