"""What is done for a plan: few calls, each safe to repeat, and none that touches what is not the run's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import Run
from shardwise_api.wire import Step
from shardwise_operator.core.actions import Action, DeleteRun, EnsureJob, StopJob, SuspendJob
from shardwise_operator.core.plan import run_document
from shardwise_operator.observe.snapshots import JobSnapshot
from shardwise_operator.shell.api import ApiError
from shardwise_operator.shell.apply import ActionExecutor, NameTaken, NotLeading
from shardwise_operator.shell.cache import Cache
from tests.support import manifests
from tests.support.bodies import job, snapshot_of_job
from tests.support.fake_api import FakeApi, Refusal, unreachable
from tests.support.fake_cluster import ON_A_CLUSTER, SETTINGS, run_body, run_path
from tests.support.virtual_time import in_virtual_time

PATH = "/apis/batch/v1/namespaces/team/jobs/words"
QUEUE = 'worker={labels: {"kueue.x-k8s.io/queue-name": "q"}}'


class Bench:
    """A run in an API server, and an executor."""

    def __init__(self, *changes: str, leading: Callable[[], bool] = lambda: True) -> None:
        self.api = FakeApi()
        self.cache = Cache(on_change=lambda uid: None)
        self.executor = ActionExecutor(api=self.api, cache=self.cache, settings=SETTINGS, leading=leading)
        body = self.api.put(run_path(), run_body(*changes))
        self.cache.upsert_run(body)
        self.run: Run = parse_manifest(manifests.changed(manifests.KATO, *ON_A_CLUSTER, *changes), name="test")
        self.run.metadata.namespace, self.run.metadata.uid = "team", body["metadata"]["uid"]

    def execute(self, action: Action, *, jobs: list[JobSnapshot] | None = None) -> None:
        known = self.cache.jobs(self.run.metadata.uid or "") if jobs is None else jobs
        in_virtual_time(self.executor.execute(self.run, action, jobs=known))

    def ensure(self, *, parallelism: int = 2, jobs: list[JobSnapshot] | None = None) -> None:
        document = run_document(self.run)
        self.execute(EnsureJob(step=Step.WORK, completions=8, parallelism=parallelism, document=document), jobs=jobs)

    def job(self) -> dict[str, Any]:
        found = self.api.body("Job", "words")
        assert found is not None
        return found

    def writes(self) -> list[str]:
        return [f"{call.verb} {call.kind}" for call in self.api.written()]


class Ranks(Bench):
    """A training, and an executor."""

    CHILDREN = ("apply ServiceAccount", "apply NetworkPolicy", "apply Service", "apply ConfigMap", "apply Job")

    def __init__(self) -> None:
        super().__init__()
        changes = ('output={uri: "s3://bucket/prefix"}', "metadata.name=words")
        self.run = parse_manifest(manifests.changed(manifests.DIFFLOGIC, *changes), name="test")
        self.run.metadata.namespace = "team"
        self.run.metadata.uid = self.api.of("TrainingRun")[0]["metadata"]["uid"]

    def ensure(self, *, ranks: int = 3, parallelism: int = 0, jobs: list[JobSnapshot] | None = None) -> None:
        self.run.spec.sharding.shards = ranks
        document = run_document(self.run)
        self.execute(EnsureJob(step=Step.WORK, completions=ranks, parallelism=ranks, document=document), jobs=jobs)

    def told(self) -> int:
        """The number that a rank reads when it starts."""
        found = self.api.body("ConfigMap", "words")
        assert found is not None
        number: int = json.loads(found["data"]["run.json"])["spec"]["sharding"]["shards"]
        return number


def test_a_step_is_made_from_the_bottom_up_and_known_at_once() -> None:
    bench = Bench()
    bench.ensure()
    assert bench.writes() == ["apply ServiceAccount", "apply NetworkPolicy", "apply ConfigMap", "apply Job"]
    assert [seen.name for seen in bench.cache.jobs(bench.run.metadata.uid or "")] == ["words"]


def test_a_step_that_is_as_it_should_be_costs_no_call() -> None:
    bench = Bench()
    bench.ensure()
    before = len(bench.api.calls)
    bench.ensure()
    assert len(bench.api.calls) == before


def test_what_an_earlier_try_left_half_made_is_finished() -> None:
    bench = Bench()
    bench.ensure()
    bench.api.remove(PATH)
    bench.ensure(jobs=[])
    assert bench.job()["spec"]["completions"] == 8


def test_a_job_made_by_a_predecessor_is_taken_over() -> None:
    bench = Bench()
    bench.ensure()
    uid = bench.job()["metadata"]["uid"]
    bench.ensure(jobs=[])
    assert bench.job()["metadata"]["uid"] == uid


def test_parallelism_and_resuming_are_one_small_patch() -> None:
    bench = Bench()
    bench.ensure()
    bench.execute(SuspendJob(step=Step.WORK))
    assert bench.job()["spec"]["suspend"] is True
    bench.ensure(parallelism=5)
    assert (bench.job()["spec"]["suspend"], bench.job()["spec"]["parallelism"]) == (False, 5)
    assert bench.writes()[4:] == ["merge Job", "merge Job"]


def test_stopping_twice_is_one_call() -> None:
    bench = Bench()
    bench.ensure()
    for _ in range(2):
        bench.execute(StopJob(step=Step.WORK))
    assert bench.writes()[4:] == ["merge Job"]


def test_what_has_ended_or_goes_is_left_alone() -> None:
    bench = Bench()
    bench.ensure()
    made = len(bench.api.calls)
    for body in (
        job(metadata={"deletionTimestamp": "2026-01-01T12:00:00Z"}),
        job(status={"conditions": [{"type": "Complete", "status": "True"}]}),
    ):
        bench.ensure(parallelism=7, jobs=[snapshot_of_job(body)])
        bench.execute(StopJob(step=Step.WORK), jobs=[snapshot_of_job(body)])
        bench.execute(SuspendJob(step=Step.WORK), jobs=[snapshot_of_job(body)])
    assert len(bench.api.calls) == made


class TestRanks:
    """Their number changes: first what they read, then how many there are."""

    def test_that_are_as_they_should_be_cost_one_look_at_what_they_read_and_then_nothing(self) -> None:
        bench = Ranks()
        bench.ensure(ranks=3)
        bench.ensure(ranks=3)
        before = len(bench.api.calls)
        bench.ensure(ranks=3)
        assert len(bench.api.calls) == before
        assert bench.writes() == [*Ranks.CHILDREN, "apply ConfigMap"]

    @pytest.mark.parametrize("number", [2, 5])
    def test_learn_of_another_number_before_there_are_as_many(self, number: int) -> None:
        bench = Ranks()
        bench.ensure(ranks=3)
        bench.ensure(ranks=number)
        assert bench.writes()[-2:] == ["apply ConfigMap", "merge Job"]
        assert (bench.job()["spec"]["completions"], bench.job()["spec"]["parallelism"]) == (number, number)
        assert bench.told() == number

    def test_are_told_again_when_an_answer_was_lost_and_the_number_is_the_old_one_by_then(self) -> None:
        bench = Ranks()
        bench.ensure(ranks=3)
        bench.ensure(ranks=3)
        bench.api.refusals.append(Refusal(error=unreachable(), kind="ConfigMap", verb="apply", done_all_the_same=True))
        with pytest.raises(ApiError):
            bench.ensure(ranks=5)
        assert (bench.told(), bench.job()["spec"]["completions"]) == (5, 3)
        bench.api.refusals.clear()
        bench.ensure(ranks=3)
        assert (bench.told(), bench.job()["spec"]["completions"]) == (3, 3)

    def test_are_told_again_when_the_job_s_size_was_refused_and_the_number_is_the_old_one_by_then(self) -> None:
        bench = Ranks()
        bench.ensure(ranks=3)
        bench.api.refusals.append(Refusal(error=unreachable(), kind="Job", verb="merge"))
        with pytest.raises(ApiError):
            bench.ensure(ranks=5)
        bench.api.refusals.clear()
        bench.ensure(ranks=3)
        assert (bench.told(), bench.job()["spec"]["completions"]) == (3, 3)

    def test_are_told_by_an_operator_that_does_not_know_what_the_last_one_wrote(self) -> None:
        bench = Ranks()
        bench.ensure(ranks=3)
        path = "/api/v1/namespaces/team/configmaps/words"
        bench.api.put(path, {**bench.api.objects[path], "data": {"run.json": "{}"}})
        bench.executor = ActionExecutor(api=bench.api, cache=bench.cache, settings=SETTINGS)
        bench.ensure(ranks=3)
        assert bench.told() == 3

    def test_of_a_suspended_training_change_with_its_resumption(self) -> None:
        bench = Ranks()
        bench.ensure(ranks=3)
        bench.execute(SuspendJob(step=Step.WORK))
        bench.ensure(ranks=4)
        spec = bench.job()["spec"]
        assert (spec["suspend"], spec["completions"], spec["parallelism"]) == (False, 4, 4)

    def test_that_are_done_are_left_alone(self) -> None:
        bench = Ranks()
        bench.ensure(ranks=3)
        before = bench.writes()
        body = job(status={"conditions": [{"type": "Complete", "status": "True"}]})
        bench.ensure(ranks=4, jobs=[snapshot_of_job(body)])
        assert bench.writes() == before


class TestQueue:
    def test_decides_when_a_job_goes_on(self) -> None:
        bench = Bench(QUEUE)
        bench.ensure()
        assert bench.job()["spec"]["suspend"] is True
        bench.ensure(parallelism=3)
        assert (bench.job()["spec"]["suspend"], bench.job()["spec"]["parallelism"]) == (True, 3)

    def test_would_let_a_stopped_job_go_on_so_that_it_is_deleted(self) -> None:
        bench = Bench(QUEUE)
        bench.ensure()
        bench.execute(StopJob(step=Step.WORK))
        assert bench.api.body("Job", "words") is None


class TestOthers:
    @pytest.mark.parametrize("owners", [[], [{"uid": "somebody"}]])
    def test_keep_what_has_the_name(self, owners: list[dict[str, str]]) -> None:
        bench = Bench()
        theirs = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "words", "namespace": "team",
                  "ownerReferences": owners}, "spec": {"parallelism": 1}}  # fmt: skip
        before = bench.api.put(PATH, theirs)
        with pytest.raises(NameTaken, match="Job words is there and not of this run: delete it"):
            bench.ensure()
        assert bench.job() == before

    def test_are_not_patched_though_the_end_of_ours_was_missed(self) -> None:
        bench = Bench()
        bench.ensure()
        bench.api.remove(PATH)
        theirs = bench.api.put(
            PATH, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "words", "namespace": "team"}}
        )
        bench.execute(SuspendJob(step=Step.WORK))
        assert bench.job() == theirs
        assert bench.cache.jobs(bench.run.metadata.uid or "") == []

    def test_are_not_deleted_though_the_end_of_ours_was_missed(self) -> None:
        bench = Bench(QUEUE)
        bench.ensure()
        bench.api.remove(PATH)
        theirs = bench.api.put(
            PATH, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "words", "namespace": "team"}}
        )
        bench.execute(StopJob(step=Step.WORK))
        assert bench.job() == theirs

    def test_of_the_runs_name_are_not_deleted(self) -> None:
        bench = Bench()
        bench.api.remove(run_path())
        again = bench.api.put(run_path(), run_body())
        bench.execute(DeleteRun())
        assert bench.api.body("TrainingRun", "words") == again

    def test_a_child_that_is_on_its_way_out_is_waited_for(self) -> None:
        bench = Bench()
        bench.ensure()
        bench.api.change("Job", "words", metadata={"deletionTimestamp": "2026-01-01T12:00:00Z"})
        with pytest.raises(NameTaken, match="Job words is being deleted"):
            bench.ensure(jobs=[])


class TestLoss:
    def test_of_a_job_that_no_watch_showed_is_learned_from_the_answer(self) -> None:
        bench = Bench()
        bench.ensure()
        bench.api.remove(PATH)
        bench.ensure(parallelism=5)
        assert bench.cache.jobs(bench.run.metadata.uid or "") == []
        bench.ensure(parallelism=5)
        assert bench.job()["spec"]["parallelism"] == 5

    def test_a_run_that_is_gone_already_is_deleted(self) -> None:
        bench = Bench()
        bench.api.remove(run_path())
        bench.execute(DeleteRun())

    def test_of_a_message_is_no_loss_once_it_was_written_down(self) -> None:
        bench = Bench()
        bench.ensure()
        (seen,) = bench.cache.jobs(bench.run.metadata.uid or "")
        in_virtual_time(bench.executor.keep_message(bench.run, seen, "found"))
        in_virtual_time(bench.executor.delete_job(bench.run, seen, if_unchanged=True))
        assert bench.job()["metadata"]["annotations"] == {"shardwise.dev/termination-message": "found"}


def test_of_two_jobs_of_a_step_the_newest_is_meant() -> None:
    bench = Bench()
    bench.ensure()
    (new,) = bench.cache.jobs(bench.run.metadata.uid or "")
    bench.ensure(parallelism=6, jobs=[snapshot_of_job(job(uid="old")), new])
    assert bench.job()["spec"]["parallelism"] == 6


def test_who_does_not_lead_does_nothing() -> None:
    bench = Bench(leading=lambda: False)
    for action in (DeleteRun(), SuspendJob(step=Step.WORK)):
        with pytest.raises(NotLeading):
            bench.execute(action, jobs=[snapshot_of_job(job())])
    with pytest.raises(NotLeading):
        bench.ensure(jobs=[])
    assert bench.writes() == []


class TestADeletedJob:
    def test_is_gone_at_once_whatever_the_watch_shows(self) -> None:
        bench = Bench(QUEUE)
        bench.ensure()
        bench.execute(StopJob(step=Step.WORK))
        assert bench.cache.jobs(bench.run.metadata.uid or "") == []

    def test_that_somebody_else_had_deleted_is_too(self) -> None:
        bench = Bench(QUEUE)
        bench.ensure()
        bench.api.remove(PATH)
        bench.execute(StopJob(step=Step.WORK))
        assert bench.cache.jobs(bench.run.metadata.uid or "") == []

    def test_that_is_another_by_now_is_left_alone(self) -> None:
        bench = Bench(QUEUE)
        bench.ensure()
        before = bench.cache.jobs(bench.run.metadata.uid or "")
        bench.api.remove(PATH)
        bench.ensure(jobs=[])
        bench.execute(StopJob(step=Step.WORK), jobs=before)
        assert bench.api.body("Job", "words") is not None

    def test_that_a_finalizer_keeps_stays_until_it_is_shown_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench(QUEUE)
        bench.ensure()

        def kept(path: str, known: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
            return bench.api.put(path, {**known, "metadata": {**known["metadata"], "deletionTimestamp": "now"}})

        monkeypatch.setattr(bench.api, "_delete", kept)
        bench.execute(StopJob(step=Step.WORK))
        assert len(bench.cache.jobs(bench.run.metadata.uid or "")) == 1
