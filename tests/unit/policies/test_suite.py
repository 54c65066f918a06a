"""A suite of scripts in the pure core: a shard for each script that was found, none ends the others, and a verdict."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, Failure, Phase, RunStatus
from shardwise_api.wire import (
    ExitCode,
    ItemCounts,
    PrepareResult,
    RunResult,
    Step,
    StepFailure,
    SuiteCounts,
    SuiteJobStatus,
    SuiteResult,
)
from shardwise_operator.core.actions import EnsureJob, SuspendJob
from shardwise_operator.core.events import run_events
from shardwise_operator.core.observed import JobState, JobView
from shardwise_operator.core.plan import Plan
from shardwise_operator.core.policies import policy_of
from shardwise_operator.core.retry_policy import LONGEST_PAUSE_SECONDS
from tests.support import manifests
from tests.support.plans import ONE_RUNS, T0, condition, ensured, observe, plans, report, states, work_view

IDS = ["ok", "flaky", "bad", "slow", "memory"]
PREPARED = PrepareResult(items_total=5, input_fingerprint="sha256:1", details={"ids": IDS})


def suite(*changes: str) -> Run:
    run = parse_manifest(manifests.changed(manifests.SCRIPTS, "engine.scripts.maxWorkers=3", *changes), name="test")
    run.metadata.uid = "1234"
    return run


def prepare_done(prepared: PrepareResult = PREPARED) -> JobView:
    return JobView(state=JobState.COMPLETE, message=prepared.model_dump_json(by_alias=True), started=T0, ended=T0)


def work(state: JobState = JobState.RUNNING, **fields: Any) -> JobView:
    return work_view(state, **{"completions": 5, "parallelism": 3, "active": 0, **fields})


def over(*failed: int, reason: str = "FailedIndexes") -> JobView:
    return work(
        JobState.FAILED if failed else JobState.COMPLETE,
        completed=frozenset(range(5)) - set(failed),
        failed=frozenset(failed),
        reason=reason if failed else "",
        ended=T0 + timedelta(seconds=50),
    )


def finalized(exit_status: int = 0, **fields: Any) -> JobView:
    told = SuiteResult(
        exit_status=exit_status,
        message="" if exit_status == 0 else "1 of 5 mandatory jobs did not succeed: bad (exit code 3)",
        counts=SuiteCounts(total=5, success=4, failed=1),
        jobs=["SUCCESS 1 0 0.24 ok", "SUCCESS 2 0 0.5 flaky", "FAILED 2 3 0.19 bad", "TIMEOUT 1 - - slow or not"],
    )
    result = RunResult(
        digest="sha256:2", uri="file:///out/summary.json", items=ItemCounts(done=4, failed=1), suite=told, **fields
    )
    return JobView(state=JobState.COMPLETE, message=result.model_dump_json(by_alias=True))


def jobs_of(status: RunStatus) -> dict[str, str]:
    assert status.suite is not None
    return {job.id: job.status for job in status.suite.jobs}


class TestTheWorkJob:
    def test_has_one_index_for_each_script_that_was_found(self) -> None:
        job = ensured(plans(suite(), observe(prepare=prepare_done())).actions)
        assert (job.step, job.completions, job.parallelism) == (Step.WORK, 5, 3)

    def test_has_no_more_workers_than_scripts(self) -> None:
        job = ensured(plans(suite("engine.scripts.maxWorkers=100"), observe(prepare=prepare_done())).actions)
        assert job.parallelism == 5

    def test_tries_as_often_as_the_suite_says_and_is_ended_by_no_exit_code(self) -> None:
        rules = policy_of(suite("engine.scripts.retries=2")).retry(step=Step.WORK, completions=5)
        assert (rules.per_index, rules.max_failed) == (2, 5)
        assert not rules.fail_job_codes

    def test_does_not_try_again_what_could_not_be_started_for_want_of_a_script(self) -> None:
        rules = policy_of(suite("engine.scripts.retries=2")).retry(step=Step.WORK, completions=5)
        assert rules.fail_index_codes == {ExitCode.NO_SCRIPT}

    @pytest.mark.parametrize("step", [Step.PREPARE, Step.FINALIZE])
    def test_alone_is_special_single_steps_end_with_bad_settings(self, step: Step) -> None:
        rules = policy_of(suite("engine.scripts.retries=2")).retry(step=step, completions=1)
        assert (rules.per_index, rules.max_failed) == (1, 0)
        assert (rules.fail_job_codes, rules.fail_index_codes) == (frozenset({2}), frozenset())

    @pytest.mark.parametrize(
        ("growth", "pauses"),
        [("1", [2, 2, 2]), ("3", [2, 6, 18])],
    )
    def test_waits_between_attempts_as_the_suite_says_where_it_can(self, growth: str, pauses: list[float]) -> None:
        rules = policy_of(suite(f"engine.scripts.retryBackoff={growth}")).retry(step=Step.WORK, completions=5)
        assert [rules.pause(failures) for failures in (1, 2, 3)] == pauses

    def test_waits_an_hour_at_most(self) -> None:
        rules = policy_of(suite("engine.scripts.retryBackoff=10")).retry(step=Step.WORK, completions=5)
        assert rules.pause(5000) == LONGEST_PAUSE_SECONDS

    @pytest.mark.parametrize("failed", [(2,), (0, 1, 2, 3, 4)])
    def test_goes_to_the_last_step_however_many_failed(self, failed: tuple[int, ...]) -> None:
        job = ensured(plans(suite(), observe(prepare=prepare_done(), work=over(*failed))).actions)
        assert job.step is Step.FINALIZE
        assert job.document.worked is not None
        assert (job.document.worked.seconds, job.document.worked.workers) == (50, 3)

    def test_tells_as_many_workers_as_it_may_have_had_whatever_its_jobs_say_at_their_end(self) -> None:
        view = replace(over(), parallelism=0)
        job = ensured(plans(suite("engine.scripts.maxWorkers=4"), observe(prepare=prepare_done(), work=view)).actions)
        assert job.document.worked is not None
        assert job.document.worked.workers == 4

    @pytest.mark.parametrize(
        ("changes", "prepared"),
        [
            (["engine.scripts.dryRun=true"], PREPARED),
            ([], PREPARED.model_copy(update={"items_total": 0})),
            ([], PREPARED.model_copy(update={"already_complete": True})),
        ],
        ids=["dry run", "nothing selected", "all done before"],
    )
    def test_is_left_out_when_there_is_nothing_to_run(self, changes: list[str], prepared: PrepareResult) -> None:
        job = ensured(plans(suite(*changes), observe(prepare=prepare_done(prepared))).actions)
        assert job.step is Step.FINALIZE


class TestWorkersThatSaidNothing:
    def ends(self, *failures: Failure, failed: tuple[int, ...] = (2, 4), run: Run | None = None) -> list[Any]:
        observed = observe(prepare=prepare_done(), work=over(*failed), failures=failures)
        worked = ensured(plans(run or suite(), observed).actions).document.worked
        assert worked is not None
        return [(end.shard, end.exit_code, end.reason) for end in worked.ends]

    def test_are_spoken_for_by_the_runner(self) -> None:
        killed = Failure(shard=4, exit_code=137, reason="OOMKilled")
        assert self.ends(killed) == [(4, 137, "OOMKilled")]

    def test_are_spoken_for_by_their_last_attempt(self) -> None:
        first, last = (Failure(shard=4, exit_code=code, reason="Error") for code in (1, 137))
        assert self.ends(first, last) == [(4, 137, "Error")]

    def test_and_came_to_a_good_end_later_are_not_spoken_for(self) -> None:
        assert self.ends(Failure(shard=1, exit_code=137, reason="OOMKilled")) == []

    def test_are_remembered_when_their_pods_are_gone(self) -> None:
        run = suite()
        killed = Failure(shard=4, exit_code=137, reason="OOMKilled", message="x" * 900)
        plans(run, observe(prepare=prepare_done(), work=work(failed=frozenset({4})), failures=[killed]))
        assert self.ends(run=run) == [(4, 137, "OOMKilled")]

    def test_are_no_matter_of_other_engines(self) -> None:
        run = parse_manifest(manifests.changed(manifests.KATO, "retry.maxFailedShards=8"), name="test")
        view = work_view(
            JobState.FAILED,
            failed=frozenset({1}),
            completed=frozenset(range(8)) - {1},
            reason="FailedIndexes",
            ended=T0,
        )
        killed = Failure(shard=1, exit_code=137, reason="OOMKilled")
        job = ensured(plans(run, observe(prepare=prepare_done(), work=view, failures=[killed])).actions)
        assert job.document.worked is not None
        assert job.document.worked.ends == []


class TestTheVerdict:
    def made(self, exit_status: int, **fields: Any) -> RunStatus:
        observed = observe(at=60, prepare=prepare_done(), work=over(2), finalize=finalized(exit_status, **fields))
        return plans(suite(), observed).status

    def test_of_a_suite_that_is_well_completes_the_run(self) -> None:
        status = self.made(0, warnings=["only: no job has the id 'x'"])
        assert status.phase is Phase.COMPLETE
        assert condition(status, ConditionType.COMPLETE).message == "only: no job has the id 'x'"

    @pytest.mark.parametrize(("exit_status", "reason"), [(1, "MandatoryJobFailed"), (130, "Interrupted")])
    def test_of_one_that_is_not_fails_it_and_leaves_the_result(self, exit_status: int, reason: str) -> None:
        status = self.made(exit_status)
        failed = condition(status, ConditionType.FAILED)
        assert (status.phase, failed.reason) == (Phase.FAILED, reason)
        assert failed.message == "1 of 5 mandatory jobs did not succeed: bad (exit code 3)"
        assert status.result is not None
        assert status.result.digest == "sha256:2"
        assert status.completion_time is not None
        assert status.suite is not None
        assert status.suite.exit_status == exit_status

    def test_says_too_what_was_odd(self) -> None:
        status = self.made(1, warnings=["only: no job has the id 'x'"])
        assert condition(status, ConditionType.FAILED).message.endswith("; only: no job has the id 'x'")

    def test_comes_with_every_job_that_there_is_room_for(self) -> None:
        status = self.made(1)
        assert status.suite is not None
        assert status.suite.jobs == [
            SuiteJobStatus(id="ok", status="SUCCESS", attempts=1, exit_code=0, duration_seconds=0.24),
            SuiteJobStatus(id="flaky", status="SUCCESS", attempts=2, exit_code=0, duration_seconds=0.5),
            SuiteJobStatus(id="bad", status="FAILED", attempts=2, exit_code=3, duration_seconds=0.19),
            SuiteJobStatus(id="slow or not", status="TIMEOUT", attempts=1),
        ]
        assert status.suite.counts == SuiteCounts(total=5, success=4, failed=1)
        assert status.suite.summary_uri == "file:///out/summary.json"

    @pytest.mark.parametrize(
        ("reason", "exit_status"), [("NothingDiscovered", 3), ("InvalidSpec", 2), ("WorkerFailed", 1)]
    )
    def test_of_a_suite_that_never_began_is_an_exit_status_too(self, reason: str, exit_status: int) -> None:
        told = StepFailure(reason=reason, message="no").model_dump_json()
        status = plans(suite(), observe(prepare=JobView(state=JobState.FAILED, message=told))).status
        assert status.suite is not None
        assert (status.suite.exit_status, status.suite.counts.total) == (exit_status, 0)
        assert condition(status, ConditionType.FAILED).reason == reason

    def test_of_one_that_was_well_before_says_that_nothing_was_run(self) -> None:
        done = PREPARED.model_copy(update={"already_complete": True})
        status = plans(suite(), observe(prepare=prepare_done(done), finalize=finalized(0))).status
        assert condition(status, ConditionType.COMPLETE).message == (
            "nothing was left to do: every script had succeeded already"
        )

    def test_of_a_dry_run_says_of_no_shard_that_it_was_done(self) -> None:
        observed = observe(prepare=prepare_done(), finalize=finalized(0))
        status = plans(suite("engine.scripts.dryRun=true"), observed).status
        assert (status.phase, status.shards.total, status.shards.succeeded) == (Phase.COMPLETE, 5, 0)


class TestWhereItIs:
    def test_is_told_by_script(self) -> None:
        view = work(active=2, running=frozenset({1, 3}), completed=frozenset({0}), failed=frozenset({2}))
        status = plans(suite(), observe(prepare=prepare_done(), work=view)).status
        assert jobs_of(status) == {
            "ok": "SUCCESS", "flaky": "RUNNING", "bad": "FAILED", "slow": "RUNNING", "memory": "PENDING",
        }  # fmt: skip
        assert status.suite is not None
        assert status.suite.counts == SuiteCounts(total=5, success=1, failed=1)
        assert status.suite.exit_status is None
        assert (status.items.total, status.items.done, status.items.failed) == (5, 1, 1)
        assert (status.shards.total, status.progress.percent) == (5, 40)

    def test_is_unknown_until_the_scripts_are_found(self) -> None:
        status = plans(suite(), observe(prepare=ONE_RUNS)).status
        assert (status.shards.total, status.items.total) == (0, None)
        assert jobs_of(status) == {}

    def test_is_interrupted_while_it_is_suspended_and_goes_on_afterwards(self) -> None:
        run = suite()
        run.spec.suspend = True
        begun = work(active=1, running=frozenset({1}), completed=frozenset({0}))
        asked = plans(run, observe(prepare=prepare_done(), work=begun))
        assert asked.actions == (SuspendJob(step=Step.WORK),)
        paused = observe(at=5, prepare=prepare_done(), work=work(JobState.SUSPENDED, completed=frozenset({0})))
        status = plans(run, paused).status
        assert status.phase is Phase.SUSPENDED
        assert status.suite is not None
        assert (status.suite.exit_status, status.suite.counts.interrupted) == (130, 4)
        assert set(jobs_of(status).values()) == {"SUCCESS", "INTERRUPTED"}
        run.spec.suspend = False
        made = plans(
            run, observe(at=9, prepare=prepare_done(), work=work(JobState.SUSPENDED, completed=frozenset({0})))
        )
        assert ensured(made.actions).completions == 5
        assert made.status.suite is not None
        assert (made.status.suite.exit_status, made.status.suite.counts.interrupted) == (None, 0)

    def test_is_never_stalled_for_a_script_may_say_nothing_for_hours(self) -> None:
        view = work(active=3, running=frozenset({0, 1, 2}))
        status = plans(suite(), observe(at=36_000, prepare=prepare_done(), work=view)).status
        assert states(status)["Progressing"] == "True/Working"

    def test_has_a_rate_by_which_the_rest_is_foretold_and_time_alone_changes_nothing(self) -> None:
        view = work(active=3, completed=frozenset({0, 1}))
        reports = [report(0, at=20, done=1), report(1, at=100, done=1), report(2, at=150, done=0)]
        run = suite()
        status = plans(run, observe(at=160, prepare=prepare_done(), work=view, reports=reports)).status
        assert (status.progress.rate_per_second, status.progress.estimated_remaining_seconds) == (0.02, 150)
        later = plans(run, observe(at=500, prepare=prepare_done(), work=view, reports=reports)).status
        assert later == status

    def test_is_kept_when_the_prepare_step_is_repeated(self) -> None:
        run = suite()
        plans(run, observe(prepare=prepare_done(), work=work(completed=frozenset({0}))))
        again = plans(run, observe(at=5, prepare=ONE_RUNS, work=work(completed=frozenset({0})))).status
        assert jobs_of(again)["ok"] == "SUCCESS"
        assert again.suite is not None
        assert again.suite.counts.total == 5


class TestWhatIsTold:
    def told(self, before: Plan, after: Plan) -> list[str]:
        return [event.message for event in run_events(before=before.status, after=after.status)]

    def test_is_of_scripts_by_their_names(self) -> None:
        run = suite()
        first = plans(run, observe(prepare=ONE_RUNS))
        begun = plans(run, observe(prepare=prepare_done(), work=work(active=3)))
        assert self.told(first, begun) == ["Running 5 scripts"]
        killed = Failure(shard=4, exit_code=137, reason="OOMKilled")
        failing = plans(run, observe(prepare=prepare_done(), work=work(active=3), failures=[killed]))
        assert self.told(begun, failing) == ["Script memory failed (exit code 137): OOMKilled"]
        end = plans(run, observe(prepare=prepare_done(), work=over(4), finalize=ONE_RUNS, failures=[killed]))
        assert self.told(failing, end) == ["All scripts are over; putting the results together"]

    def test_of_a_deadline_is_not_a_verdict_of_scripts(self) -> None:
        run = suite("activeDeadlineSeconds=10")
        status = plans(run, observe(), observe(at=20, prepare=prepare_done(), work=work(active=3))).status
        assert condition(status, ConditionType.FAILED).reason == "DeadlineExceeded"
        assert status.result is None
        assert status.suite is not None
        assert status.suite.exit_status == 1


def test_a_suite_of_other_engines_is_nowhere() -> None:
    run = parse_manifest(manifests.KATO, name="test")
    made = plans(run, observe(prepare=ONE_RUNS))
    assert made.status.suite is None
    assert isinstance(made.actions[0], EnsureJob)


class TestPartsOfPodOverrides:
    OVERRIDES = "engine.scripts.podOverrides=[{ids: [ok], resources: {}}, {ids: [bad], resources: {}}]"

    def made(self, *parts: str, changes: str = OVERRIDES) -> Plan:
        prepared = PREPARED.model_copy(update={"parts": [*parts] or None})
        return plans(suite(changes), observe(prepare=prepare_done(prepared)))

    def test_are_handed_on_to_the_work_step(self) -> None:
        prepared = ensured(self.made("0", "2-4").actions).document.prepared
        assert prepared is not None
        assert prepared.parts == ["0", "2-4"]

    @pytest.mark.parametrize(
        "parts", [(), ("0",), ("0", "1", "2"), ("0", "x"), ("0-2", "2,3"), ("0", "5"), ("0", "0-99999999999")]
    )
    def test_that_can_not_be_are_a_result_that_can_not_be_read(self, parts: tuple[str, ...]) -> None:
        made = self.made(*parts)
        failed = condition(made.status, ConditionType.FAILED)
        assert failed.reason == "InvalidResult"
        assert "podOverrides" in failed.message
        assert made.actions == ()

    def test_that_nobody_asked_for_are_one_too(self) -> None:
        made = self.made("0", changes="engine.scripts.retries=1")
        assert condition(made.status, ConditionType.FAILED).reason == "InvalidResult"

    def test_are_not_named_to_workers_that_may_be_older_where_there_are_none(self) -> None:
        document = ensured(self.made(changes="engine.scripts.retries=1").actions).document
        told = document.model_dump_json(by_alias=True, exclude_none=True)
        assert "parts" not in told
        assert "podOverrides" not in told

    def test_count_what_is_over_also_when_their_jobs_are_gone(self) -> None:
        run = suite("activeDeadlineSeconds=10")
        half = work(completed=frozenset({0, 1}), failed=frozenset({3}))
        made = plans(run, observe(prepare=prepare_done(), work=half), observe(at=11, prepare=prepare_done()))
        assert made.status.suite is not None
        assert (made.status.suite.counts.success, made.status.suite.counts.failed) == (2, 1)
