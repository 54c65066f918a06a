"""From Jobs and pods as an API server tells of them to what the plan speaks of, in every order and after every loss."""

from __future__ import annotations

from typing import Any

import pytest

from shardwise_api.wire import Checkpoint, ItemCounts, Metric, ProgressReport, ShardResult, Step
from shardwise_operator.core.observed import JobState, Observed
from shardwise_operator.observe.run import awaited_message, observe
from shardwise_operator.observe.snapshots import job_snapshot, pod_snapshot
from tests.support.bodies import (
    condition,
    ended,
    job,
    over,
    pod,
    running,
    snapshot_of_job,
    snapshot_of_pod,
    text,
    waiting,
)
from tests.support.plans import PREPARED
from tests.support.virtual_time import T0

Body = dict[str, Any]
FOUND = PREPARED.model_dump_json(by_alias=True)
DRAINED = [condition("DisruptionTarget", "True", "EvictionByEvictionAPI")]
DELETED = {"deletionTimestamp": text(10)}


def observed(jobs: list[Body], pods: list[Body], **more: Any) -> Observed:
    return observe(
        now=T0, run_uid="1234",
        jobs=[snapshot_of_job(body) for body in jobs], pods=[snapshot_of_pod(body) for body in pods],
        **{"reports": {}, **more},
    )  # fmt: skip


class TestSteps:
    def test_a_step_is_complete_only_together_with_what_its_worker_left(self) -> None:
        done = job("prepare", status=over("Complete"))
        late = pod(step="prepare", **running())
        there = pod(step="prepare", **ended(0, FOUND))
        assert observed([done], []).jobs[Step.PREPARE].state is JobState.RUNNING
        assert observed([done], [late]).jobs[Step.PREPARE].state is JobState.RUNNING
        view = observed([done], [there]).jobs[Step.PREPARE]
        assert (view.state, view.message) == (JobState.COMPLETE, FOUND)

    def test_a_message_that_comes_before_its_jobs_end_waits_for_it(self) -> None:
        view = observed([job("prepare")], [pod(step="prepare", **ended(0, FOUND))]).jobs[Step.PREPARE]
        assert view.state is JobState.RUNNING

    def test_a_message_that_was_written_down_needs_no_pod(self) -> None:
        kept = {"annotations": {"shardwise.dev/termination-message": FOUND}}
        view = observed([job("prepare", metadata=kept, status=over("Complete"))], []).jobs[Step.PREPARE]
        assert (view.state, view.message) == (JobState.COMPLETE, FOUND)

    def test_shards_are_complete_without_any(self) -> None:
        view = observed([job(status=over("Complete", completedIndexes="0-7"))], []).jobs[Step.WORK]
        assert (view.state, view.completed) == (JobState.COMPLETE, frozenset(range(8)))

    def test_an_earlier_attempt_is_not_taken_for_the_one_that_did_well(self) -> None:
        pods = [pod(step="prepare", uid="a", **ended(1, "no", at=30)), pod(step="prepare", uid="b", **ended(0, FOUND))]
        assert observed([job("prepare", status=over("Complete"))], pods).jobs[Step.PREPARE].message == FOUND

    def test_a_failed_step_tells_what_its_last_worker_said(self) -> None:
        pods = [
            pod(step="prepare", uid="a", **ended(1, "first", at=30)),
            pod(step="prepare", uid="b", **ended(2, "last", at=40)),
            pod(step="prepare", uid="c", **ended(143, "killed", at=50)),
        ]
        view = observed([job("prepare", status=over("Failed", "PodFailurePolicy"))], pods).jobs[Step.PREPARE]
        assert (view.state, view.reason, view.message) == (JobState.FAILED, "PodFailurePolicy", "last")

    def test_one_killed_for_not_ending_does_not_speak_for_who_failed_the_job(self) -> None:
        pods = [
            pod(0, **ended(2, "bad configuration", at=30)),
            pod(1, metadata=DELETED, **ended(137, at=60)),
        ]
        found = observed([job(status=over("Failed", "PodFailurePolicy", at=61))], pods)
        assert found.jobs[Step.WORK].message == "bad configuration"
        assert [failure.shard for failure in found.failures] == [0]

    def test_a_suspended_job_is_suspended_and_held_only_by_a_queue(self) -> None:
        suspended = job(spec={"suspend": True})
        assert observed([suspended], []).jobs[Step.WORK].state is JobState.SUSPENDED
        assert not observed([suspended], []).jobs[Step.WORK].held
        in_a_queue = {**suspended["metadata"]["labels"], "kueue.x-k8s.io/queue-name": "q"}
        queued = job(metadata={"labels": in_a_queue}, spec={"suspend": True})
        assert observed([queued], []).jobs[Step.WORK].held
        assert observed([suspended], [], held={"job-work"}).jobs[Step.WORK].held
        assert not observed([job(metadata={"labels": in_a_queue})], []).jobs[Step.WORK].held

    def test_a_job_that_is_being_deleted_is_not_there(self) -> None:
        found = observed([job(metadata=DELETED)], [pod(**running())])
        assert found.jobs == {}
        assert found.job_ref is None

    def test_pods_of_an_earlier_job_of_the_name_say_nothing(self) -> None:
        found = observed([job(uid="new")], [pod(job_uid="old", **ended(1, "x")), pod(1, job_uid="old", **running())])
        assert found.jobs[Step.WORK].active == 0
        assert found.failures == ()

    @pytest.mark.parametrize(
        ("body", "awaited"),
        [
            (job("prepare"), False),
            (job("prepare", status=over("Complete")), True),
            (job("prepare", status=over("Failed")), True),
            (job(status=over("Complete")), False),
            (job("prepare", metadata=DELETED, status=over("Complete")), False),
        ],
    )
    def test_a_message_is_awaited_from_an_ended_step(self, body: Body, awaited: bool) -> None:
        assert awaited_message(snapshot_of_job(body), []) is awaited


