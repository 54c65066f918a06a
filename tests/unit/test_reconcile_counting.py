"""A Job's end may be shown before the ends of its last pods: the run goes on with all shards counted all the same."""

from __future__ import annotations

import json

from shardwise_api.status import Phase
from shardwise_api.wire import PrepareResult
from tests.support import manifests
from tests.support.fake_cluster import World
from tests.support.virtual_time import in_virtual_time


def _worked_done(world: World) -> int:
    document = world.api.body("ConfigMap", "words-finalize")
    assert document is not None
    return int(json.loads(document["data"]["run.json"])["worked"]["done"])


async def _end_unseen(world: World) -> None:
    """Have the work step end so that the watches show the Job's end, and none of its pods'."""
    while pods := world.jobs.pods("words"):
        for pod in pods:
            world.end_shard(pod)
        world.jobs.sync()
        world.lose()
    job = world.api.body("Job", "words")
    assert job is not None
    world.operator.cache.on_watch_event("Job", job)
    await world.pass_time()


def test_shards_whose_ends_no_watch_has_shown_are_counted_before_finalize() -> None:
    async def story() -> None:
        world = World()
        await world.until_work()
        await _end_unseen(world)
        assert world.status().phase is Phase.FINALIZING
        assert _worked_done(world) == 80

    in_virtual_time(story())


def test_shards_whose_pods_went_with_their_node_are_counted() -> None:
    async def story() -> None:
        world = World()
        await world.until_work()
        while pods := world.jobs.pods("words"):
            for pod in pods:
                world.end_shard(pod)
            world.jobs.sync()
            for pod in pods:
                world.jobs.sweep(pod)
            await world.pass_time()
        assert world.status().phase is Phase.FINALIZING
        assert _worked_done(world) == 80

    in_virtual_time(story())


def test_a_pod_that_is_gone_for_good_holds_nothing_up_and_is_looked_for_once() -> None:
    async def story() -> None:
        world = World()
        await world.until_work()
        while pods := world.jobs.pods("words"):
            for pod in pods:
                world.end_shard(pod)
            world.jobs.sync()
            for pod in pods:
                world.jobs.sweep(pod)
            world.lose()
        job = world.api.body("Job", "words")
        assert job is not None
        world.operator.cache.on_watch_event("Job", job)
        await world.pass_time(30)
        assert world.status().phase is Phase.FINALIZING
        assert len([call for call in world.api.calls if (call.verb, call.kind) == ("list", "Pod")]) == 1

    in_virtual_time(story())


def test_scripts_whose_ends_no_watch_has_shown_are_spoken_for_before_finalize() -> None:
    async def story() -> None:
        world = World()
        world.apply("output={uri: 'file:///data/out'}", text=manifests.SCRIPTS)
        await world.pass_time()
        prepared = PrepareResult(items_total=3, input_fingerprint="x")
        await world.finish_step("words-prepare", message=prepared.model_dump_json(by_alias=True))
        well, *killed = world.jobs.pods("words")
        # How these ended is shown; that something is to be seen of failed ones is no sign that all is.
        world.end_shard(well)
        world.jobs.end(killed[0], code=137, reason="OOMKilled")
        await world.pass_time(1)
        world.jobs.end(killed[1], code=137, reason="OOMKilled")
        world.jobs.sync()
        world.lose()
        job = world.api.body("Job", "words")
        assert job is not None
        world.operator.cache.on_watch_event("Job", job)
        await world.pass_time()
        document = world.api.body("ConfigMap", "words-finalize")
        assert document is not None
        ends = json.loads(document["data"]["run.json"])["worked"]["ends"]
        assert [(end["shard"], end["reason"]) for end in ends] == [(1, "OOMKilled"), (2, "OOMKilled")]

    in_virtual_time(story())
