"""What a run says of itself: conditions, progress, and bounds that hold for any number of shards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shardwise_api.status import ConditionType, Failure, JobReference, Phase, RunStatus
from shardwise_api.wire import (
    PrepareResult,
    ProgressReport,
    StepFailure,
)
from shardwise_operator.core.observed import JobState, JobView, Observed
from shardwise_operator.core.plan import plan
from shardwise_operator.core.report import STALLED_AFTER
from tests.support.plans import (
    FINALIZE_DONE,
    ONE_RUNS,
    PREPARE_DONE,
    RESULT,
    T0,
    condition,
    new_run,
    observe,
    plans,
    report,
    states,
    work_over,
    work_view,
)


class TestConditions:
    def test_an_unchanged_observation_has_an_unchanged_status_and_plan(self) -> None:
        run = new_run("activeDeadlineSeconds=1000")
        for observed in [
            observe(),
            observe(prepare=ONE_RUNS),
            observe(
                prepare=PREPARE_DONE, work=work_view(), reports=[report(0, at=5)], failures=[Failure(reason="Killed")]
            ),
            observe(prepare=PREPARE_DONE, work=work_over(), finalize=ONE_RUNS),
            observe(prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE),
        ]:
            first = plans(run, observed)
            assert plans(run, observed) == first
            # Time alone changes nothing either: what does not change is not written.
            later = Observed(
                now=observed.now + timedelta(seconds=30), jobs=observed.jobs, progress=observed.progress,
                failures=observed.failures,
            )  # fmt: skip
            assert plans(run, later) == first

    def test_planning_leaves_the_run_as_it_is(self) -> None:
        run = new_run()
        plans(run, observe(prepare=PREPARE_DONE, work=work_view()))
        before = run.model_copy(deep=True)
        plan(run, observe(at=9, prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE))
        assert run == before

    def test_a_transition_time_moves_with_the_status_only(self) -> None:
        run = new_run()
        first = plans(run, observe(prepare=PREPARE_DONE, work=work_view(active=0))).status
        assert states(first)["PodsReady"] == "False/WaitingForPods"
        assert condition(first, ConditionType.PODS_READY).message == "0 of 2 workers run"
        second = plans(run, observe(at=5, prepare=PREPARE_DONE, work=work_view(active=1))).status
        assert condition(second, ConditionType.PODS_READY).message == "1 of 2 workers run"
        assert condition(second, ConditionType.PODS_READY).last_transition_time == T0
        third = plans(run, observe(at=9, prepare=PREPARE_DONE, work=work_view(active=2))).status
        assert states(third)["PodsReady"] == "True/AllRunning"
        assert condition(third, ConditionType.PODS_READY).last_transition_time == T0 + timedelta(seconds=9)

    def test_the_last_shards_need_fewer_pods_than_the_parallelism(self) -> None:
        view = work_view(active=1, completed=frozenset(range(6)), failed=frozenset({6}))
        assert (
            states(plans(new_run(), observe(prepare=PREPARE_DONE, work=view)).status)["PodsReady"] == "True/AllRunning"
        )

    def test_a_pod_that_looks_at_the_input_is_waited_for_too(self) -> None:
        made = plans(new_run(), observe(prepare=JobView(state=JobState.RUNNING)))
        assert condition(made.status, ConditionType.PODS_READY).message == "0 of 1 workers run"

    def test_a_status_says_which_generation_it_is_of(self) -> None:
        run = new_run()
        run.metadata.generation = 3
        status = plans(run, observe()).status
        assert status.observed_generation == 3
        assert {condition.observed_generation for condition in status.conditions} == {3}
        self_complete = observe(prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE)
        plans(run, self_complete)
        run.metadata.generation = 4
        assert plans(run, self_complete).status.observed_generation == 4

    def test_what_others_wrote_into_a_status_is_kept(self) -> None:
        run = new_run()
        run.status = RunStatus(job_ref=JobReference(name="words"))
        assert plans(run, observe()).status.job_ref == JobReference(name="words")


class TestProgress:
    def _status(self, *reports: ProgressReport, at: float = 10, **work: Any) -> RunStatus:
        return plans(new_run(), observe(at=at, prepare=PREPARE_DONE, work=work_view(**work), reports=reports)).status

    def test_items_are_summed_over_shards(self) -> None:
        status = self._status(report(0, at=5, done=10, failed=2), report(3, at=8, done=20, skipped=3))
        assert (status.items.done, status.items.failed, status.items.skipped) == (30, 2, 3)
        assert status.progress.percent == 35
        assert status.progress.last_updated_time == T0 + timedelta(seconds=8)

    def test_the_rate_is_that_of_the_shards_at_work_without_what_was_resumed(self) -> None:
        status = self._status(
            report(0, at=5, done=10),
            report(1, at=10, done=35, resumed=25),
            report(2, at=1, done=10),
            report(3, at=0, done=0),
            completed=frozenset({2}),
        )
        assert status.progress.rate_per_second == 3
        assert status.progress.estimated_remaining_seconds == 15

    def test_a_shard_that_failed_for_good_has_no_rate(self) -> None:
        assert self._status(report(0, at=5), failed=frozenset({0})).progress.rate_per_second is None

    def test_the_rate_of_work_that_is_over_is_that_of_all_of_it(self) -> None:
        reports = [report(shard, at=50, done=12, resumed=2) for shard in range(8)]
        made = plans(new_run(), observe(at=60, prepare=PREPARE_DONE, work=work_over(), reports=reports))
        assert made.status.progress.rate_per_second == 80 / 50
        assert made.status.progress.estimated_remaining_seconds == round((100 - 96) / 1.6)

    def test_time_in_which_nobody_worked_does_not_count(self) -> None:
        before = [report(shard, at=10, done=20) for shard in (0, 1)]
        after = [
            report(shard, at=40, done=20).model_copy(update={"attempt_started": T0 + timedelta(seconds=30)})
            for shard in (2, 3)
        ]
        made = plans(new_run(), observe(at=60, prepare=PREPARE_DONE, work=work_over(), reports=[*before, *after]))
        assert made.status.progress.rate_per_second == 80 / 20

    def test_work_of_which_nobody_knows_the_time_has_no_rate(self) -> None:
        view = JobView(state=JobState.COMPLETE, completions=8, completed=frozenset(range(8)))
        made = plans(new_run(), observe(prepare=PREPARE_DONE, work=view, reports=[report(0, at=1)]))
        assert made.status.progress.rate_per_second is None

    def test_an_uncounted_input_has_no_percent(self) -> None:
        prepared = JobView(
            state=JobState.COMPLETE, message=PrepareResult(input_fingerprint="sha256:1").model_dump_json()
        )
        status = plans(new_run(), observe(prepare=prepared, work=work_view(), reports=[report(0, at=5)])).status
        assert (status.items.total, status.progress.percent) == (None, None)
        assert status.progress.rate_per_second == 2
        assert status.progress.estimated_remaining_seconds is None

    def test_reports_that_are_lost_take_nothing_back(self) -> None:
        run = new_run()
        full = observe(at=9, prepare=PREPARE_DONE, work=work_view(), reports=[report(0, at=9), report(1, at=8)])
        before = plans(run, full).status
        for reports in ([], [report(1, at=3, done=2)]):
            after = plans(run, observe(at=10, prepare=PREPARE_DONE, work=work_view(), reports=reports)).status
            assert after.items == before.items
            assert after.progress.percent == before.progress.percent
            assert after.progress.last_updated_time == before.progress.last_updated_time

    def test_a_run_that_has_not_moved_for_long_is_stalled_until_it_moves(self) -> None:
        run = new_run()
        limit = STALLED_AFTER.total_seconds()
        working = observe(at=10, prepare=PREPARE_DONE, work=work_view(), reports=[report(0, at=10)])
        assert states(plans(run, working).status)["Progressing"] == "True/Working"
        late = observe(at=11 + limit, prepare=PREPARE_DONE, work=work_view(), reports=[report(0, at=10)])
        assert states(plans(run, late).status)["Progressing"] == "False/Stalled"
        assert run.status is not None
        assert run.status.phase is Phase.RUNNING
        moved = observe(at=12 + limit, prepare=PREPARE_DONE, work=work_view(), reports=[report(0, at=12 + limit)])
        assert states(plans(run, moved).status)["Progressing"] == "True/Working"

    def test_work_that_never_reported_is_stalled_after_its_start(self) -> None:
        limit = STALLED_AFTER.total_seconds()
        late = observe(at=1 + limit, prepare=PREPARE_DONE, work=work_view())
        assert states(plans(new_run(), observe(), late).status)["Progressing"] == "False/Stalled"

    def test_a_resumed_run_is_not_stalled_for_having_slept(self) -> None:
        run = new_run("suspend=true")
        hour = observe(at=3600, prepare=PREPARE_DONE, work=work_view(), reports=[report(0, at=1)])
        plans(run, observe(at=1, prepare=PREPARE_DONE, work=work_view(), reports=[report(0, at=1)]), hour)
        run.spec.suspend = False
        assert states(plans(run, hour).status)["Progressing"] == "True/Working"

    @pytest.mark.parametrize("view", [work_view(JobState.SUSPENDED), work_over()])
    def test_only_running_work_can_stall(self, view: JobView) -> None:
        made = plans(new_run(), observe(), observe(at=10**6, prepare=PREPARE_DONE, work=view))
        assert states(made.status)["Progressing"] == "True/Working"


class TestBounds:
    SHARDS = 10_000

    def _failed(self, character: str) -> RunStatus:
        """Return the status of the largest run there can be, with as much to say as there can be."""
        odd = frozenset(range(1, self.SHARDS, 2))
        told = StepFailure(reason="WorkerFailed", message=character * 4000)
        view = JobView(
            state=JobState.FAILED, completions=self.SHARDS, completed=frozenset(range(self.SHARDS)) - odd, failed=odd,
            reason="MaxFailedIndexesExceeded", message=told.model_dump_json(),
        )  # fmt: skip
        reports = [report(shard, at=shard) for shard in range(self.SHARDS)]
        failures = [Failure(shard=n, exit_code=1, reason="WorkerFailed", message=character * 1024) for n in range(100)]
        run = new_run(f"sharding={{shards: {self.SHARDS}}}")
        return plans(run, observe(prepare=PREPARE_DONE, work=view, reports=reports, failures=failures)).status

    @pytest.mark.parametrize("character", ["x", "é", "日", "🙂"])
    def test_a_status_is_at_most_100_kib_with_ten_thousand_shards(self, character: str) -> None:
        status = self._failed(character)
        assert status.phase is Phase.FAILED
        assert len(status.failures) == 10
        assert len(status.model_dump_json(by_alias=True, exclude_none=True).encode()) <= 100 * 1024

    def test_a_condition_names_as_many_failed_shards_as_one_can_read(self) -> None:
        message = condition(self._failed("x"), ConditionType.FAILED).message
        assert message.startswith("shards 1,3,5,")
        assert "… failed: xxx" in message
        assert len(message) == 1024

    def test_many_warnings_make_a_condition_still(self) -> None:
        result = RESULT.model_copy(update={"warnings": ["w" * 5000] * 10})
        view = JobView(state=JobState.COMPLETE, message=result.model_dump_json())
        status = plans(new_run(), observe(prepare=PREPARE_DONE, work=work_over(), finalize=view)).status
        assert status.phase is Phase.COMPLETE
        assert len(condition(status, ConditionType.COMPLETE).message) == 1024


def test_of_a_run_that_has_failed_nothing_done_is_forgotten_with_its_jobs() -> None:
    run = new_run("activeDeadlineSeconds=10")
    half = work_view(completed=frozenset({0, 1, 5}), failed=frozenset({2}))
    # Deleted, as a queue would let it go on, before the end could be written down.
    made = plans(run, observe(prepare=PREPARE_DONE, work=half), observe(at=11, prepare=PREPARE_DONE))
    assert made.status.phase is Phase.FAILED
    shards = made.status.shards
    assert (shards.completed_indexes, shards.failed_indexes, shards.active) == ("0,1,5", "2", 0)
    assert (shards.succeeded, shards.failed, shards.total) == (3, 1, 8)
