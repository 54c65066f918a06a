"""The pure core, one observation at a time: what a run does next, and how it ends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, Failure, Phase, RunStatus
from shardwise_api.wire import (
    ShardResult,
    Step,
    StepFailure,
)
from shardwise_operator.core.actions import DeleteRun, StopJob, SuspendJob
from shardwise_operator.core.observed import JobState, JobView, Observed
from shardwise_operator.core.plan import plan
from tests.support.plans import (
    FINALIZE_DONE,
    ONE_RUNS,
    PREPARE_DONE,
    PREPARE_DONE_ALREADY,
    PREPARED,
    RESULT,
    T0,
    condition,
    ensured,
    new_run,
    observe,
    plans,
    report,
    states,
    work_over,
    work_view,
)


class TestOrderOfSteps:
    def test_a_new_run_is_accepted_and_its_input_is_looked_at_first(self) -> None:
        made = plans(new_run(), observe())
        job = ensured(made.actions)
        assert (job.step, job.completions, job.parallelism) == (Step.PREPARE, 1, 1)
        assert (job.document.name, job.document.uid, job.document.prepared) == ("words", "1234", None)
        assert made.status.phase is Phase.PENDING
        assert made.status.start_time == T0
        assert states(made.status) == {
            "Accepted": "True/Valid",
            "Suspended": "False/NotSuspended",
            "Progressing": "True/Working",
        }

    def test_the_input_is_waited_for(self) -> None:
        made = plans(new_run(), observe(prepare=ONE_RUNS))
        assert ensured(made.actions).step is Step.PREPARE
        assert made.status.phase is Phase.PREPARING

    def test_a_prepared_run_goes_to_its_shards_with_what_was_found(self) -> None:
        made = plans(new_run(), observe(prepare=PREPARE_DONE))
        job = ensured(made.actions)
        assert (job.step, job.completions, job.parallelism) == (Step.WORK, 8, 2)
        assert job.document.prepared == PREPARED
        assert job.document.worked is None
        assert made.status.items.total == 100

    def test_without_a_parallelism_all_shards_run_at_once(self) -> None:
        run = new_run("sharding={shards: 8}")
        assert ensured(plans(run, observe(prepare=PREPARE_DONE)).actions).parallelism == 8

    def test_a_run_with_a_working_shard_is_running(self) -> None:
        made = plans(new_run(), observe(prepare=PREPARE_DONE, work=work_view(completed=frozenset({0, 1, 2, 5}))))
        assert ensured(made.actions).step is Step.WORK
        assert made.status.phase is Phase.RUNNING
        shards = made.status.shards
        assert (shards.total, shards.active, shards.succeeded, shards.failed) == (8, 2, 4, 0)
        assert (shards.completed_indexes, shards.failed_indexes) == ("0-2,5", "")

    def test_finished_shards_are_put_together_with_what_the_runner_saw_of_them(self) -> None:
        reports = [report(shard, at=9, done=12) for shard in range(8)]
        made = plans(new_run(), observe(at=60, prepare=PREPARE_DONE, work=work_over(), reports=reports))
        job = ensured(made.actions)
        assert (job.step, job.completions) == (Step.FINALIZE, 1)
        worked = job.document.worked
        assert worked is not None
        assert (worked.seconds, worked.workers, worked.done, worked.failed_shards) == (50, 2, 96, "")

    def test_a_run_that_is_put_together_is_finalizing(self) -> None:
        made = plans(new_run(), observe(prepare=PREPARE_DONE, work=work_over(), finalize=ONE_RUNS))
        assert ensured(made.actions).step is Step.FINALIZE
        assert made.status.phase is Phase.FINALIZING

    def test_a_result_completes_the_run(self) -> None:
        made = plans(
            new_run(), observe(), observe(at=70, prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE)
        )
        status = made.status
        assert made.actions == ()
        assert status.phase is Phase.COMPLETE
        assert states(status) == {
            "Accepted": "True/Valid",
            "Suspended": "False/NotSuspended",
            "PodsReady": "False/Finished",
            "Progressing": "False/Finished",
            "Complete": "True/Finalized",
        }
        assert status.result is not None
        assert (status.result.digest, status.result.uri) == ("sha256:2", "file:///out/summary.json")
        assert status.result.summary == {"guarantee": "ExactlyOnce"}
        assert (status.items.done, status.items.failed, status.items.skipped, status.items.total) == (90, 4, 6, 100)
        assert (status.progress.percent, status.progress.estimated_remaining_seconds) == (100, None)
        assert [metric.name for metric in status.metrics] == ["samples_processed"]
        assert status.completion_time == T0 + timedelta(seconds=70)

    def test_warnings_of_the_result_are_told(self) -> None:
        result = RESULT.model_copy(update={"warnings": ["no picture", "old server"]})
        view = JobView(state=JobState.COMPLETE, message=result.model_dump_json())
        made = plans(new_run(), observe(prepare=PREPARE_DONE, work=work_over(), finalize=view))
        assert condition(made.status, ConditionType.COMPLETE).message == "no picture; old server"

    def test_a_run_whose_ledger_is_full_needs_no_shard(self) -> None:
        run = new_run()
        assert ensured(plans(run, observe(prepare=PREPARE_DONE_ALREADY)).actions).step is Step.FINALIZE
        made = plans(run, observe(prepare=PREPARE_DONE_ALREADY, finalize=FINALIZE_DONE))
        assert made.status.phase is Phase.COMPLETE
        assert (made.status.shards.succeeded, made.status.shards.completed_indexes) == (8, "0-7")
        assert "nothing was left to do" in condition(made.status, ConditionType.COMPLETE).message

    def test_a_job_that_was_lost_from_sight_is_asked_for_again(self) -> None:
        made = plans(new_run(), observe(prepare=PREPARE_DONE, work=work_view()), observe(prepare=PREPARE_DONE))
        assert ensured(made.actions).step is Step.WORK


class TestFailures:
    @pytest.mark.parametrize("step", [Step.PREPARE, Step.FINALIZE])
    def test_a_step_that_fails_for_good_fails_the_run_with_the_worker_s_own_reason(self, step: Step) -> None:
        told = StepFailure(reason="InvalidInput", message="no sample to learn from")
        view = JobView(state=JobState.FAILED, reason="BackoffLimitExceeded", message=told.model_dump_json())
        views = {"prepare": PREPARE_DONE, "work": work_over(), str(step): view}
        made = plans(new_run(), observe(**views))  # type: ignore[arg-type]
        failed = condition(made.status, ConditionType.FAILED)
        assert made.status.phase is Phase.FAILED
        assert (failed.status, failed.reason) == ("True", "InvalidInput")
        assert failed.message == f"{step}: no sample to learn from"
        assert made.status.completion_time == T0

    def test_failed_shards_fail_the_run_in_the_words_of_its_job(self) -> None:
        told = StepFailure(reason="Unavailable", message="store is away").model_dump_json()
        view = work_view(JobState.FAILED, failed=frozenset({3, 4, 5}), reason="MaxFailedIndexesExceeded", message=told)
        failed = condition(plans(new_run(), observe(prepare=PREPARE_DONE, work=view)).status, ConditionType.FAILED)
        assert (failed.reason, failed.message) == ("MaxFailedIndexesExceeded", "shards 3-5 failed: store is away")

    def test_a_work_job_that_failed_without_a_word_fails_the_run_all_the_same(self) -> None:
        made = plans(new_run(), observe(prepare=PREPARE_DONE, work=work_view(JobState.FAILED)))
        failed = condition(made.status, ConditionType.FAILED)
        assert (failed.reason, failed.message) == ("ShardsFailed", "the work step failed")

    def test_as_many_failed_shards_as_allowed_are_tolerated_and_told_to_the_last_step(self) -> None:
        run = new_run("retry.maxFailedShards=2")
        made = plans(run, observe(prepare=PREPARE_DONE, work=work_over(failed=[2, 6])))
        job = ensured(made.actions)
        assert job.step is Step.FINALIZE
        assert job.document.worked is not None
        assert job.document.worked.failed_shards == "2,6"
        assert (made.status.shards.failed, made.status.shards.failed_indexes) == (2, "2,6")
        done = plans(run, observe(prepare=PREPARE_DONE, work=work_over(failed=[2, 6]), finalize=FINALIZE_DONE))
        assert done.status.phase is Phase.COMPLETE

    def test_one_failed_shard_more_than_allowed_fails_the_run(self) -> None:
        made = plans(new_run("retry.maxFailedShards=1"), observe(prepare=PREPARE_DONE, work=work_over(failed=[2, 6])))
        assert made.status.phase is Phase.FAILED

    def test_an_exit_code_that_is_never_retried_fails_the_run_even_where_failed_shards_are_tolerated(self) -> None:
        view = work_over(failed=[7], reason="PodFailurePolicy")
        made = plans(new_run("retry.maxFailedShards=8"), observe(prepare=PREPARE_DONE, work=view))
        assert condition(made.status, ConditionType.FAILED).reason == "PodFailurePolicy"

    def test_what_still_runs_of_a_failed_run_is_stopped_until_it_has_ended(self) -> None:
        run = new_run("activeDeadlineSeconds=10")
        late = observe(at=11, prepare=PREPARE_DONE, work=work_view())
        made = plans(run, observe(), late)
        assert made.actions == (StopJob(step=Step.WORK),)
        assert made.status.shards.active == 0
        again = plans(run, late)
        assert again.actions == (StopJob(step=Step.WORK),)
        assert again.status == made.status
        assert plans(run, observe(at=12, prepare=PREPARE_DONE, work=work_view(JobState.FAILED))).actions == ()

    def test_of_a_step_in_several_jobs_those_are_stopped_that_go_on_though_one_has_ended_it(self) -> None:
        view = work_view(JobState.FAILED, reason="DeadlineExceeded", unended=True)
        made = plans(new_run(), observe(prepare=PREPARE_DONE, work=view))
        assert made.status.phase is Phase.FAILED
        assert made.actions == (StopJob(step=Step.WORK),)

    def test_a_suspended_job_of_a_failed_run_is_stopped_too(self) -> None:
        run = new_run("activeDeadlineSeconds=10")
        made = plans(run, observe(), observe(at=11, prepare=PREPARE_DONE, work=work_view(JobState.SUSPENDED)))
        assert made.actions == (StopJob(step=Step.WORK),)

    @pytest.mark.parametrize("message", ["", "{", '{"digest": "sha2', "[]", "null", "\x00", "Killed", '{"digest": 1}'])
    @pytest.mark.parametrize("step", [Step.PREPARE, Step.FINALIZE])
    def test_a_result_that_cannot_be_read_fails_the_run_and_is_shown(self, step: Step, message: str) -> None:
        views = {
            "prepare": PREPARE_DONE,
            "work": work_over(),
            str(step): JobView(state=JobState.COMPLETE, message=message),
        }
        made = plans(new_run(), observe(**views))  # type: ignore[arg-type]
        failed = condition(made.status, ConditionType.FAILED)
        assert failed.reason == "InvalidResult"
        assert f"{step}: the worker's result can't be read" in failed.message
        assert repr(message) in failed.message

    @pytest.mark.parametrize(
        ("message", "reason", "told"),
        [
            ("", "BackoffLimitExceeded", "prepare: "),
            ('{"reason": "InvalidIn', "BackoffLimitExceeded", 'prepare: {"reason": "InvalidIn'),
            ('{"reason": "", "message": "m"}', "Unknown", "prepare: m"),
            ('{"reason": "not camel case", "message": "m"}', "Unknown", "prepare: m"),
            ('{"reason": "A", "message": "m"}', "A", "prepare: m"),
            (f'{{"reason": "{"A" * 300}", "message": "m"}}', "Unknown", "prepare: m"),
        ],
    )
    def test_whatever_a_failed_worker_leaves_behind_makes_a_condition(
        self, message: str, reason: str, told: str
    ) -> None:
        view = JobView(state=JobState.FAILED, reason="BackoffLimitExceeded", message=message)
        failed = condition(plans(new_run(), observe(prepare=view)).status, ConditionType.FAILED)
        assert (failed.reason, failed.message) == (reason, told)

    def test_a_failed_worker_without_any_word_has_a_reason_still(self) -> None:
        made = plans(new_run(), observe(prepare=JobView(state=JobState.FAILED)))
        assert condition(made.status, ConditionType.FAILED).reason == "WorkerFailed"

    @given(
        state=st.sampled_from([JobState.COMPLETE, JobState.FAILED]),
        message=st.text()
        | st.builds(lambda a, b: StepFailure(reason=a, message=b).model_dump_json(), st.text(), st.text()),
        reason=st.text(max_size=300),
        step=st.sampled_from(list(Step)),
    )
    def test_no_termination_message_raises(self, state: JobState, message: str, reason: str, step: Step) -> None:
        views = {"prepare": PREPARE_DONE, str(step): JobView(state=state, message=message, reason=reason)}
        status = plan(new_run(), observe(**views)).status  # type: ignore[arg-type]
        assert RunStatus.model_validate_json(status.model_dump_json()) == status
        assert status.is_true(ConditionType.FAILED) or step is Step.WORK

    def test_the_last_ten_failed_attempts_are_listed(self) -> None:
        failures = [Failure(shard=n, exit_code=1, reason="WorkerFailed", message=str(n)) for n in range(25)]
        made = plans(new_run(), observe(prepare=PREPARE_DONE, work=work_view(), failures=failures))
        assert [failure.shard for failure in made.status.failures] == list(range(15, 25))

    def test_attempts_whose_pods_are_swept_away_stay_listed(self) -> None:
        old, new = Failure(shard=1, reason="Killed"), Failure(shard=2, reason="WorkerFailed")
        run = new_run()
        plans(run, observe(prepare=PREPARE_DONE, work=work_view(), failures=[old]))
        assert plans(run, observe(prepare=PREPARE_DONE, work=work_view())).status.failures == [old]
        assert plans(run, observe(prepare=PREPARE_DONE, work=work_view(), failures=[new])).status.failures == [old, new]


class TestDeadlines:
    def test_a_run_may_last_until_its_deadline(self) -> None:
        run = new_run("activeDeadlineSeconds=10")
        assert not plans(run, observe(), observe(at=10, prepare=ONE_RUNS)).status.finished
        failed = condition(plans(run, observe(at=10.1, prepare=ONE_RUNS)).status, ConditionType.FAILED)
        assert (failed.reason, failed.message) == ("DeadlineExceeded", "spec.activeDeadlineSeconds: 10 s are over")

    def test_a_result_that_is_there_counts_however_late_it_is_seen(self) -> None:
        run = new_run("activeDeadlineSeconds=10")
        late = observe(at=3600, prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE)
        assert plans(run, observe(), late).status.phase is Phase.COMPLETE

    def test_a_run_whose_first_worker_does_not_start_in_time_fails(self) -> None:
        run = new_run("startDeadlineSeconds=10")
        pending = JobView(state=JobState.RUNNING)
        assert not plans(run, observe(), observe(at=10, prepare=pending)).status.finished
        failed = condition(plans(run, observe(at=11, prepare=pending)).status, ConditionType.FAILED)
        assert failed.reason == "StartDeadlineExceeded"
        assert "no worker ran within 10 s" in failed.message

    @pytest.mark.parametrize(
        "views",
        [
            {"prepare": ONE_RUNS},
            {"prepare": JobView(state=JobState.RUNNING, active=1)},
            {"prepare": PREPARE_DONE_ALREADY, "work": work_view(active=0, started=None, completed=frozenset({0}))},
        ],
    )
    def test_a_run_with_a_worker_has_started(self, views: dict[str, JobView]) -> None:
        run = new_run("startDeadlineSeconds=10")
        assert not plans(run, observe(), observe(at=3600, **views)).status.finished  # type: ignore[arg-type]

    @pytest.mark.parametrize("limit", ["activeDeadlineSeconds", "startDeadlineSeconds"])
    def test_deadlines_stand_still_while_a_run_is_suspended_and_begin_anew_after_it(self, limit: str) -> None:
        run = new_run(f"{limit}=10", "suspend=true")
        assert not plans(run, observe(), observe(at=3600)).status.finished
        run.spec.suspend = False
        assert not plans(run, observe(at=3601)).status.finished
        assert not plans(run, observe(at=3611)).status.finished
        assert plans(run, observe(at=3612)).status.phase is Phase.FAILED


class TestSuspension:
    @pytest.mark.parametrize(
        ("changes", "interrupted", "reason"), [(["suspend=true"], False, "SuspendRequested"), ([], True, "Interrupted")]
    )
    def test_a_suspended_run_suspends_the_jobs_that_run(
        self, changes: list[str], interrupted: bool, reason: str
    ) -> None:
        observed = observe(prepare=PREPARE_DONE, work=work_view(), interrupted=interrupted)
        made = plans(new_run(*changes), observed)
        assert made.actions == (SuspendJob(step=Step.WORK),)
        assert made.status.phase is Phase.SUSPENDED
        shown = states(made.status)
        assert shown["Suspended"] == f"True/{reason}"
        assert shown["PodsReady"] == "False/Suspended"
        assert shown["Progressing"] == "False/Suspended"

    def test_a_job_that_is_suspended_is_left_alone(self) -> None:
        made = plans(
            new_run("suspend=true"), observe(prepare=PREPARE_DONE, work=work_view(JobState.SUSPENDED, active=0))
        )
        assert made.actions == ()
        assert made.status.progress.rate_per_second is None

    def test_a_run_that_is_made_suspended_starts_nothing(self) -> None:
        made = plans(new_run("suspend=true"), observe())
        assert made.actions == ()
        assert made.status.phase is Phase.SUSPENDED

    def test_a_resumed_run_goes_on_with_its_job(self) -> None:
        run = new_run("suspend=true")
        suspended = observe(prepare=PREPARE_DONE, work=work_view(JobState.SUSPENDED, completed=frozenset({0, 1})))
        plans(run, suspended)
        run.spec.suspend = False
        made = plans(run, suspended)
        assert ensured(made.actions).step is Step.WORK
        assert states(made.status)["Suspended"] == "False/NotSuspended"
        assert made.status.phase is Phase.RUNNING
        assert made.status.shards.completed_indexes == "0,1"

    def test_a_suspended_run_can_fail_and_complete(self) -> None:
        failed = observe(prepare=PREPARE_DONE, work=work_view(JobState.FAILED, reason="PodFailurePolicy"))
        assert plans(new_run("suspend=true"), failed).status.phase is Phase.FAILED
        done = observe(prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE, interrupted=True)
        status = plans(new_run("suspend=true"), done).status
        assert status.phase is Phase.COMPLETE
        assert states(status)["Suspended"] == "False/NotSuspended"

    def test_parallelism_may_change_while_a_run_works(self) -> None:
        run = new_run()
        observed = observe(prepare=PREPARE_DONE, work=work_view())
        assert ensured(plans(run, observed).actions).parallelism == 2
        run.spec.sharding.parallelism = 5
        job = ensured(plans(run, observed).actions)
        assert (job.step, job.completions, job.parallelism) == (Step.WORK, 8, 5)


class TestAfterTheEnd:
    def _complete(self, run: Run) -> RunStatus:
        done = observe(prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE)
        return plans(run, observe(), done).status

    @pytest.mark.parametrize(
        "later",
        [
            observe(at=60),
            observe(at=60, prepare=JobView(state=JobState.FAILED)),
            observe(at=60, prepare=PREPARE_DONE, work=work_over(failed=[1])),
            observe(at=60, interrupted=True),
        ],
    )
    def test_a_complete_run_stays_complete_whatever_is_seen(self, later: Observed) -> None:
        run = new_run("activeDeadlineSeconds=10")
        before = self._complete(run)
        made = plans(run, later)
        assert made.actions == ()
        assert made.status == before

    def test_a_failed_run_stays_failed_whatever_is_seen(self) -> None:
        run = new_run()
        before = plans(run, observe(prepare=JobView(state=JobState.FAILED))).status
        done = observe(at=60, prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE)
        assert plans(run, done).status == before

    def test_a_run_is_deleted_when_its_time_to_live_is_over(self) -> None:
        run = new_run("ttlSecondsAfterFinished=30")
        self._complete(run)
        assert plans(run, observe(at=29.9)).actions == ()
        assert plans(run, observe(at=30)).actions == (DeleteRun(),)

    def test_a_time_to_live_of_nothing_deletes_at_once(self) -> None:
        run = new_run("ttlSecondsAfterFinished=0")
        self._complete(run)
        assert plans(run, observe()).actions == (DeleteRun(),)

    def test_without_a_time_to_live_a_run_is_kept(self) -> None:
        run = new_run()
        self._complete(run)
        assert plans(run, observe(at=10**9)).actions == ()

    def test_a_running_run_is_not_deleted(self) -> None:
        made = plans(new_run("ttlSecondsAfterFinished=0"), observe(), observe(at=60, prepare=ONE_RUNS))
        assert DeleteRun() not in made.actions


def test_a_shard_s_result_is_no_reason_of_a_failure() -> None:
    done = ShardResult(shard=1).model_dump_json()
    view = work_view(JobState.FAILED, failed=frozenset({0}), reason="MaxFailedIndexesExceeded", message=done)
    status = plans(new_run(), observe(prepare=PREPARE_DONE, work=view)).status
    assert condition(status, ConditionType.FAILED).reason == "MaxFailedIndexesExceeded"
