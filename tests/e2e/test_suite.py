"""A suite of scripts over both nodes: each comes to what it comes to here, whatever is deleted, paused or edited."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from shardwise_api.status import ConditionType, Phase, RunStatus
from tests.support import suites
from tests.support.cli import SHARDWISE
from tests.support.expected import CORPUS
from tests.support.kube import eventually
from tests.support.memory_cgroup import memory_cgroup
from tests.support.workspace import DATA, Submitted, Workspace, told

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EXAMPLES = CORPUS.parents[1]
HARD = ("ok", "flaky", "bad", "slow", "noisy", "takes_memory", "ignores_sigterm")
LIMIT = 256 << 20
"""Of a pod's memory: a worker and a script that takes little have room in it."""
TIMEOUT_SECONDS = 15


def suite(workspace: Workspace, name: str, **scripts: Any) -> dict[str, Any]:
    """Return the manifest of a suite whose tree is the folder NAME-tree of the volume."""
    manifest = workspace.manifest(name)
    worker = {**manifest["spec"]["worker"], "resources": {"limits": {"memory": str(LIMIT)}}}
    settings = {"source": f"{DATA}/{name}-tree", **scripts}
    manifest["spec"] = {"output": manifest["spec"]["output"], "worker": worker, "engine": {"scripts": settings}}
    return manifest


def planted(workspace: Workspace, name: str, *scripts: str) -> Path:
    """Put scripts into the tree of a suite, which they may write to, and return it."""
    tree = suites.plant(workspace.folder / f"{name}-tree", *scripts)
    tree.chmod(0o777)
    return tree


