"""What stands in a run's way is a condition, and goes by itself when it is mended; others' things stay theirs."""

from __future__ import annotations

import logging

import pytest

from shardwise_api.status import ConditionType, Phase
from shardwise_operator.shell import reconcile
from shardwise_operator.shell.api import ApiError
from shardwise_operator.shell.reconcile import LONGEST_BACKOFF_SECONDS
from tests.support.fake_api import Refusal, forbidden, unreachable
from tests.support.fake_cluster import World, run_path
from tests.support.plans import PREPARED
from tests.support.virtual_time import in_virtual_time

QUOTA = 'jobs.batch "words-prepare" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: 5, limited: 5'
RBAC = (
    'jobs.batch "words-prepare" is forbidden: User "system:serviceaccount:shardwise:shardwise" cannot patch resource '
    '"jobs" in API group "batch" in the namespace "team"'
)
SCHEMA = 'Job.batch "words-prepare" is invalid: spec.template.spec.containers[0].image: Required value'


class TestRefusals:
    @pytest.mark.parametrize(
        ("error", "reason", "words"),
        [
            (forbidden(QUOTA), "QuotaExceeded", "exceeded quota: q"),
            (forbidden(RBAC), "Forbidden", "install the chart with its rbac"),
            (ApiError(status=422, reason="Invalid", message=SCHEMA), "Invalid", "containers[0].image"),
            (unreachable(), "Unreachable", "the API server does not answer"),
            (ApiError(status=500, reason="InternalError", message="webhook failed"), "InternalError", "webhook failed"),
        ],
    )
    def test_a_refused_child_is_said_and_made_when_it_may_be(self, error: ApiError, reason: str, words: str) -> None:
        async def story() -> None:
            world = World()
            world.api.refusals.append(Refusal(error=error, kind="Job", verb="apply"))
            world.apply()
            await world.pass_time(5)
            assert world.said(ConditionType.PODS_READY)[:2] == ("False", reason)
            assert words in world.said(ConditionType.PODS_READY)[2]
            assert world.told().count("PodsNotStarting") == 1
            world.api.refusals.clear()
            await world.pass_time(LONGEST_BACKOFF_SECONDS + 2)
            assert world.api.body("Job", "words-prepare") is not None
            world.jobs.start(world.jobs.pods()[0])
            await world.pass_time()
            assert world.said(ConditionType.PODS_READY)[:2] == ("True", "AllRunning")

        in_virtual_time(story())

    def test_who_is_refused_for_ever_asks_less_and_less_often(self) -> None:
        async def story() -> None:
            world = World()
            world.api.refusals.append(Refusal(error=forbidden(QUOTA), kind="Job", verb="apply"))
            world.apply()
            await world.pass_time(300)
            asked = [call.at for call in world.api.calls if call.verb == "apply" and call.kind == "Job"]
            assert len(asked) < 20
            assert asked[-1] - asked[-2] >= LONGEST_BACKOFF_SECONDS - 1

        in_virtual_time(story())

    def test_a_status_that_may_not_be_written_is_tried_less_and_less_often_and_written_in_the_end(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def story() -> None:
            world = World()
            world.api.refusals.append(Refusal(error=forbidden("no"), kind="TrainingRun", verb="replace"))
            world.apply()
            await world.pass_time(300)
            assert len(world.api.written(verb="replace")) < 25
            world.api.refusals.clear()
            await world.pass_time(LONGEST_BACKOFF_SECONDS + 1)
            assert world.status().phase is Phase.PREPARING

        with caplog.at_level(logging.WARNING):
            in_virtual_time(story())
        assert "Forbidden: no" in caplog.text

    def test_a_message_that_may_not_be_kept_holds_the_run_and_is_said(self) -> None:
        async def story() -> None:
            world = World()
            world.api.refusals.append(Refusal(error=forbidden(RBAC), kind="Job", verb="merge"))
            world.apply()
            await world.pass_time()
            await world.finish_step("words-prepare", message=PREPARED.model_dump_json(by_alias=True))
            assert world.said(ConditionType.PODS_READY)[:2] == ("False", "Forbidden")
            assert world.api.body("Job", "words") is None
            world.api.refusals.clear()
            await world.pass_time(LONGEST_BACKOFF_SECONDS + 2)
            assert world.api.body("Job", "words") is not None

        in_virtual_time(story())

    def test_a_run_that_may_not_be_deleted_is_tried_again(self) -> None:
        async def story() -> None:
            world = World()
            world.api.refusals.append(Refusal(error=unreachable(), verb="delete", times=2))
            await world.until_work("ttlSecondsAfterFinished=5")
            await world.finish()
            await world.pass_time(60)
            assert world.api.objects == {}

        in_virtual_time(story())

    def test_without_an_api_server_for_minutes_nothing_is_lost(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            world.api.refusals.append(Refusal(error=unreachable()))
            await world.finish_work()
            await world.pass_time(300)
            world.api.refusals.clear()
            await world.pass_time(LONGEST_BACKOFF_SECONDS + 2)
            assert world.status().phase is Phase.FINALIZING
            assert world.status().shards.succeeded == 8

        in_virtual_time(story())


class TestStuckPods:
    def test_an_image_that_cannot_be_pulled_is_said_until_it_can(self) -> None:
        async def story() -> None:
            world = World()
            world.apply()
            await world.pass_time()
            (pod,) = world.jobs.pods()
            for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"):
                world.jobs.wait(pod, reason=reason, message='Back-off pulling image "nowhere/worker:9"')
                await world.pass_time()
                assert world.said(ConditionType.PODS_READY)[:2] == ("False", "ImagePullBackOff")
            assert world.told().count("PodsNotStarting") == 1
            world.jobs.start(pod)
            await world.pass_time()
            assert world.said(ConditionType.PODS_READY)[:2] == ("True", "AllRunning")

        in_virtual_time(story())

    def test_a_job_without_pods_is_explained_by_its_events_until_it_has_some(self) -> None:
        async def story() -> None:
            world = World()
            world.apply()
            await world.pass_time(1, controller=False)
            (job,) = world.api.of("Job")
            self._event(world, job, 'pods "words-prepare-0-x" is forbidden: violates PodSecurity "restricted:latest"')
            await world.pass_time(20, controller=False)
            assert world.said(ConditionType.PODS_READY)[:2] == ("False", "PodSecurityViolation")
            asked = [call for call in world.api.calls if call.kind == "Event"]
            assert len(asked) <= 3
            world.jobs.sync()
            world.jobs.start(world.jobs.pods()[0])
            await world.pass_time()
            assert world.said(ConditionType.PODS_READY)[:2] == ("True", "AllRunning")

        in_virtual_time(story())

    def test_what_was_mended_before_the_last_pod_was_made_is_not_said_again(self) -> None:
        async def story() -> None:
            world = World()
            world.apply()
            await world.pass_time(1, controller=False)
            (job,) = world.api.of("Job")
            self._event(world, job, 'pods "words-prepare-0-x" is forbidden: exceeded quota: q')
            await world.pass_time(8, controller=False)
            world.jobs.sync()
            (pod,) = world.jobs.pods()
            world.jobs.start(pod)
            await world.pass_time()
            # Between two attempts a Job has no pod for a while.
            world.jobs.end(pod, code=1)
            await world.pass_time(20, controller=False)
            assert world.said(ConditionType.PODS_READY)[:2] == ("False", "WaitingForPods")

        in_virtual_time(story())

    def test_events_that_cannot_be_read_do_not_hold_a_run(self) -> None:
        async def story() -> None:
            world = World()
            world.api.refusals.append(Refusal(error=forbidden("no events for you"), kind="Event"))
            world.apply()
            await world.pass_time(12, controller=False)
            assert world.status().phase is Phase.PREPARING
            world.api.change("TrainingRun", "words", spec={"suspend": True})
            await world.pass_time(5, controller=False)
            assert world.status().phase is Phase.SUSPENDED

        in_virtual_time(story())

    @staticmethod
    def _event(world: World, job: dict[str, object], message: str) -> None:
        metadata = job["metadata"]
        assert isinstance(metadata, dict)
        world.api.put(
            "/api/v1/namespaces/team/events/e",
            {
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "team"}, "type": "Warning",
                "reason": "FailedCreate", "message": message, "lastTimestamp": metadata["creationTimestamp"],
                "involvedObject": {"kind": "Job", "uid": metadata["uid"]},
            },
        )  # fmt: skip


class TestForeignObjects:
    @pytest.mark.parametrize(
        ("kind", "collection"),
        [
            ("Job", "/apis/batch/v1/namespaces/team/jobs/words-prepare"),
            ("ConfigMap", "/api/v1/namespaces/team/configmaps/words-prepare"),
            ("ServiceAccount", "/api/v1/namespaces/team/serviceaccounts/words"),
            ("NetworkPolicy", "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/words"),
        ],
    )
    def test_a_name_that_is_taken_is_said_and_its_owner_left_alone(self, kind: str, collection: str) -> None:
        async def story() -> None:
            world = World()
            name = collection.rsplit("/", 1)[1]
            # Of a Job that nobody's controller touches: suspended, as it were ended long ago.
            theirs = world.api.put(
                collection,
                {"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name, "namespace": "team"},
                 "status": {"conditions": [{"type": "Complete", "status": "True"}]}},
            )  # fmt: skip
            world.apply("ttlSecondsAfterFinished=0")
            await world.pass_time(60)
            status, reason, message = world.said(ConditionType.PODS_READY)
            assert (status, reason) == ("False", "NameTaken")
            assert f"{kind} {name}" in message
            assert "delete it, or give the run another name" in message
            world.api.remove(run_path())
            await world.pass_time()
            assert list(world.api.objects.values()) == [theirs]

        in_virtual_time(story())

    def test_once_the_name_is_free_the_run_begins(self) -> None:
        async def story() -> None:
            world = World()
            path = "/api/v1/namespaces/team/configmaps/words-prepare"
            world.api.put(
                path,
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words-prepare", "namespace": "team"}},
            )
            world.apply()
            await world.pass_time()
            world.api.remove(path)
            await world.pass_time(LONGEST_BACKOFF_SECONDS + 2)
            assert world.api.body("Job", "words-prepare") is not None
            assert world.said(ConditionType.PODS_READY)[1] != "NameTaken"

        in_virtual_time(story())


class TestLeading:
    def test_who_does_not_lead_writes_nothing(self) -> None:
        async def story() -> None:
            world = World(leading=lambda: False)
            world.apply()
            await world.pass_time(30)
            assert world.api.written() == []

        in_virtual_time(story())

    def test_who_leads_no_longer_stops_between_two_writes(self) -> None:
        async def story() -> None:
            world = World(leading=lambda: len(world.api.written()) < 2)
            world.apply()
            await world.pass_time(30)
            assert [call.kind for call in world.api.written()] == ["ServiceAccount", "NetworkPolicy"]

        in_virtual_time(story())

    def test_who_follows_stops_its_loops_and_who_leads_again_starts_them(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            world.operator.manager.stop_leading()
            before = len(world.api.calls)
            await world.finish_work()
            assert len(world.api.calls) == before
            assert world.operator.manager.known_runs() == []
            world.operator.manager.start_leading()
            await world.pass_time()
            assert world.status().phase is Phase.FINALIZING

        in_virtual_time(story())


class TestManager:
    def test_a_look_that_hangs_is_a_problem(self) -> None:
        async def story() -> None:
            world = World()
            world.apply()
            await world.pass_time()
            assert world.operator.manager.problem() is None
            world.api.latency = lambda: 1000.0
            world.api.change("TrainingRun", "words", spec={"suspend": True})
            await world.pass_time(300)
            assert "1 runs are stuck" in (world.operator.manager.problem() or "")

        in_virtual_time(story())

    def test_an_error_nobody_thought_of_is_logged_and_tried_again(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(**_: object) -> None:
            raise RuntimeError("nobody thought of this")

        async def story() -> None:
            world = World()
            await world.until_work()
            with monkeypatch.context() as patched:
                patched.setattr(reconcile, "requeue_after", broken)
                await world.pass_time(20)
            world.api.change("Job", "words", status={"completedIndexes": "0"})
            await world.pass_time(40)
            assert world.status().shards.succeeded == 1

        in_virtual_time(story())
        assert caplog.text.count("unexpected") == 1

    def test_a_job_whose_status_somebody_spoiled_is_read_again_when_it_is_mended(self) -> None:
        async def story() -> None:
            world = World()
            await world.until_work()
            world.api.change("Job", "words", status={"completedIndexes": "not-an-index"})
            await world.pass_time(controller=False)
            world.api.change("Job", "words", status={"completedIndexes": "0"})
            await world.pass_time(40)
            assert world.status().shards.succeeded == 1

        in_virtual_time(story())