class TestPods:
    def test_those_that_run_are_active_and_no_others(self) -> None:
        pods = [
            pod(0, **running()), pod(1), pod(2, **ended(0)), pod(3, **waiting("ContainerCreating")),
            pod(4, metadata=DELETED, **running()),
        ]  # fmt: skip
        view = observed([job()], pods).jobs[Step.WORK]
        assert (view.active, view.running) == (1, frozenset({0}))

    def test_one_lost_with_its_node_neither_runs_nor_failed(self) -> None:
        # Nobody is left to say that its container has ended.
        lost = pod(0, **{**running(), "phase": "Failed", "conditions": [condition("DisruptionTarget", "True")]})
        found = observed([job()], [lost])
        assert found.jobs[Step.WORK].active == 0
        assert found.failures == ()

    def test_one_on_a_node_that_is_not_heard_of_does_not_run(self) -> None:
        found = observed([job()], [pod(0, metadata=DELETED, **{**running(), "conditions": DRAINED})])
        assert found.jobs[Step.WORK].active == 0

    @pytest.mark.parametrize(
        "body",
        [
            pod(**ended(75, "peers lost")),
            pod(**ended(143)),
            pod(**ended(137, conditions=DRAINED)),
            pod(metadata=DELETED, **ended(143)),
            pod(metadata=DELETED, **ended(137)),
            pod(**ended(0)),
            pod(phase="Failed", reason="Evicted", conditions=[condition("DisruptionTarget", "True")]),
        ],
        ids=["peers-lost", "terminated", "drained", "deleted", "deleted-and-killed", "done", "evicted"],
    )
    def test_what_is_no_fault_of_a_worker_is_no_failure(self, body: Body) -> None:
        assert observed([job()], [body]).failures == ()

    def test_a_seed_that_was_not_solved_is_a_failure_in_its_own_words(self) -> None:
        told = '{"reason": "NotConverged", "message": "seed 7: 100 steps, 3 of 512 boards wrong"}'
        (failure,) = observed([job()], [pod(3, **ended(3, told))]).failures
        assert (failure.shard, failure.exit_code, failure.reason) == (3, 3, "NotConverged")
        assert failure.message.startswith("seed 7")

    def test_one_out_of_memory_failed_though_it_could_not_say_so(self) -> None:
        (failure,) = observed([job()], [pod(3, **ended(137, reason="OOMKilled"))]).failures
        assert (failure.shard, failure.exit_code, failure.reason) == (3, 137, "OOMKilled")

    def test_one_out_of_memory_failed_even_if_it_is_deleted_by_now(self) -> None:
        (failure,) = observed([job()], [pod(3, metadata=DELETED, **ended(137, reason="OOMKilled"))]).failures
        assert failure.reason == "OOMKilled"

    def test_a_failure_is_told_in_the_workers_words(self) -> None:
        (failure,) = observed([job()], [pod(3, **ended(1, '{"reason": "StoreLost", "message": "gone"}'))]).failures
        assert (failure.reason, failure.message) == ("StoreLost", "gone")

    def test_what_is_no_document_is_told_as_it_is_and_short(self) -> None:
        (failure,) = observed([job()], [pod(3, **ended(1, "x" * 4096))]).failures
        assert failure.reason == "Error"
        assert len(failure.message) == 1024

    def test_failures_come_in_the_order_in_which_they_happened(self) -> None:
        pods = [pod(n, **ended(1, at=at)) for n, at in ((0, 40), (1, 20), (2, 30))]
        assert [failure.shard for failure in observed([job()], pods).failures] == [1, 2, 0]

    def test_a_single_step_has_no_shard(self) -> None:
        (failure,) = observed([job("prepare")], [pod(step="prepare", **ended(1))]).failures
        assert failure.shard is None


