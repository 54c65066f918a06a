"""In a queue of Kueue its word is the last: nobody fights over a field, and a pause gives the quota back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from shardwise_api.status import ConditionType, Phase
from shardwise_api.wire import PrepareResult
from shardwise_operator.shell.queue import QueueReasons, reason_of_workloads
from tests.support import manifests
from tests.support.fake_api import FakeApi, Refusal, forbidden
from tests.support.fake_cluster import World, run_path
from tests.support.fake_kueue import FakeKueue
from tests.support.plans import PREPARED, RESULT
from tests.support.virtual_time import in_virtual_time

MAX_GENERATIONS = 20
QUEUE = 'worker={labels: {"kueue.x-k8s.io/queue-name": "q"}}'
FOUND = PREPARED.model_dump_json(by_alias=True)


def world(**how: Any) -> World:
    return World(kueue=partial(FakeKueue, **how))


def kueue(world_: World) -> FakeKueue:
    assert world_.kueue is not None
    return world_.kueue


async def prepare(world_: World, *changes: str, name: str = "words") -> None:
    world_.apply(*changes, name=name)
    await world_.pass_time()
    await world_.finish_step(f"{name}-prepare", message=FOUND)
    await world_.pass_time(2)


async def work(world_: World) -> None:
    for pod in world_.jobs.pods("words"):
        if pod["status"]["phase"] == "Pending":
            world_.jobs.start(pod)
    await world_.pass_time(2)


async def end(world_: World) -> None:
    """Have what is left of a run end well."""
    for _ in range(40):
        for pod in world_.jobs.pods("words"):
            world_.end_shard(pod)
        await world_.pass_time(1)
        if world_.jobs.pods("words-finalize"):
            break
    await world_.finish_step("words-finalize", message=RESULT.model_dump_json(by_alias=True))
    await world_.pass_time(2)


def is_well(world_: World) -> None:
    """Fail unless the run is complete and its Jobs were changed a few times only."""
    assert world_.status().phase is Phase.COMPLETE
    assert (world_.status().result or RESULT.model_copy(update={"digest": ""})).digest == RESULT.digest
    assert world_.status().shards.completed_indexes == "0-7"
    quiet(world_)


def quiet(world_: World) -> None:
    assert max(kueue(world_).generations().values()) <= MAX_GENERATIONS


def waits(world_: World) -> str:
    status, reason, message = world_.said(ConditionType.SUSPENDED)
    assert (status, reason) == ("True", "WaitingForQuota")
    return message


def tell(story: Callable[[], Any]) -> World:
    found = in_virtual_time(story())
    assert isinstance(found, World)
    return found


class TestAQueueOfTheRun:
    def test_lets_the_shards_begin(self) -> None:
        async def story() -> World:
            world_ = world()
            await prepare(world_, QUEUE)
            await work(world_)
            await end(world_)
            return world_

        found = tell(story)
        is_well(found)
        assert "kueue.x-k8s.io/queue-name" not in (found.api.body("Job", "words-prepare") or {})["metadata"]["labels"]

    def test_without_quota_says_what_it_waits_for(self) -> None:
        async def story() -> World:
            world_ = world(quota=0)
            await prepare(world_, QUEUE)
            await world_.pass_time(30)
            assert waits(world_).startswith("Job words waits in queue q: couldn't assign flavors")
            assert "insufficient unused quota for cpu" in waits(world_)
            kueue(world_).quota = 2
            await world_.pass_time(15)
            await work(world_)
            await end(world_)
            return world_

        is_well(tell(story))

    def test_that_is_not_there_is_named(self) -> None:
        async def story() -> World:
            world_ = world()
            await prepare(world_, 'worker={labels: {"kueue.x-k8s.io/queue-name": "nosuch"}}')
            await world_.pass_time(15)
            return world_

        assert "LocalQueue nosuch doesn't exist" in waits(tell(story))

    def test_may_take_the_quota_back(self) -> None:
        async def story() -> World:
            world_ = world()
            await prepare(world_, QUEUE)
            await work(world_)
            world_.end_shard(world_.jobs.pods("words")[0])
            await world_.pass_time(2)
            kueue(world_).quota = 0
            kueue(world_).evict("words")
            await world_.pass_time(15)
            assert waits(world_)
            assert not world_.jobs.pods("words")
            kueue(world_).quota = 2
            await world_.pass_time(15)
            await end(world_)
            return world_

        found = tell(story)
        is_well(found)
        assert found.status().failures == []

    @pytest.mark.parametrize("parallelism", [1, 3])
    def test_of_another_size_is_asked_again(self, parallelism: int) -> None:
        async def story() -> World:
            world_ = world(quota=4)
            await prepare(world_, QUEUE)
            await work(world_)
            world_.api.change("TrainingRun", "words", spec={"sharding": {"parallelism": parallelism}})
            await world_.pass_time(20)
            await work(world_)
            assert len(world_.jobs.pods("words")) == parallelism
            await end(world_)
            return world_

        is_well(tell(story))


class TestAQueueOfOthers:
    """A LocalQueue named default, or manageJobsWithoutQueueName: Kueue suspends Jobs that no label of ours gave it."""

    @pytest.mark.parametrize("quota", [0, 2])
    def test_named_default_has_all_jobs(self, quota: int) -> None:
        async def story() -> World:
            world_ = world(queues=("default",), quota=quota)
            world_.apply()
            await world_.pass_time(25)
            if not quota:
                assert waits(world_).startswith("Job words-prepare waits in queue default: couldn't")
                quiet(world_)
                kueue(world_).quota = 2
                await world_.pass_time(15)
            await world_.finish_step("words-prepare", message=FOUND)
            await work(world_)
            await end(world_)
            return world_

        is_well(tell(story))

    def test_holds_jobs_without_one_and_says_so(self) -> None:
        async def story() -> World:
            world_ = world(manage_all=True)
            world_.apply()
            await world_.pass_time(30)
            return world_

        found = tell(story)
        assert "label kueue.x-k8s.io/queue-name" in waits(found)
        assert not found.jobs.pods()
        quiet(found)

    def test_holds_no_job_of_a_run_that_has_one(self) -> None:
        async def story() -> World:
            world_ = world(manage_all=True)
            await prepare(world_, QUEUE)
            await work(world_)
            await end(world_)
            return world_

        found = tell(story)
        is_well(found)
        for name in ("words-prepare", "words", "words-finalize"):
            labels = (found.api.body("Job", name) or {})["metadata"]["labels"]
            assert labels["kueue.x-k8s.io/queue-name"] == "q"

    def test_is_not_fought_by_an_operator_that_starts_anew(self) -> None:
        async def story() -> World:
            world_ = world(manage_all=True)
            world_.apply()
            for _ in range(3):
                await world_.pass_time(20)
                await world_.restart()
            await world_.pass_time(20)
            return world_

        quiet(tell(story))


class TestAPause:
    def test_of_a_run_at_work_stops_it_and_gives_the_quota_back(self) -> None:
        async def story() -> World:
            world_ = world()
            await prepare(world_, QUEUE)
            await work(world_)
            world_.end_shard(world_.jobs.pods("words")[0])
            await world_.pass_time(2)
            await work(world_)
            world_.api.change("TrainingRun", "words", spec={"suspend": True})
            await world_.pass_time(20)
            assert world_.said(ConditionType.SUSPENDED) == ("True", "SuspendRequested", "spec.suspend is true")
            assert not world_.jobs.pods("words")
            assert kueue(world_).admitted == {}
            assert world_.status().shards.completed_indexes == "0"
            assert world_.status().items.done == 10
            world_.api.change("TrainingRun", "words", spec={"suspend": False})
            await world_.pass_time(5)
            assert world_.status().shards.completed_indexes == "0"
            await work(world_)
            assert world_.status().phase is Phase.RUNNING
            await end(world_)
            return world_

        is_well(tell(story))

    def test_of_a_run_that_waits_lasts_when_quota_comes(self) -> None:
        async def story() -> World:
            world_ = world(quota=0)
            await prepare(world_, QUEUE)
            world_.api.change("TrainingRun", "words", spec={"suspend": True})
            await world_.pass_time(5)
            kueue(world_).quota = 2
            await world_.pass_time(20)
            assert world_.said(ConditionType.SUSPENDED)[1] == "SuspendRequested"
            assert not world_.jobs.pods()
            assert kueue(world_).admitted == {}
            world_.api.change("TrainingRun", "words", spec={"suspend": False})
            await world_.pass_time(5)
            await work(world_)
            await end(world_)
            return world_

        is_well(tell(story))

    def test_of_a_step_before_the_shards_is_one_too(self) -> None:
        async def story() -> World:
            world_ = world(queues=("default",))
            world_.apply()
            await world_.pass_time()
            world_.jobs.start(world_.jobs.pods("words-prepare")[0])
            world_.api.change("TrainingRun", "words", spec={"suspend": True})
            await world_.pass_time(20)
            assert not world_.jobs.pods()
            world_.api.change("TrainingRun", "words", spec={"suspend": False})
            await world_.pass_time(5)
            await world_.finish_step("words-prepare", message=FOUND)
            await work(world_)
            await end(world_)
            return world_

        is_well(tell(story))

    def test_ends_only_when_no_pod_of_before_is_left(self) -> None:
        async def story() -> World:
            world_ = world()
            await prepare(world_, QUEUE)
            await work(world_)
            old = world_.jobs.pods("words")[0]
            world_.api.change("TrainingRun", "words", spec={"suspend": True})
            # Its pods are deleted later than it is.
            await world_.pass_time(5, controller=False)
            assert world_.api.body("Job", "words") is None
            world_.api.change("TrainingRun", "words", spec={"suspend": False})
            await world_.pass_time(5, controller=False)
            assert world_.api.body("Job", "words") is None
            assert world_.api.body("Pod", old["metadata"]["name"]) is not None
            await world_.pass_time(5)
            assert world_.api.body("Job", "words") is not None
            await work(world_)
            await end(world_)
            return world_

        is_well(tell(story))


class TestLabelsOfTheRun:
    def test_name_its_queue(self) -> None:
        async def story() -> World:
            world_ = world(quota=0)
            await prepare(world_, 'metadata={labels: {"kueue.x-k8s.io/queue-name": "q"}}')
            return world_

        found = tell(story)
        job = found.api.body("Job", "words") or {}
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"
        assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]
        assert waits(found)

    def test_come_after_those_of_its_workers(self) -> None:
        async def story() -> World:
            world_ = world(quota=0)
            await prepare(world_, QUEUE, 'metadata={labels: {"kueue.x-k8s.io/queue-name": "other"}}')
            return world_

        job = tell(story).api.body("Job", "words") or {}
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"

    def test_may_change_while_it_waits(self) -> None:
        async def story() -> World:
            world_ = world(queues=("q", "r"), quota=0)
            await prepare(world_, 'metadata={labels: {"kueue.x-k8s.io/queue-name": "q"}}')
            changed = {"kueue.x-k8s.io/queue-name": "r", "kueue.x-k8s.io/priority-class": "high"}
            world_.api.change("TrainingRun", "words", metadata={"labels": changed})
            await world_.pass_time(15)
            labels = (world_.api.body("Job", "words") or {})["metadata"]["labels"]
            assert {key: labels[key] for key in changed} == changed
            assert "queue r" in waits(world_)
            kueue(world_).quota = 2
            await world_.pass_time(15)
            world_.api.change("TrainingRun", "words", metadata={"labels": {"kueue.x-k8s.io/queue-name": "q"}})
            await world_.pass_time(15)
            # It works: Kueue takes no other queue now.
            assert (world_.api.body("Job", "words") or {})["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "r"
            await work(world_)
            await end(world_)
            return world_

        is_well(tell(story))


class TestPartialAdmission:
    ANNOTATED = (
        'worker={labels: {"kueue.x-k8s.io/queue-name": "q"}, '
        'annotations: {"kueue.x-k8s.io/job-min-parallelism": "1", "team.example/a": "b"}}'
    )

    def test_is_asked_for_by_an_annotation_and_keeps_its_size(self) -> None:
        async def story() -> World:
            world_ = world(quota=2)
            await prepare(world_, self.ANNOTATED, "sharding.parallelism=4")
            await world_.pass_time(20)
            assert (world_.api.body("Job", "words") or {})["spec"]["parallelism"] == 2
            assert len(world_.jobs.pods("words")) == 2
            await work(world_)
            assert world_.said(ConditionType.PODS_READY)[:2] == ("True", "AllRunning")
            await end(world_)
            return world_

        found = tell(story)
        is_well(found)
        told = {name: (found.api.body("Job", name) or {})["metadata"].get("annotations", {}) for name in
                ("words-prepare", "words")}  # fmt: skip
        assert told["words"]["kueue.x-k8s.io/job-min-parallelism"] == "1"
        assert "kueue.x-k8s.io/job-min-parallelism" not in told["words-prepare"]
        assert {name["team.example/a"] for name in told.values()} == {"b"}


class TestMessages:
    def test_of_a_cluster_where_workloads_may_not_be_read_still_name_the_queue(self) -> None:
        async def story() -> World:
            world_ = world(quota=0)
            world_.api.refusals.append(Refusal(error=forbidden("workloads is forbidden"), kind="Workload"))
            await prepare(world_, QUEUE)
            await world_.pass_time(60)
            return world_

        found = tell(story)
        assert waits(found) == "Job words waits in queue q"
        assert len([call for call in found.api.calls if call.kind == "Workload"]) == 1

    @pytest.mark.parametrize(
        ("spec", "conditions", "told"),
        [
            ({}, [], ""),
            ({"active": False}, [], "its Workload is deactivated (spec.active is false)"),
            ({}, [{"type": "QuotaReserved", "status": "False", "message": "no quota"}], "no quota"),
            ({}, [{"type": "QuotaReserved", "status": "True", "message": "reserved"}], ""),
            ({}, [{"type": "Evicted", "status": "True", "message": "Preempted"}], "Preempted"),
        ],
    )
    def test_are_the_workload_s(self, spec: Any, conditions: Any, told: str) -> None:
        workload = {"metadata": {"creationTimestamp": "2026"}, "spec": spec, "status": {"conditions": conditions}}
        older = {"metadata": {"creationTimestamp": "2025"}, "spec": {"active": False}}
        assert reason_of_workloads([older, workload]) == told

    def test_of_no_job_that_waits_there_is_none(self) -> None:
        reasons = QueueReasons(api=FakeApi(), clock=lambda: 0.0)
        assert in_virtual_time(reasons.of("team", [], held=frozenset())) == ""


class TestASuite:
    def test_of_several_jobs_is_paused_and_goes_on(self) -> None:
        async def story() -> World:
            world_ = world(quota=3)
            overrides = "engine.scripts.podOverrides=[{ids: [ok], resources: {limits: {memory: 1Gi}}}]"
            output = 'output={uri: "file:///data/x"}'
            world_.apply(QUEUE, overrides, output, "engine.scripts.maxWorkers=2", text=manifests.SCRIPTS)
            await world_.pass_time()
            found = PrepareResult(items_total=3, input_fingerprint="x", parts=["0"])
            await world_.finish_step("words-prepare", message=found.model_dump_json(by_alias=True))
            await work(world_)
            assert len(kueue(world_).admitted) == 2
            world_.api.change("TrainingRun", "words", spec={"suspend": True})
            await world_.pass_time(10)
            assert kueue(world_).admitted == {}
            assert not world_.jobs.pods()
            world_.api.change("TrainingRun", "words", spec={"suspend": False})
            await world_.pass_time(10)
            assert len(kueue(world_).admitted) == 2
            return world_

        quiet(tell(story))


def test_a_run_that_another_controller_manages_is_left_alone() -> None:
    async def story() -> World:
        world_ = world()
        world_.apply('managedBy="kueue.x-k8s.io/multikueue"')
        world_.apply('managedBy="shardwise.dev/operator"', name="ours")
        await world_.pass_time(20)
        return world_

    found = tell(story)
    assert [call.name for call in found.api.written() if call.kind == "Job"] == ["ours-prepare"]
    assert "status" not in found.api.objects[run_path()]