def summary(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return the summary on the volume."""
    (path,) = (workspace.folder / name).glob("summaries/training_summary_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def said_of(workspace: Workspace, name: str, id: str) -> dict[str, Any]:
    """Return what the summary says of a script."""
    found: dict[str, Any] = next(job for job in summary(workspace, name)["jobs"] if job["id"] == id)
    return found


def here(tree: Path, *arguments: str, within: list[str] | None = None) -> dict[str, Any]:
    """Run a suite on this machine, one script after another, and return its summary."""
    words = [
        *(within or []),
        str(SHARDWISE),
        "suite",
        "--root",
        str(tree),
        "--no-default-jobs",
        "-o",
        "json",
        *arguments,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_scripts_of_every_kind_come_to_what_they_come_to_here(workspace: Workspace, tmp_path: Path) -> None:
    planted(workspace, "hard", *HARD)
    options = {"retries": 1, "timeoutSeconds": TIMEOUT_SECONDS, "epochs": 2, "maxWorkers": 3}
    run = workspace.apply(suite(workspace, "hard", **options))
    with memory_cgroup(limit_bytes=2 * LIMIT) as within:
        limits = ("--retries", "1", "--timeout-seconds", str(TIMEOUT_SECONDS), "--epochs", "2")
        alike = here(suites.plant(tmp_path / "tree", *HARD), *limits, within=within)

    status = run.finish(seconds=600)

    cluster = summary(workspace, "hard")
    assert _outcomes(cluster) == _outcomes(alike)
    assert _outcomes(cluster)["train_takes_memory"] == ("FAILED", 137, "OOMKilled")
    assert _outcomes(cluster)["train_ignores_sigterm"] == ("TIMEOUT", 137, "Timeout")
    assert status.result is not None
    assert status.result.digest == cluster["digest"] == alike["digest"]
    failed = status.condition(ConditionType.FAILED)
    assert failed is not None, told(status)
    assert failed.reason == "MandatoryJobFailed"
    assert "train_takes_memory (OOMKilled)" in failed.message
    assert status.suite is not None
    assert (status.suite.exit_status, status.suite.counts.success, status.suite.counts.failed) == (1, 4, 3)
    assert {job.id: job.attempts for job in status.suite.jobs} == {
        job["id"]: job["attempts"] for job in alike["jobs"]
    }, "a retry more or less than here"
    nodes = {attempt["node"] for job in cluster["jobs"] for attempt in job["attempts_detail"]}
    assert len(nodes) == 2, f"all ran on {nodes}"
    shown = run.cluster.kubectl("get", "trun", "hard")
    assert "Failed" in shown
    assert any(event["reason"] == "ShardFailed" and "train_bad" in event["message"] for event in run.events())


def test_scripts_with_pods_of_their_own_are_one_suite_with_one_limit(workspace: Workspace, tmp_path: Path) -> None:
    names = ("bad", "noisy", "ok", "slow", "takes_memory")
    planted(workspace, "shaped", *names)
    roomy = {"limits": {"memory": str(2 * LIMIT)}}
    overrides = [
        {"ids": ["train_noisy", "train_slow"], "nodeSelector": {"kubernetes.io/hostname": "node1"}},
        {"ids": ["train_ok"], "resources": roomy, "nodeSelector": {"kubernetes.io/hostname": "node0"}},
    ]
    options = {"retries": 1, "epochs": 2, "maxWorkers": 2}
    run = workspace.apply(suite(workspace, "shaped", podOverrides=overrides, **options))
    with memory_cgroup(limit_bytes=2 * LIMIT) as within:
        alike = here(suites.plant(tmp_path / "tree", *names), "--retries", "1", "--epochs", "2", within=within)

    status = run.finish(seconds=600)

    found = summary(workspace, "shaped")
    assert _outcomes(found) == _outcomes(alike)
    assert status.result is not None
    assert status.result.digest == found["digest"] == alike["digest"]
    assert status.suite is not None
    assert [job.attempts for job in status.suite.jobs] == [job["attempts"] for job in alike["jobs"]]
    assert _outcomes(found)["train_takes_memory"] == ("FAILED", 137, "OOMKilled")
    nodes = {job["id"]: {attempt["node"] for attempt in job["attempts_detail"]} for job in found["jobs"]}
    assert nodes["train_noisy"] == nodes["train_slow"] == {"node1"}
    assert nodes["train_ok"] == {"node0"}
    jobs = {
        job["metadata"]["name"]: job["spec"]["template"]["spec"]["containers"][0]["resources"]
        for job in workspace.cluster.get("jobs", "--selector=shardwise.dev/step=work")["items"]
    }
    own = {"limits": {"memory": str(LIMIT)}}
    assert jobs == {"shaped": own, "shaped-work-1": own, "shaped-work-2": roomy}
    assert _most_at_once(found) <= 2


def _most_at_once(found: dict[str, Any]) -> int:
    """Return how many attempts there were at most at one moment; of one that was killed the end is unknown."""
    times: list[tuple[str, str]] = [
        (attempt["start_time"], attempt["end_time"])
        for job in found["jobs"]
        for attempt in job["attempts_detail"]
        if attempt["end_time"]
    ]
    return max(sum(start <= moment < end for start, end in times) for moment, _ in times)


def _outcomes(found: dict[str, Any]) -> dict[str, tuple[str, int | None, str | None]]:
    return {job["id"]: (job["status"], job["exit_code"], job["reason"]) for job in found["jobs"]}


def test_what_a_script_prints_is_in_its_pods_log_and_on_the_volume(workspace: Workspace) -> None:
    planted(workspace, "said", "ok", "binary")
    run = workspace.apply(suite(workspace, "said", epochs=3))

    run.complete(seconds=180)

    (pod,) = [pod for pod in run.pods("shardwise.dev/step=work") if _index(pod) == 1]
    assert "epoch 3/3" in run.cluster.kubectl("logs", pod["metadata"]["name"])
    log = (workspace.folder / "said" / said_of(workspace, "said", "train_ok")["log_path"]).read_text()
    assert log.splitlines()[1:] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert (workspace.folder / "said/results/ok_results/metrics.json").read_text() == '{"epochs": 3}'
    binary = (workspace.folder / "said" / said_of(workspace, "said", "train_binary")["log_path"]).read_bytes()
    assert b"caf\xe9 \xff\xfe \x00" in binary


def test_a_deleted_pod_uses_up_no_retry(workspace: Workspace) -> None:
    tree = planted(workspace, "deleted", "waiting")
    run = workspace.apply(suite(workspace, "deleted", retries=0, graceSeconds=1))
    suites.wait_ready(tree, "waiting")
    (pod,) = run.pods("shardwise.dev/step=work")

    run.cluster.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    run.until(
        lambda _: said_of(workspace, "deleted", "train_waiting")["status"] == "INTERRUPTED",
        seconds=60,
        what="its end is written down",
    )
    suites.let_go(tree, "waiting")
    status = run.complete(seconds=180)

    assert not status.failures
    attempts = said_of(workspace, "deleted", "train_waiting")["attempts_detail"]
    assert [attempt["status"] for attempt in attempts] == ["INTERRUPTED", "SUCCESS"]
    assert attempts[0]["pod"] == pod["metadata"]["name"] != attempts[1]["pod"]


def test_of_a_worker_that_is_killed_before_it_says_a_word_its_pod_is_asked(workspace: Workspace) -> None:
    tree = planted(workspace, "killed", "ok", "waiting")
    run = workspace.apply(suite(workspace, "killed", retries=0, maxWorkers=2))
    suites.wait_ready(tree, "waiting")
    (pod,) = [pod for pod in run.pods("shardwise.dev/step=work") if _index(pod) == 1]

    _worker_of(pod).kill()
    status = run.finish(seconds=120)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None, told(status)
    assert failed.message == "1 of 2 mandatory jobs did not succeed: train_waiting (Error)"
    said = said_of(workspace, "killed", "train_waiting")
    assert (said["status"], said["exit_code"], said["attempts"]) == ("FAILED", 137, 1)
    assert said_of(workspace, "killed", "train_ok")["status"] == "SUCCESS"


def _worker_of(pod: dict[str, Any]) -> psutil.Process:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            ours = process.cmdline()[-2:] == ["-m", "shardwise_jobs"]
            if ours and process.environ().get("POD_NAME") == pod["metadata"]["name"]:
                return process
    raise AssertionError(f"{pod['metadata']['name']} has no worker here")


_FAILS_WHEN_LET_GO = f"""\
import pathlib, time
pathlib.Path("{DATA}/edited.ready").touch()
while not pathlib.Path("{DATA}/edited.go").exists():
    time.sleep(0.05)
raise SystemExit(3)
"""


def test_scripts_that_change_meanwhile_never_change_places(workspace: Workspace) -> None:
    manifest = suite(workspace, "edited", retries=1, maxWorkers=1, source="/scripts")
    worker = manifest["spec"]["worker"]
    worker["volumes"] = [*worker["volumes"], {"name": "scripts", "configMap": {"name": "edited-scripts"}}]
    worker["volumeMounts"] = [*worker["volumeMounts"], {"name": "scripts", "mountPath": "/scripts", "readOnly": True}]
    workspace.cluster.apply(_scripts({"train_b.py": "print('b')", "train_c.py": _FAILS_WHEN_LET_GO}))
    run = workspace.apply(manifest)
    eventually((workspace.folder / "edited.ready").exists, seconds=120, what="the second one is at work")

    # In front of both, and the one that is tried again is another by then.
    after = {"train_a.py": "print('a')", "train_b.py": "print('b')", "train_c.py": "print('mended')"}
    workspace.cluster.apply(_scripts(after))
    (workspace.folder / "edited.go").touch()
    status = run.complete(seconds=240)

    found = summary(workspace, "edited")
    assert _outcomes(found) == {"train_b": ("SUCCESS", 0, None), "train_c": ("SUCCESS", 0, None)}
    assert status.suite is not None
    assert [(job.id, job.attempts) for job in status.suite.jobs] == [("train_b", 1), ("train_c", 2)]
    log = (workspace.folder / "edited" / said_of(workspace, "edited", "train_c")["log_path"]).read_text()
    assert log.splitlines()[-1] == "mended"
    assert "train_c.py has changed since the list was frozen" in found["warnings"][0]
    complete = status.condition(ConditionType.COMPLETE)
    assert complete is not None
    assert "train_c.py has changed" in complete.message


def test_a_paused_suite_says_what_it_was_at_and_goes_on(workspace: Workspace) -> None:
    tree = planted(workspace, "paused", "no_options", "waiting")
    run = workspace.apply(suite(workspace, "paused", graceSeconds=1, maxWorkers=2))
    suites.wait_ready(tree, "waiting")
    run.until(partial(_has, id="train_no_options", state="SUCCESS"), seconds=60, what="one is over")

    run.patch({"suspend": True})
    status = run.until(lambda status: status.phase is Phase.SUSPENDED, seconds=30, what="suspended")
    eventually(lambda: not _at_work(run), seconds=60, what="its workers have left")
    assert status.suite is not None
    assert (status.suite.exit_status, status.suite.counts.interrupted) == (130, 1)
    assert _has(status, id="train_waiting", state="INTERRUPTED")
    found = summary(workspace, "paused")
    assert (found["exit_status"], found["counts"]["interrupted"]) == (130, 1)
    assert _outcomes(found)["train_waiting"][0] == "INTERRUPTED"

    suites.let_go(tree, "waiting")
    run.patch({"suspend": False})
    status = run.complete(seconds=180)

    assert status.suite is not None
    assert status.suite.exit_status == 0
    assert [(job.id, job.attempts) for job in status.suite.jobs] == [("train_no_options", 1), ("train_waiting", 2)]
    assert not status.failures


def test_the_example_comes_to_what_it_comes_to_here(workspace: Workspace, tmp_path: Path) -> None:
    _, manifest = yaml.safe_load_all((EXAMPLES / "scripts-cluster.yaml").read_text())
    tree = EXAMPLES / "suite"
    workspace.cluster.kubectl("create", "configmap", "suite-scripts", f"--from-file={tree}")
    worker = manifest["spec"]["worker"]
    worker["volumes"][1]["persistentVolumeClaim"]["claimName"] = "data"
    run = workspace.apply({**manifest, "metadata": {"name": "suite", "namespace": workspace.namespace}})

    status = run.complete(seconds=300)

    copy = tmp_path / "tree"
    subprocess.run(["cp", "-r", tree, copy], check=True)
    assert status.result is not None
    assert status.result.digest == here(copy)["digest"]


def test_a_dry_run_starts_no_pod_for_a_script_and_has_all_commands(workspace: Workspace) -> None:
    planted(workspace, "dry", "ok", "bad")
    run = workspace.apply(suite(workspace, "dry", dryRun=True))

    status = run.complete(seconds=120)

    assert run.pods("shardwise.dev/step=work") == []
    assert status.suite is not None
    assert [(job.id, job.status) for job in status.suite.jobs] == [("train_bad", "SKIPPED"), ("train_ok", "SKIPPED")]
    command = said_of(workspace, "dry", "train_ok")["command"]
    assert command[1:] == ["train_ok.py", "--output-dir", f"{DATA}/dry/results/ok_results"]


def test_a_tree_without_a_script_is_named_if_it_must_have_one(workspace: Workspace) -> None:
    planted(workspace, "empty")
    run = workspace.apply(suite(workspace, "empty", strictDiscovery=True))

    status = run.finish(seconds=120)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None, told(status)
    assert failed.reason == "NothingDiscovered"
    assert status.suite is not None
    assert status.suite.exit_status == 3


def _scripts(data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "edited-scripts"}, "data": data}


def _has(status: RunStatus, *, id: str, state: str) -> bool:
    return status.suite is not None and any(job.id == id and job.status == state for job in status.suite.jobs)


def _at_work(run: Submitted) -> list[dict[str, Any]]:
    return [pod for pod in run.pods("shardwise.dev/step=work") if pod["status"]["phase"] in ("Pending", "Running")]


def _index(pod: dict[str, Any]) -> int:
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