class TestProgress:
    def test_a_result_replaces_the_last_report(self) -> None:
        report = ProgressReport(
            run="1234", shard=0, attempt_started=T0, time=T0, items=ItemCounts(done=3), resumed=2, resumed_done=1
        )
        result = ShardResult(shard=0, items=ItemCounts(done=9, failed=1)).model_dump_json(by_alias=True)
        found = observed([job()], [pod(0, **ended(0, result))], reports={0: report}).progress[0]
        assert (found.items.done, found.total, found.resumed, found.resumed_done) == (9, 10, 2, 1)

    def test_a_training_s_last_figures_outlive_its_pod(self) -> None:
        report = ProgressReport(
            run="1234", shard=0, attempt_started=T0, time=T0, items=ItemCounts(done=3),
            metrics=[Metric(name="wrong", value=0)], checkpoint=Checkpoint(uri="s3://b/c", step=3),
        )  # fmt: skip
        result = ShardResult(shard=0, items=ItemCounts(done=4)).model_dump_json(by_alias=True)
        found = observed([job()], [pod(0, **ended(0, result))], reports={0: report}).progress[0]
        assert (found.items.done, found.metrics, found.checkpoint) == (4, report.metrics, report.checkpoint)

    @pytest.mark.parametrize("message", ["", "{", '{"shard": "x"}', "null"])
    def test_a_result_that_cannot_be_read_leaves_the_report(self, message: str) -> None:
        report = ProgressReport(run="1234", shard=0, attempt_started=T0, time=T0, items=ItemCounts(done=3))
        assert observed([job()], [pod(0, **ended(0, message))], reports={0: report}).progress == {0: report}


class TestSeen:
    def test_a_job_or_pod_of_others_is_none_of_ours(self) -> None:
        assert job_snapshot({"metadata": {"uid": "x", "name": "x", "resourceVersion": "1"}}) is None
        assert pod_snapshot({"metadata": {"uid": "x", "name": "x", "resourceVersion": "1"}}) is None
        stranger = job()
        stranger["metadata"]["labels"]["shardwise.dev/step"] = "dance"
        assert job_snapshot(stranger) is None

    def test_a_pod_without_an_index_is_none_of_ours(self) -> None:
        body = pod()
        del body["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
        assert pod_snapshot(body) is None

    def test_a_job_of_a_part_and_its_pods_speak_of_the_runs_shards(self) -> None:
        place = {"shardwise.dev/part": "2/3", "shardwise.dev/shards": "1,5,7-9"}
        seen = snapshot_of_job(
            job(metadata={"annotations": place}, status={"completedIndexes": "0,2,3", "failedIndexes": "4"})
        )
        assert (seen.part, seen.parts, seen.completed, seen.failed) == (2, 3, "1,7,8", "9")
        assert snapshot_of_pod(pod(3, metadata={"annotations": place})).shard == 8

    @pytest.mark.parametrize(
        "place",
        [
            {"shardwise.dev/part": "2", "shardwise.dev/shards": "1-4"},
            {"shardwise.dev/part": "x/3", "shardwise.dev/shards": "1-4"},
            {"shardwise.dev/part": "2/3"},
            {"shardwise.dev/shards": "1-4"},
            {"shardwise.dev/part": "2/3", "shardwise.dev/shards": "1-"},
            {"shardwise.dev/part": "2/3", "shardwise.dev/shards": "1,2"},
            {"shardwise.dev/part": "2/3", "shardwise.dev/shards": "0-99999999999"},
        ],
    )
    def test_what_somebody_wrote_into_such_a_job_or_pod_is_not_believed(self, place: Body) -> None:
        assert job_snapshot(job(metadata={"annotations": place}, status={"completedIndexes": "3"})) is None

    @pytest.mark.parametrize("shards", ["", "x", "1-", "1,2", "0-99999999999"])
    def test_nor_what_somebody_wrote_into_its_pod(self, shards: str) -> None:
        assert pod_snapshot(pod(3, metadata={"annotations": {"shardwise.dev/shards": shards}})) is None

    def test_an_index_that_is_no_number_is_none(self) -> None:
        body = pod()
        body["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] = "x"
        assert pod_snapshot(body) is None

    def test_what_has_no_status_yet_is_pending(self) -> None:
        fresh_job, fresh_pod = job(), pod()
        del fresh_job["status"], fresh_pod["status"]
        assert snapshot_of_job(fresh_job).condition == ""
        assert (snapshot_of_pod(fresh_pod).phase, snapshot_of_pod(fresh_pod).running) == ("Pending", False)

    def test_a_job_about_to_fail_has_not_failed(self) -> None:
        status = {"conditions": [{"type": "FailureTarget", "status": "True"}, {"type": "Failed", "status": "False"}]}
        assert snapshot_of_job(job(status=status)).condition == ""

    def test_containers_of_others_in_a_pod_do_not_count(self) -> None:
        status = running()
        status["containerStatuses"].insert(0, {"name": "proxy", "state": {"terminated": {"exitCode": 1}}})
        assert snapshot_of_pod(pod(**status)).exit_code is None
        assert snapshot_of_pod(pod(**status)).running
