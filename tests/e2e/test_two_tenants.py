"""Two tenants under the chart's own rights: who may do anything in one namespace changes nothing in the other's."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from shardwise_api.status import ConditionType
from tests.e2e.installed import Installed
from tests.support.expected import digest_of
from tests.support.kube import BUSYBOX, eventually
from tests.support.workspace import DATA, Submitted, Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MALLORY = "mallory"
FORGED = {"digest": "sha256:" + "0" * 64, "uri": "https://evil.example/model", "summary": {"guarantee": "forged"}}
MESSAGE = "shardwise.dev/termination-message"
HUGE = 2**31 - 1


@pytest.fixture
def mallory(cluster_corner: Workspace, workspace: Workspace) -> Workspace:
    """The namespace in which somebody may do what Kubernetes' role `edit` allows; in the victim's, look."""
    for corner, role in ((cluster_corner, "edit"), (workspace, "view")):
        corner.cluster.kubectl("create", "rolebinding", MALLORY, f"--clusterrole={role}", f"--user={MALLORY}")
    return cluster_corner


def as_mallory(workspace: Workspace, *objects: dict[str, Any]) -> None:
    workspace.cluster.kubectl("apply", f"--as={MALLORY}", "--filename=-", given=yaml.safe_dump_all(objects))


def forged(name: str, victim: Submitted, *, step: str, command: str, completions: int = 1) -> dict[str, Any]:
    """Return a Job that says of itself that it is a step of somebody's run."""
    metadata = victim.body["metadata"]
    labels = {"shardwise.dev/run-uid": metadata["uid"], "shardwise.dev/run": victim.name, "shardwise.dev/step": step}
    container = {
        "name": "worker",
        "image": BUSYBOX,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", command],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    owner = {
        "apiVersion": "shardwise.dev/v1alpha1", "kind": "TrainingRun", "name": victim.name, "uid": metadata["uid"],
        "controller": True,
    }  # fmt: skip
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {MESSAGE: json.dumps(FORGED)},
            "ownerReferences": [owner] if step == "prepare" else [],
        },
        "spec": {
            "completions": completions,
            "parallelism": 1,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            # The huge one need not run to be counted.
            "suspend": completions > 1,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "containers": [container],
                    "terminationGracePeriodSeconds": 1,
                },
            },
        },
    }


def restarts(shardwise: Installed) -> list[tuple[str, int]]:
    return [
        (pod["metadata"]["uid"], status["restartCount"])
        for pod in shardwise.operator_pods()
        for status in pod["status"].get("containerStatuses", ())
    ]


def test_jobs_of_another_namespace_are_nobody_s(workspace: Workspace, mallory: Workspace, shardwise: Installed) -> None:
    before = restarts(shardwise)
    victim = workspace.submit("victim", samples=200)
    victim.until(lambda status: status.start_time is not None, what="it is accepted")
    say = f"echo '{json.dumps(FORGED)}' > /dev/termination-log"
    as_mallory(
        mallory,
        forged("says-it-is-done", victim, step="finalize", command=say),
        forged("says-it-failed", victim, step="work", command="exit 2"),
        forged("says-what-to-do", victim, step="prepare", command=say),
        forged("says-it-is-many", victim, step="work", command="true", completions=HUGE),
    )
    eventually(
        lambda: all(
            job["status"].get("conditions")
            for job in mallory.cluster.get("jobs")["items"]
            if job["metadata"]["name"] != "says-what-to-do"
        ),
        seconds=120,
        what="the forged Jobs have ended",
    )

    status = victim.complete()

    assert status.result is not None
    assert status.result.digest == digest_of(200)
    assert status.items.total == 200
    assert status.failures == []
    assert restarts(shardwise) == before


def test_numbers_of_a_run_cost_its_author_alone(workspace: Workspace, mallory: Workspace, shardwise: Installed) -> None:
    before = restarts(shardwise)
    manifest = mallory.manifest("bomb")
    (mallory.folder / "tree").mkdir()
    (mallory.folder / "tree" / "train_ok.py").write_text("print('hello')\n")
    manifest["spec"] = {
        "output": manifest["spec"]["output"],
        "worker": manifest["spec"]["worker"],
        "engine": {
            "scripts": {
                "source": f"{DATA}/tree",
                "podOverrides": [{"ids": ["train_ok"], "resources": {"limits": {"memory": "1Gi"}}}],
            }
        },
    }
    bomb = mallory.apply(manifest)
    eventually(lambda: mallory.cluster.try_kubectl("get", "job", "bomb-prepare").returncode == 0, what="a prepare Job")
    # Before its own worker has said anything: who may edit Jobs says it for it.
    message = json.dumps({"itemsTotal": 2_000_000_000, "inputFingerprint": "x", "parts": ["0"]})
    mallory.cluster.kubectl(f"--as={MALLORY}", "annotate", "job", "bomb-prepare", "--overwrite", f"{MESSAGE}={message}")
    victim = workspace.submit("beside", samples=100)

    failed = bomb.finish().condition(ConditionType.FAILED)
    status = victim.complete()

    assert failed is not None
    assert failed.reason == "InvalidResult"
    assert "itemsTotal" in (failed.message or "")
    assert status.result is not None
    assert status.result.digest == digest_of(100)
    assert restarts(shardwise) == before
