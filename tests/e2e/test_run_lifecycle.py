"""What a person may do to a run while it works: pause, go on, give it more workers, limit it, have it swept away."""

from __future__ import annotations

import pytest

from shardwise_api.status import ConditionType, Phase, RunStatus
from tests.e2e.installed import Installed
from tests.support import expected
from tests.support.kube import eventually
from tests.support.workspace import Workspace, told

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SAMPLES = 400


def working(status: RunStatus) -> bool:
    """Some of it is done, and not all."""
    return 0 < status.items.done < SAMPLES


@pytest.mark.beside
def test_a_run_suspended_half_way_goes_on_where_it_was(workspace: Workspace) -> None:
    # One shard after the other: whenever it is paused, most of it is still to do.
    run = workspace.submit("paused", samples=SAMPLES, sharding={"shards": 4, "parallelism": 1})
    run.until(working, what="half-way")

    run.patch({"suspend": True})
    paused = run.until(lambda status: status.phase is Phase.SUSPENDED, what="suspended")
    eventually(lambda: not _running(run.pods()), seconds=120, what="its workers have left")
    done = run.status.items.done
    run.patch({"suspend": False})
    status = run.complete()

    condition = paused.condition(ConditionType.SUSPENDED)
    assert condition is not None
    assert condition.reason == "SuspendRequested"
    assert done < SAMPLES
    assert status.result is not None
    assert status.result.digest == expected.digest_of(SAMPLES)
    assert status.items.done == SAMPLES


def test_parallelism_may_change_while_it_works_and_nothing_else_of_the_sharding(workspace: Workspace) -> None:
    run = workspace.submit("wider", samples=SAMPLES, sharding={"shards": 4, "parallelism": 1})
    run.until(working, what="half-way")

    run.patch({"sharding": {"parallelism": 3}})
    eventually(lambda: workspace.cluster.get("job", "wider")["spec"]["parallelism"] == 3, seconds=20)
    refused = workspace.cluster.try_kubectl(
        "patch", "trun", "wider", "--type=merge", '--patch={"spec": {"sharding": {"shards": 8}}}'
    )
    status = run.complete()

    assert "only parallelism may change" in refused.stderr
    assert status.result is not None
    assert status.result.digest == expected.digest_of(SAMPLES)


def test_a_run_past_its_deadline_fails_and_its_workers_are_stopped(workspace: Workspace) -> None:
    manifest = workspace.manifest("late", activeDeadlineSeconds=15)
    manifest["spec"]["engine"] = {"difflogic": {"preset": "GameOfLife", "steps": 10_000_000}}
    run = workspace.apply(manifest)

    status = run.finish(seconds=60)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None, told(status)
    assert failed.reason == "DeadlineExceeded"
    eventually(lambda: not _running(run.pods()), seconds=120, what="its workers have left")


def test_a_run_whose_workers_never_start_fails_at_its_start_deadline(workspace: Workspace) -> None:
    manifest = workspace.manifest("nowhere", startDeadlineSeconds=30)
    manifest["spec"]["worker"]["nodeSelector"] = {"no-such-label": "here"}
    run = workspace.apply(manifest)

    status = run.finish(seconds=120)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None
    assert failed.reason == "StartDeadlineExceeded"
    assert "; Unschedulable: " in failed.message
    assert "0/2 nodes are available" in failed.message


def test_a_finished_run_goes_at_the_end_of_its_time_to_live_with_all_it_made(workspace: Workspace) -> None:
    run = workspace.submit("swept", samples=20)
    run.complete()

    # Only now: a run that goes by itself might do so before anybody has looked.
    run.patch({"ttlSecondsAfterFinished": 1})
    eventually(lambda: _left(workspace, "swept") == [], seconds=60, what="the run and its children are gone")


@pytest.mark.beside
def test_a_failing_shard_is_retried_and_the_run_names_what_failed(workspace: Workspace) -> None:
    manifest = workspace.manifest("broken", retry={"perShard": 0})
    manifest["spec"]["engine"]["kato"]["store"] = {"uri": "mongodb://nobody.invalid:27017"}
    run = workspace.apply(manifest)

    status = run.finish(seconds=240)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None, told(status)
    assert "nobody.invalid" in failed.message
    assert status.failures


def _running(pods: list[dict[str, object]]) -> list[object]:
    return [pod for pod in pods if pod["status"]["phase"] in ("Running", "Pending")]  # type: ignore[index]


def _left(workspace: Workspace, name: str) -> list[str]:
    kinds = "trun,jobs,configmaps,serviceaccounts,networkpolicies,pods"
    found = workspace.cluster.get(kinds)["items"]
    return [item["metadata"]["name"] for item in found if item["metadata"]["name"].startswith(name)]


def test_a_step_whose_result_went_with_its_pod_is_done_again(workspace: Workspace, shardwise: Installed) -> None:
    # The operator is to be gone before prepare ends, so its pod is not let in before that.
    workspace.cluster.kubectl("create", "quota", "hold", "--hard=pods=0")
    run = workspace.submit("forgotten", samples=20)
    eventually(lambda: workspace.cluster.get("jobs")["items"], what="prepare is asked for")

    with shardwise.stopped():
        workspace.cluster.kubectl("delete", "quota", "hold")
        eventually(lambda: _completed(workspace, "forgotten-prepare"), seconds=240, what="prepare has ended")
        (first,) = run.pods("shardwise.dev/step=prepare")
        workspace.cluster.kubectl("delete", "pod", first["metadata"]["name"], "--grace-period=0", "--force")
    status = run.complete()

    assert status.result is not None
    assert status.result.digest == expected.digest_of(20)


def test_a_kind_of_work_that_the_worker_image_lacks_fails_at_once_and_says_so(workspace: Workspace) -> None:
    (workspace.folder / "request.json").write_text('{"chunks": [{"text": "A text."}]}', encoding="utf-8")
    manifest = workspace.manifest("ingest")
    manifest["kind"] = "IngestRun"
    del manifest["spec"]["engine"]
    manifest["spec"] |= {
        "source": {"files": {"uris": ["/data/request.json"]}},
        "store": {"uri": "sqlite:////data/chunks.db"},
        "embedding": {"backend": "sentence-transformers", "model": "all-MiniLM-L6-v2"},
    }
    run = workspace.apply(manifest)

    status = run.finish(seconds=60)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None, told(status)
    assert "shardwise[sentence-transformers]" in failed.message
    run.patch({"ttlSecondsAfterFinished": 1})
    eventually(lambda: not workspace.cluster.get("irun")["items"], seconds=60, what="it is swept away")


def _completed(workspace: Workspace, job: str) -> bool:
    conditions = workspace.cluster.get("job", job)["status"].get("conditions", [])
    return any(condition["type"] == "Complete" and condition["status"] == "True" for condition in conditions)
