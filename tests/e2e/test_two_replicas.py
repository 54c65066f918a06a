"""Two operators: one leads, the other forwards what it hears, and takes over when the first is gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.installed import NAMESPACE, Installed
from tests.support import expected
from tests.support.kube import eventually
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SAMPLES = 600


@pytest.fixture
def two(shardwise: Installed) -> Iterator[Installed]:
    """Two replicas of the operator, and one again afterwards."""
    shardwise.configure(operator__replicas=2)
    yield shardwise
    shardwise.configure(operator__replicas=1)


def test_a_run_survives_its_leader_and_the_other_replica_takes_over(workspace: Workspace, two: Installed) -> None:
    run = workspace.submit("handed-on", samples=SAMPLES)
    run.until(lambda status: status.items.done > 0, what="it works")
    first = holder(two)

    two.cluster.kubectl("delete", "pod", first, "--grace-period=0", "--force")
    eventually(lambda: holder(two) not in ("", first), seconds=30, what="another replica leads")
    status = run.complete()

    assert status.result is not None
    assert status.result.digest == expected.digest_of(SAMPLES)
    assert status.items.done == SAMPLES
    assert len(run.pods("shardwise.dev/step=prepare")) == 1


def test_both_replicas_say_that_they_are_well_and_one_that_it_leads(two: Installed) -> None:
    def leaders() -> list[str]:
        names = [pod["metadata"]["name"] for pod in two.operator_pods() if "deletionTimestamp" not in pod["metadata"]]
        texts = [two.cluster.try_kubectl("get", "--raw", _metrics(name)).stdout for name in names]
        return sorted(line for text in texts for line in text.splitlines() if line.startswith("shardwise_leader "))

    eventually(lambda: leaders() == ["shardwise_leader 0.0", "shardwise_leader 1.0"], seconds=30, what="one leads")


def holder(shardwise: Installed) -> str:
    """Return the name of the pod that leads."""
    leases = shardwise.cluster.get("leases")["items"]
    return next((str(lease["spec"].get("holderIdentity", "")).rpartition("_")[0] for lease in leases), "")


def _metrics(pod: str) -> str:
    return f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics"
