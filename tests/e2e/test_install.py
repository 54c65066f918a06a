"""What an administrator sees of an installation: its own test, health, numbers, and rights for one namespace only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shardwise_api.status import Phase
from tests.e2e.installed import NAMESPACE, RELEASE, Installed
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SAMPLES = 20


@pytest.fixture
def confined(shardwise: Installed, workspace: Workspace) -> Iterator[Installed]:
    """The operator with rights in the workspace only."""
    shardwise.configure(watchNamespaces=[workspace.namespace])
    yield shardwise
    shardwise.configure(watchNamespaces=[])


def test_helms_own_test_passes(shardwise: Installed) -> None:
    assert "Succeeded" in shardwise.helm_run("test", RELEASE, "--timeout=120s")


def test_the_operator_says_how_it_is_and_how_its_runs_are(workspace: Workspace, shardwise: Installed) -> None:
    run = workspace.submit("numbers", samples=SAMPLES)
    run.complete()
    pod = f"/api/v1/namespaces/{NAMESPACE}/pods/{shardwise.operator_pods()[0]['metadata']['name']}:8080/proxy"

    health = shardwise.cluster.kubectl("get", "--raw", f"{pod}/healthz")
    numbers = shardwise.cluster.kubectl("get", "--raw", f"{pod}/metrics").splitlines()

    labels = f'kind="TrainingRun",name="numbers",namespace="{workspace.namespace}"'
    assert '"ok": true' in health
    assert f'shardwise_run_items{{{labels},state="done"}} {SAMPLES}.0' in [_sorted(line) for line in numbers]
    assert any(line.startswith("shardwise_leader 1") for line in numbers)


def test_an_operator_for_one_namespace_works_there_and_nowhere_else(
    confined: Installed, workspace: Workspace, cluster_corner: Workspace
) -> None:
    inside = workspace.submit("inside", samples=SAMPLES)
    outside = cluster_corner.submit("outside", samples=SAMPLES)

    assert inside.complete().items.done == SAMPLES
    assert outside.status.phase is Phase.PENDING
    assert outside.pods() == []
    bindings = str(confined.cluster.get("clusterrolebindings")["items"])
    assert f"{NAMESPACE}" in bindings, "the token reviews need a cluster's role"
    account = f"system:serviceaccount:{NAMESPACE}:{confined.operator_pods()[0]['spec']['serviceAccountName']}"
    answer = confined.cluster.try_kubectl(
        "auth", "can-i", "create", "jobs", f"--as={account}", f"--namespace={cluster_corner.namespace}"
    )
    assert answer.stdout.strip() == "no"


def _sorted(line: str) -> str:
    name, brace, rest = line.partition("{")
    if not brace:
        return line
    labels, _, value = rest.partition("} ")
    parts = dict(part.split("=", 1) for part in labels.split(","))
    state = parts.pop("state", None)
    ordered = [f"{key}={parts[key]}" for key in sorted(parts)] + ([f"state={state}"] if state else [])
    return f"{name}{{{','.join(ordered)}}} {value}"
