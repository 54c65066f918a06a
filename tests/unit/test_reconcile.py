"""One run's loop against an API server in memory, in virtual time: what it makes, what it says, and how often."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from shardwise_api.status import ConditionType, Phase
from shardwise_operator.shell.reconcile import STATUS_SECONDS
from tests.support import manifests
from tests.support.fake_cluster import World, run_path
from tests.support.plans import PREPARED, RESULT
from tests.support.virtual_time import in_virtual_time


class TestLife:
    def test_a_run_goes_from_its_manifest_to_its_result(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            assert world.status().phase is Phase.RUNNING
            assert world.status().shards.active == 2
            await world.finish()
            status = world.status()
            assert status.phase is Phase.COMPLETE
            assert status.result is not None
            assert status.result.digest == RESULT.digest
            assert status.shards.completed_indexes == "0-7"
            assert [event for event in world.told() if event != "ShardFailed"] == [
                "Accepted", "Started", "Finalizing", "Completed",
            ]  # fmt: skip

        in_virtual_time(story())

    def test_each_child_is_made_once(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            await world.finish()
            await world.pass_time(60)
            made = [call.name for call in world.api.written(verb="apply", kind="Job")]
            assert made == ["words-prepare", "words", "words-finalize"]

        in_virtual_time(story())

    def test_an_ingest_run_is_looked_after_as_well(self) -> None:
        async def story() -> None:
            world = World()
            text = manifests.changed(manifests.INGEST, "store={uri: 'postgres://db.example/x'}")
            changes = ["source={files: {uris: ['s3://bucket/chunks.json']}}", 'output={uri: "s3://bucket/x"}']
            body = manifests.parse(text, *changes).resource_document()
            body["metadata"].update(name="chunks", namespace="team")
            world.api.put(run_path("chunks", "ingestruns"), body)
            await world.pass_time()
            assert world.status("chunks").phase is Phase.PREPARING
            assert world.api.body("Job", "chunks-prepare") is not None

        in_virtual_time(story())

    def test_a_failed_prepare_fails_the_run_with_the_workers_own_words(self) -> None:
        async def story() -> None:
            world = World()
            world.apply()
            await world.pass_time()
            (pod,) = world.jobs.pods("words-prepare")
            world.jobs.start(pod)
            world.jobs.end(pod, code=2, message='{"reason": "InvalidInput", "message": "corpus.txt is not UTF-8"}')
            await world.pass_time()
            assert world.said(ConditionType.FAILED) == ("True", "InvalidInput", "prepare: corpus.txt is not UTF-8")
            assert world.api.body("Job", "words") is None

        in_virtual_time(story())


class TestStatus:
    def test_is_written_once_a_second_at_most(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work("sharding={shards: 40, parallelism: 8}")
            while pods := world.jobs.pods("words"):
                world.jobs.start(pods[0])
                world.end_shard(pods[0])
                await world.pass_time(0.3)
            times = [call.at for call in world.api.written(kind="TrainingRun")]
            assert len(times) > 10
            assert min(after - before for before, after in pairwise(times)) >= STATUS_SECONDS

        in_virtual_time(story())

    def test_is_not_written_when_nothing_changed(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            before = len(world.api.written())
            await world.pass_time(120)
            assert len(world.api.written()) == before

        in_virtual_time(story())

    def test_a_change_within_the_second_is_written_after_it_though_nothing_else_happens(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            first, second = world.jobs.pods("words")
            world.end_shard(first)
            await world.pass_time(0.5)
            world.end_shard(second)
            await world.pass_time(0.2, controller=True)
            world.operator.manager.changed("uid-1")
            await asyncio.sleep(2.0)
            assert world.status().shards.succeeded == 2

        in_virtual_time(story())

    def test_a_conflict_is_answered_by_another_look(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            # The person's change is not shown yet when the status is written.
            world.api.change("TrainingRun", "words", spec={"suspend": True})
            world.end_shard(world.jobs.pods("words")[0])
            for type_, kind, body in world.api.log[-1:]:
                world.operator.cache.on_watch_event(kind, body, deleted=type_ == "DELETED")
            world.lose()
            world.jobs.sync()
            world.operator.cache.on_watch_event("Job", world.api.of("Job")[-1])
            await asyncio.sleep(4)
            assert world.status().phase is Phase.SUSPENDED
            assert world.status().shards.succeeded == 1

        in_virtual_time(story())

    def test_an_answer_that_was_lost_costs_nothing(self) -> None:
        async def story() -> None:
            from tests.support.fake_api import Refusal, unreachable

            world = World()
            world.api.refusals.append(
                Refusal(error=unreachable(), kind="TrainingRun", verb="replace", times=1, done_all_the_same=True)
            )
            await world.until_work()
            assert world.status().phase is Phase.RUNNING

        in_virtual_time(story())

    def test_what_a_newer_version_wrote_does_not_make_an_ended_run_begin_anew(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            await world.finish()
            await world.operator.manager.stop()
            world.api.change("TrainingRun", "words", status={"weather": "fine", "result": {"mood": "good"}})
            for job in world.api.of("Job"):
                world.api.remove(f"/apis/batch/v1/namespaces/team/jobs/{job['metadata']['name']}")
            before = len(world.api.written())
            await world.restart()
            await world.pass_time(30)
            assert len(world.api.written()) == before

        in_virtual_time(story())


class TestEndOfARun:
    def test_a_deleted_run_ends_its_loop(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            world.api.remove(run_path())
            await world.pass_time()
            assert world.operator.manager.known_runs() == []
            assert world.api.of("Job") == []

        in_virtual_time(story())

    def test_a_deletion_that_no_watch_showed_ends_the_loop_at_the_next_write(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            pod = world.jobs.pods("words")[0]
            world.api.objects.pop(run_path())
            world.end_shard(pod)
            world.deliver()
            await asyncio.sleep(15)
            assert world.operator.manager.known_runs() == []
            assert world.operator.cache.runs() == []

        in_virtual_time(story())

    def test_a_run_of_the_same_name_is_another_run(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            world.api.remove(run_path())
            world.jobs.sync()
            world.lose()
            again = world.apply()
            await world.pass_time(30)
            (job,) = world.api.of("Job")
            assert job["metadata"]["ownerReferences"][0]["uid"] == again["metadata"]["uid"]

        in_virtual_time(story())

    def test_its_time_to_live_over_it_is_deleted_once_and_nobody_else(self) -> None:
        async def story() -> None:
            world = World()
            run = await world.until_work("ttlSecondsAfterFinished=60")
            await world.finish()
            await world.pass_time(40)
            assert world.api.written(verb="delete") == []
            await world.pass_time(30)
            (call,) = world.api.written(verb="delete")
            assert call.kind == "TrainingRun"
            assert call.body is not None
            assert call.body["preconditions"] == {"uid": run["metadata"]["uid"]}
            assert world.api.objects == {}

        in_virtual_time(story())

    def test_it_is_deleted_once_though_no_watch_shows_that(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work("ttlSecondsAfterFinished=60")
            await world.finish()
            await asyncio.sleep(120)
            assert len(world.api.written(verb="delete")) == 1
            assert world.operator.manager.known_runs() == []

        in_virtual_time(story())

    def test_children_of_an_ended_run_never_come_back(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            await world.finish()
            for job in world.api.of("Job"):
                world.api.remove(f"/apis/batch/v1/namespaces/team/jobs/{job['metadata']['name']}")
            await world.restart()
            await world.pass_time(60)
            assert world.api.of("Job") == []
            assert world.status().phase is Phase.COMPLETE

        in_virtual_time(story())


class TestBadInput:
    def test_every_field_that_is_wrong_is_named_and_no_child_is_made(self) -> None:
        async def story() -> None:
            world = World()
            body = world.apply("blockSize=1")
            spec = body["spec"]
            spec["blockSize"], spec["sharding"]["parallelism"], spec["retry"] = 0, 99, {"perShard": "many"}
            world.api.put(run_path(), body)
            await world.pass_time()
            status, reason, message = world.said(ConditionType.ACCEPTED)
            assert (status, reason) == ("False", "InvalidSpec")
            for field in ("spec.blockSize", "spec.sharding.parallelism", "spec.retry.perShard"):
                assert field in message
            assert world.status().phase is Phase.REJECTED
            assert {call.kind for call in world.api.written()} == {"TrainingRun"}

        in_virtual_time(story())

    def test_what_only_a_cluster_minds_is_named_too(self) -> None:
        async def story() -> None:
            world = World()
            body = world.apply("worker={env: [{name: SHARDWISE_RUN, value: x}]}")
            del body["spec"]["output"]
            body["spec"]["engine"]["kato"]["dataset"]["files"]["uris"] = ["corpus.txt"]
            world.api.put(run_path(), body)
            await world.pass_time()
            _, reason, message = world.said(ConditionType.ACCEPTED)
            assert reason == "InvalidSpec"
            for field in ("spec.output:", "spec.worker.env[0].name:", "spec.engine.kato.dataset.files.uris[0]:"):
                assert field in message
            assert {call.kind for call in world.api.written()} == {"TrainingRun"}

        in_virtual_time(story())

    def test_mended_in_its_first_second_it_goes_on(self) -> None:
        async def story() -> None:
            world = World()
            good = world.apply()
            bad = {**good, "spec": {**good["spec"], "blockSize": 0}}
            world.api.put(run_path(), bad)
            await world.pass_time(0.3)
            assert world.status().phase is Phase.REJECTED
            world.api.change("TrainingRun", "words", spec={"blockSize": 5})
            await world.pass_time()
            assert world.said(ConditionType.ACCEPTED)[:2] == ("True", "Valid")
            assert world.status().phase is Phase.PREPARING

        in_virtual_time(story())

    def test_spoilt_in_its_first_second_it_is_rejected_after_it_though_nothing_else_happens(self) -> None:
        async def story() -> None:
            world = World()
            world.apply()
            await world.pass_time(0.4)
            world.api.change("TrainingRun", "words", spec={"blockSize": 0})
            world.deliver()
            await asyncio.sleep(5)
            assert world.status().phase is Phase.REJECTED

        in_virtual_time(story())


class TestChanges:
    def test_suspend_and_resume_reach_the_job(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            world.api.change("TrainingRun", "words", spec={"suspend": True})
            await world.pass_time()
            assert world.status().phase is Phase.SUSPENDED
            assert world.jobs.pods("words") == []
            world.api.change("TrainingRun", "words", spec={"suspend": False})
            await world.pass_time()
            assert world.status().phase is Phase.RUNNING
            assert len(world.jobs.pods("words")) == 2
            assert world.status().failures == []
            assert [reason for reason in world.told() if reason in ("Suspended", "Resumed")] == ["Suspended", "Resumed"]

        in_virtual_time(story())

    def test_a_run_that_is_suspended_from_the_start_makes_nothing(self) -> None:
        async def story() -> None:
            world = World()
            world.apply("suspend=true")
            await world.pass_time(30)
            assert world.status().phase is Phase.SUSPENDED
            assert world.api.of("Job") == []

        in_virtual_time(story())

    @pytest.mark.parametrize("parallelism", [1, 5])
    def test_parallelism_reaches_the_job(self, parallelism: int) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            world.api.change("TrainingRun", "words", spec={"sharding": {"parallelism": parallelism}})
            await world.pass_time()
            assert len(world.jobs.pods("words")) == parallelism
            assert len(world.api.written(verb="merge", kind="Job")) == 2  # prepare's message, and this

        in_virtual_time(story())


class TestMessages:
    def test_what_prepare_found_outlives_its_pod(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            for pod in world.jobs.pods("words-prepare", live=False):
                world.jobs.sweep(pod)
            await world.restart()
            await world.pass_time()
            await world.finish()
            assert world.status().phase is Phase.COMPLETE
            assert len(world.api.written(verb="apply", kind="Job")) == 3

        in_virtual_time(story())

    @pytest.mark.parametrize(("job", "message"), [("words-prepare", PREPARED), ("words-finalize", RESULT)])
    def test_a_step_whose_word_is_lost_with_its_pod_is_repeated(self, job: str, message: object) -> None:
        async def story() -> None:
            world = World()
            if job == "words-finalize":
                await world.until_work()
                await world.finish_work()
            else:
                world.apply()
                await world.pass_time()
            (pod,) = world.jobs.pods(job)
            world.jobs.end(pod, message="{}")
            world.jobs.sync()
            world.jobs.sweep(pod)
            world.lose()
            world.operator.cache.evict("Pod", pod["metadata"]["uid"])
            world.operator.cache.on_watch_event("Job", world.api.body("Job", job) or {})
            await world.pass_time(15)
            made = [call.name for call in world.api.written(verb="apply", kind="Job")]
            assert made.count(job) == 2
            assert len(world.jobs.pods(job)) == 1
            assert not world.status().finished

        in_virtual_time(story())

    def test_a_job_that_is_seen_complete_before_its_pod_is_no_loss(self) -> None:
        async def story() -> None:
            world = World()
            world.apply()
            await world.pass_time()
            (pod,) = world.jobs.pods("words-prepare")
            world.jobs.end(pod, message=PREPARED.model_dump_json(by_alias=True))
            world.jobs.sync()
            world.lose()
            world.operator.cache.on_watch_event("Job", world.api.of("Job")[0])
            await world.pass_time()
            assert world.api.written(verb="delete") == []
            assert world.api.body("Job", "words") is not None

        in_virtual_time(story())
