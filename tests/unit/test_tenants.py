"""What another tenant writes harms nobody else: Jobs and pods with a victim's labels, numbers made to fill memory."""

from __future__ import annotations

import json
import logging
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardwise_api.status import ConditionType, Phase, RunStatus
from shardwise_operator.shell import reconcile
from tests.support import manifests
from tests.support.bodies import job_owner, run_owner
from tests.support.fake_cluster import World
from tests.support.plans import PREPARED, RESULT
from tests.support.virtual_time import in_virtual_time

Body = dict[str, Any]
OVER = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T12:00:00Z"}
FAILED = {**OVER, "type": "Failed", "reason": "BackoffLimitExceeded", "message": "forged"}
FORGED = json.dumps({"digest": "sha256:forged", "itemsTotal": 7, "inputFingerprint": "forged"})
SUITE = ('output={uri: "file:///data/x"}',)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let an expansion end in a MemoryError and not with the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 512 * 2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def forge_job(world: World, uid: str, step: str, *, namespace: str = "evil", owned: bool = True, **parts: Any) -> Body:
    """Put a Job with a run's labels into a namespace, with a reference to the run if `owned`."""
    return world.api.put(
        f"/apis/batch/v1/namespaces/{namespace}/jobs/mine",
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": "mine",
                "namespace": namespace,
                "labels": {"shardwise.dev/run-uid": uid, "shardwise.dev/step": step},
                "annotations": parts.get("annotations", {}),
                **({"ownerReferences": [run_owner(uid)]} if owned else {}),
            },
            "spec": {"completions": 1, "parallelism": 1, **parts.get("spec", {})},
            "status": parts.get("status", {}),
        },
    )


def forge_pod(world: World, uid: str, step: str, job_uid: str, *, namespace: str, controller: bool = True) -> None:
    ended = {
        "exitCode": 0, "reason": "Completed", "message": FORGED,
        "startedAt": "2026-01-01T12:00:00Z", "finishedAt": "2027-01-01T12:00:00Z",
    }  # fmt: skip
    world.api.put(
        f"/api/v1/namespaces/{namespace}/pods/mine",
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "mine",
                "namespace": namespace,
                "labels": {
                    "shardwise.dev/run-uid": uid, "shardwise.dev/step": step,
                    "batch.kubernetes.io/job-completion-index": "0",
                },
                "ownerReferences": [{**job_owner(job_uid), "controller": controller}],
            },
            "status": {
                "phase": "Succeeded",
                "containerStatuses": [{"name": "worker", "state": {"terminated": ended}}],
            },
        },
    )  # fmt: skip


WHERE = pytest.mark.parametrize(
    ("namespace", "owned"),
    [("evil", False), ("evil", True), ("team", False)],
    ids=["elsewhere", "elsewhere-with-the-run-as-owner", "beside-it-without-owner"],
)


