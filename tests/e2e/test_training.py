"""A DiffLogic training over both nodes: ranks are lost, paused, counted anew, and the digest is that of one process."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import pytest

from shardwise_api.status import ConditionType, Phase, RunStatus
from tests.support.kube import eventually
from tests.support.trainings import alone
from tests.support.workspace import Submitted, Workspace, told

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

LIFE = {"preset": "GameOfLife", "steps": 3000, "seed": 1, "stopWhenSolved": True}
"""Right on all 512 boards after about 1,350 steps."""
LONG = {"preset": "GameOfLife", "steps": 3000, "seed": 1}
"""Several times as long as what is done to it takes."""


def train(workspace: Workspace, name: str, *, shards: int, difflogic: dict[str, Any], **spec: Any) -> Submitted:
    """Submit a training."""
    manifest = workspace.manifest(name, sharding={"shards": shards}, **spec)
    manifest["spec"]["engine"] = {"difflogic": difflogic}
    return workspace.apply(manifest)


def step_of(status: RunStatus) -> int:
    """Return the step that the status shows."""
    return int(next((metric.value for metric in status.metrics if metric.name == "step"), 0))


def beyond(status: RunStatus, *, step: int) -> bool:
    """Say whether a training has come further than a step."""
    return step_of(status) > step


@pytest.mark.beside
def test_ranks_lost_three_times_on_two_nodes_change_nothing(workspace: Workspace) -> None:
    run = train(workspace, "life", shards=4, difflogic=LONG)

    ended: set[str] = set()
    for rank, grace in ((3, "30"), (1, "0"), (0, "30")):
        # Who is lost while the others have left already, because of the last loss, is no loss.
        reached = step_of(run.until(partial(_new_gang, run, ended), what="four new ranks work"))
        run.until(partial(beyond, step=reached), what=f"it trains on from {reached}")
        ended |= {pod["metadata"]["uid"] for pod in _at_work(run)}
        _delete(run, rank=rank, grace=grace)
    nodes = {pod["spec"].get("nodeName") for pod in run.pods("shardwise.dev/step=work")}
    status = run.complete(seconds=1200)

    assert len(nodes) == 2, "its ranks were on one node"
    assert status.result is not None
    assert status.result.digest == alone(LONG)
    assert status.result.summary["solved"] is True
    assert status.checkpoint is not None
    assert status.checkpoint.step == status.result.summary["steps"]
    assert status.shards.succeeded == 4
    assert not status.failures, "what was deleted has not failed"
    made = {path.name for path in (workspace.folder / "life").iterdir()}
    assert {"parameters.npz", "circuit.txt", "circuit.png", "loss.png", "automaton.gif", "checkpoint.npz"} <= made


@pytest.mark.beside
def test_a_training_goes_on_after_a_pause_and_with_another_number_of_ranks(workspace: Workspace) -> None:
    run = train(workspace, "elastic", shards=2, difflogic=LONG)
    run.until(partial(beyond, step=0), what="it trains")

    run.patch({"suspend": True})
    run.until(lambda status: status.phase is Phase.SUSPENDED, what="suspended")
    eventually(lambda: not _at_work(run), seconds=60, what="its ranks have left")
    paused = run.status
    run.patch({"suspend": False})
    run.until(partial(beyond, step=step_of(paused)), what="it goes on")
    run.patch({"sharding": {"shards": 3}})
    run.until(lambda _: len(_at_work(run)) == 3, what="three ranks work")
    status = run.complete(seconds=1200)

    assert status.result is not None
    assert status.result.digest == alone(LONG)
    assert status.shards.total == 3
    refused = workspace.cluster.try_kubectl(
        "patch", "trun", "elastic", "--type=merge", '--patch={"spec": {"sharding": {"shards": 21}}}'
    )
    assert "more ranks than samples" in refused.stderr


def test_a_rank_that_finds_no_place_is_named(workspace: Workspace) -> None:
    manifest = workspace.manifest("crowded", sharding={"shards": 3}, startDeadlineSeconds=90)
    manifest["spec"]["engine"] = {"difflogic": LIFE}
    manifest["spec"]["worker"]["resources"] = {"requests": {"cpu": f"{_more_than_half_a_node(workspace)}m"}}
    run = workspace.apply(manifest)

    status = run.finish(seconds=240)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None, told(status)
    assert failed.reason == "StartDeadlineExceeded"
    assert re.search(r"rank \d of 3 never came", failed.message)
    assert "Insufficient cpu" in failed.message
    eventually(lambda: not _at_work(run), seconds=60, what="the ranks that came have left")


@pytest.mark.beside
def test_a_sweep_ends_with_the_first_seed_that_makes_no_error(workspace: Workspace) -> None:
    # Of these only seed 1 gets there.
    difflogic = {"preset": "GameOfLife", "steps": 3000, "sweep": {"seeds": [3, 1, 6]}}
    run = train(workspace, "sweep", shards=3, difflogic=difflogic)

    status = run.complete(seconds=400)

    assert status.result is not None
    assert status.result.digest == alone(LIFE)
    assert status.result.summary["seed"] == 1
    assert status.shards.completed_indexes == "1"


def test_seeds_of_which_none_gets_there_are_told_one_by_one(workspace: Workspace) -> None:
    difflogic = {"preset": "GameOfLifeSmall", "steps": 10, "sweep": {"seeds": [1, 2]}}
    run = train(workspace, "hopeless", shards=2, difflogic=difflogic)

    status = run.finish(seconds=120)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None
    assert failed.reason == "NoSeedConverged"
    told_of = {failure.shard: failure.reason for failure in status.failures if failure.shard is not None}
    assert told_of == {0: "NotConverged", 1: "NotConverged"}


def _new_gang(run: Submitted, ended: set[str], _status: RunStatus) -> bool:
    return len([pod for pod in _at_work(run) if pod["metadata"]["uid"] not in ended]) == 4


def _more_than_half_a_node(workspace: Workspace) -> int:
    """Return thousandths of a CPU that a node has once, and not twice."""
    nodes = workspace.cluster.get("nodes")["items"]
    (cores,) = {int(node["status"]["allocatable"]["cpu"]) for node in nodes}
    return cores * 550


def _delete(run: Submitted, *, rank: int, grace: str) -> None:
    pods = [pod for pod in _at_work(run) if _rank(pod) == rank]
    assert pods, f"no pod of rank {rank} is at work"
    force = ["--force"] if grace == "0" else []
    name = pods[0]["metadata"]["name"]
    run.cluster.kubectl("delete", "pod", name, f"--grace-period={grace}", "--wait=false", *force)


def _at_work(run: Submitted) -> list[dict[str, Any]]:
    return [
        pod
        for pod in run.pods("shardwise.dev/step=work")
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


def _rank(pod: dict[str, Any]) -> int:
    return int(json.loads(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]))
