"""A node dies with everything on it and its Node object is deleted, as a cloud does: the run ends all the same."""

from __future__ import annotations

import os
import signal

import pytest

from tests.cluster import processes
from tests.cluster.settings import Folders
from tests.support import expected
from tests.support.kube import Cluster
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.loses_node, pytest.mark.timeout(600)]

SAMPLES = 1200


def test_the_run_ends_with_the_same_digest_when_a_node_is_lost_for_good(
    own_cluster: Cluster, workspace: Workspace
) -> None:
    run = workspace.submit("lost-node", samples=SAMPLES)
    run.until(lambda status: status.items.done > 0, what="it works")
    on_node1 = [pod for pod in run.pods("shardwise.dev/step=work") if pod["spec"].get("nodeName") == "node1"]

    _kill_everything_on("node1")
    own_cluster.kubectl("delete", "node", "node1")
    status = run.complete(seconds=500)

    assert on_node1, "no worker was on the node that was lost"
    assert status.result is not None
    assert status.result.digest == expected.digest_of(SAMPLES)
    assert status.items.done == SAMPLES


def _kill_everything_on(node: str) -> None:
    # The first process of the node's namespace takes all others along, containers included.
    first = next(process for process in processes.recorded(Folders()) if process.name == f"{node}-init")
    os.kill(first.pid, signal.SIGKILL)