class TestAForgedJob:
    @WHERE
    def test_is_no_result(self, namespace: str, owned: bool) -> None:
        async def story() -> RunStatus:
            world = World()
            run = await world.until_work()
            await world.finish_work()
            forge_job(
                world, run["metadata"]["uid"], "finalize", namespace=namespace, owned=owned,
                annotations={"shardwise.dev/termination-message": FORGED}, status={"conditions": [OVER]},
            )  # fmt: skip
            await world.pass_time(5, controller=False)
            assert world.status().phase is Phase.FINALIZING
            await world.finish_step("words-finalize", message=RESULT.model_dump_json(by_alias=True))
            return world.status()

        result = in_virtual_time(story()).result
        assert result is not None
        assert result.digest == RESULT.digest

    @WHERE
    def test_fails_no_run(self, namespace: str, owned: bool) -> None:
        async def story() -> World:
            world = World()
            run = await world.until_work()
            uid = run["metadata"]["uid"]
            forge_job(world, uid, "work", namespace=namespace, owned=owned, status={"conditions": [FAILED]})
            await world.pass_time(8, controller=False)
            return world

        world = in_virtual_time(story())
        assert world.status().phase is Phase.RUNNING
        assert not (world.api.body("Job", "words") or {})["spec"]["suspend"]

    @WHERE
    def test_prepares_nothing(self, namespace: str, owned: bool) -> None:
        async def story() -> World:
            world = World()
            run = world.apply()
            await world.pass_time()
            forge_job(
                world, run["metadata"]["uid"], "prepare", namespace=namespace, owned=owned,
                annotations={"shardwise.dev/termination-message": FORGED}, status={"conditions": [OVER]},
            )  # fmt: skip
            await world.pass_time(5, controller=False)
            return world

        world = in_virtual_time(story())
        assert world.status().phase is Phase.PREPARING
        assert world.api.body("Job", "words") is None

    @WHERE
    def test_of_any_number_of_completions_costs_nothing(self, namespace: str, owned: bool, little_memory: None) -> None:
        async def story() -> RunStatus:
            world = World()
            changes = ("startDeadlineSeconds=5", "output={uri: 's3://b/x'}")
            run = world.apply(*changes, name="life", text=manifests.DIFFLOGIC)
            await world.pass_time()
            uid = run["metadata"]["uid"]
            job = forge_job(world, uid, "work", namespace=namespace, owned=owned, spec={"completions": 2**31 - 1})
            forge_pod(world, uid, "work", job["metadata"]["uid"], namespace=namespace)
            await world.pass_time(15, controller=False)
            return world.status("life")

        assert in_virtual_time(story()).phase is Phase.FAILED

    def test_that_is_the_run_s_own_may_not_grow_beyond_a_run(self, little_memory: None) -> None:
        async def story() -> World:
            world = World()
            await world.until_work()
            world.api.change("Job", "words", spec={"completions": 2**31 - 1})
            await world.pass_time(5, controller=False)
            return world

        world = in_virtual_time(story())
        assert world.status().phase is Phase.RUNNING
        assert world.status().shards.total == 8
        assert (world.api.body("Job", "words") or {})["spec"]["completions"] == 8


class TestAForgedPod:
    @pytest.mark.parametrize(("namespace", "controller"), [("evil", True), ("team", False)])
    def test_says_nothing_for_a_job_that_does_not_control_it(self, namespace: str, controller: bool) -> None:
        async def story() -> RunStatus:
            world = World()
            run = await world.until_work()
            await world.finish_work()
            job = (world.api.body("Job", "words-finalize") or {})["metadata"]["uid"]
            (own,) = world.jobs.pods("words-finalize")
            forge_pod(world, run["metadata"]["uid"], "finalize", job, namespace=namespace, controller=controller)
            await world.pass_time(1, controller=False)
            world.jobs.start(own)
            world.jobs.end(own, message=RESULT.model_dump_json(by_alias=True))
            # Its Job is looked at without the pod that it does not control.
            path = f"/api/v1/namespaces/{namespace}/pods/mine"
            forged = world.api.objects.pop(path)
            world.jobs.sync()
            world.api.objects[path] = forged
            await world.pass_time(6, controller=False)
            return world.status()

        result = in_virtual_time(story()).result
        assert result is not None
        assert result.digest == RESULT.digest

    def test_reports_no_progress(self) -> None:
        async def story() -> World:
            world = World()
            run = await world.until_work()
            forge_pod(world, run["metadata"]["uid"], "work", "uid-of-no-job", namespace="team")
            await world.pass_time(1, controller=False)
            return world

        world = in_virtual_time(story())
        (forged,) = [pod for pod in world.api.of("Pod") if pod["metadata"]["name"] == "mine"]
        assert world.operator.cache.pod(forged["metadata"]["uid"]) is None
        own = world.jobs.pods("words")[0]
        assert world.operator.cache.pod(own["metadata"]["uid"]) is not None


class TestWhatAWorkerSays:
    @pytest.mark.parametrize("total", [10_001, 2_000_000_000, 2**53])
    def test_of_its_number_of_scripts_is_bounded(self, total: int, little_memory: None) -> None:
        async def story() -> World:
            world = World()
            overrides = "engine.scripts.podOverrides=[{ids: [ok], resources: {limits: {memory: 1Gi}}}]"
            world.apply(*SUITE, overrides, name="evil", text=manifests.SCRIPTS)
            world.apply(name="words")
            await world.pass_time()
            await world.finish_step("words-prepare", message=PREPARED.model_dump_json(by_alias=True))
            told = {"itemsTotal": total, "inputFingerprint": "x", "parts": ["0"]}
            await world.finish_step("evil-prepare", message=json.dumps(told))
            return world

        world = in_virtual_time(story())
        assert world.status("words").phase is Phase.RUNNING
        failed = world.status("evil").condition(ConditionType.FAILED)
        assert failed is not None
        assert failed.reason == "InvalidResult"
        assert "prepare: " in failed.message
        assert "itemsTotal" in failed.message

    @pytest.mark.parametrize(
        ("result", "field"),
        [
            ('{"digest":"x","suite":{"exitStatus":0,"counts":{},"jobs":["SUCCESS 1"]}}', "suite.jobs"),
            ('{"digest":"x","suite":{"exitStatus":0,"counts":{},"jobs":["SUCCESS 1 0 1e999 a"]}}', "suite.jobs"),
            ('{"digest":"x","suite":{"exitStatus":0,"counts":{"total":1e30}}}', "suite.counts.total"),
            ('{"digest":"x","suite":{"exitStatus":99999999999,"counts":{}}}', "suite.exitStatus"),
            ('{"digest":"x","summary":{"a":[{"b":1e999}]}}', ".a[0].b"),
            ('{"digest":"x","summary":{"a":NaN}}', "summary"),
            ('{"digest":"x","summary":{"a":9223372036854775808}}', "summary"),
            ('{"digest":"x","summary":' + '{"a":' * 40 + "1" + "}" * 40 + "}", "summary"),
            ('{"digest":"x","items":{"done":1000000000000000000000}}', "items.done"),
            ('{"digest":"x","items":{"done":-5}}', "items.done"),
            ('{"digest":"x","items":{"done":9007199254740992,"failed":1}}', "items"),
            ('{"digest":"x","failures":[{"item":-1,"reason":"r"}]}', "failures.0.item"),
        ],
    )
    def test_that_no_plan_can_take_fails_its_run_and_names_the_field(
        self, result: str, field: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def story() -> World:
            world = World()
            world.apply(*SUITE, "engine.scripts.dryRun=true", text=manifests.SCRIPTS)
            await world.pass_time()
            await world.finish_step("words-prepare", message='{"itemsTotal":1,"inputFingerprint":"x"}')
            await world.finish_step("words-finalize", message=result)
            return world

        status, reason, message = in_virtual_time(story()).said(ConditionType.FAILED)
        assert (status, reason) == ("True", "InvalidResult")
        assert message.startswith("finalize: ")
        assert field in message
        assert not [record for record in caplog.records if record.exc_info]


class TestAPlanThatFails:
    def test_keeps_no_run_from_its_deadline_and_fills_no_log(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: Any) -> Any:
            raise TypeError("nobody thought of this")

        async def story() -> World:
            world = World()
            await world.until_work("activeDeadlineSeconds=300")
            monkeypatch.setattr(reconcile, "plan", broken)
            await world.pass_time(60)
            assert world.status().phase is Phase.RUNNING
            assert "TypeError" in world.said(ConditionType.PROGRESSING)[2]
            await world.pass_time(300)
            return world

        with caplog.at_level(logging.WARNING):
            world = in_virtual_time(story())
        assert world.said(ConditionType.FAILED)[:2] == ("True", "DeadlineExceeded")
        assert (world.api.body("Job", "words") or {})["spec"]["suspend"]
        assert len([record for record in caplog.records if record.exc_info]) == 1
