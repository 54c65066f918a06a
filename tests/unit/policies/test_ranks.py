"""Ranks of a training: those that are awaited, steps that go back, figures while it learns, another number."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from shardwise_api.status import ConditionType, Phase, RunStatus
from shardwise_api.wire import (
    Checkpoint,
    Metric,
    ProgressReport,
    RunResult,
    Step,
)
from shardwise_operator.core.observed import Blocker, JobState, JobView, Observed
from shardwise_operator.core.report import STALLED_AFTER
from tests.support.observed_trainings import ALL, metrics, ranks, seen, sweep, told, training
from tests.support.plans import T0, condition, ensured, plans, states


class TestGangStart:
    @pytest.mark.parametrize(
        ("missing_ranks", "message"),
        [("3", "rank 3 of 4 has not come"), ("2-3", "ranks 2-3 of 4 have not come"),
         ("1,3", "ranks 1,3 of 4 have not come")],
    )  # fmt: skip
    def test_ranks_that_are_awaited_are_named(self, missing_ranks: str, message: str) -> None:
        status = plans(training(), seen(ranks(), told(at=5, missing_ranks=missing_ranks))).status
        assert states(status)["PodsReady"] == "False/WaitingForRanks"
        assert condition(status, ConditionType.PODS_READY).message == message

    def test_when_all_have_come_all_run(self) -> None:
        run = training()
        plans(run, seen(ranks(), told(at=5, missing_ranks="3")))
        assert states(plans(run, seen(ranks(), told(at=7))).status)["PodsReady"] == "True/AllRunning"

    def test_what_keeps_a_rank_s_pod_from_starting_is_told_first(self) -> None:
        observed = seen(ranks(ALL - {3}), told(at=5, missing_ranks="3"))
        blocker = Blocker(reason="Unschedulable", message="no node takes the pod")
        with_blocker = Observed(now=observed.now, jobs=observed.jobs, progress=observed.progress, blocker=blocker)
        assert states(plans(training(), with_blocker).status)["PodsReady"] == "False/Unschedulable"

    def test_a_rank_that_is_lost_later_is_awaited_again(self) -> None:
        run = training()
        plans(run, seen(ranks(), told(at=5, step=30)))
        status = plans(run, seen(ranks(), told(at=9, step=20, missing_ranks="1", started=8))).status
        assert condition(status, ConditionType.PODS_READY).message == "rank 1 of 4 has not come"

    def test_the_first_rank_is_awaited_when_its_pod_is_gone(self) -> None:
        status = plans(training(), seen(ranks(ALL - {0}), told(at=5, missing_ranks="2"))).status
        assert condition(status, ConditionType.PODS_READY).message == "rank 0 of 4 has not come"

    def test_waiting_for_ranks_is_no_progress_and_stalls(self) -> None:
        run = training()
        late = STALLED_AFTER.total_seconds() + 1
        status = plans(run, seen(ranks(), at=0), seen(ranks(), told(at=late, missing_ranks="3"), at=late)).status
        assert states(status)["Progressing"] == "False/Stalled"
        assert status.progress.last_updated_time is None


class TestStartDeadline:
    LIMIT = "startDeadlineSeconds=10"

    def _failed(self, *observed: Observed, **changes: Any) -> str:
        status = plans(training(self.LIMIT), seen(ranks(), at=0), *observed).status
        assert status.phase is Phase.FAILED
        failed = condition(status, ConditionType.FAILED)
        assert failed.reason == "StartDeadlineExceeded"
        return failed.message

    def test_counts_until_all_ranks_have_come(self) -> None:
        run = training(self.LIMIT)
        waiting = told(at=9, missing_ranks="3")
        assert not plans(run, seen(ranks(), at=0), seen(ranks(), waiting, at=10)).status.finished
        assert plans(run, seen(ranks(), waiting, at=10.1)).status.phase is Phase.FAILED

    def test_names_the_ranks_that_never_came(self) -> None:
        message = self._failed(seen(ranks(), told(at=9, missing_ranks="2-3"), at=11))
        assert message == "spec.startDeadlineSeconds: ranks 2-3 of 4 never came within 10 s"

    def test_names_the_first_rank_by_its_pod_for_nobody_else_reports(self) -> None:
        message = self._failed(seen(ranks(ALL - {0}), at=11))
        assert message == "spec.startDeadlineSeconds: rank 0 of 4 never came within 10 s"

    def test_says_what_kept_a_rank_s_pod_from_starting(self) -> None:
        observed = seen(ranks(ALL - {3}), told(at=9, missing_ranks="3"), at=11)
        blocker = Blocker(reason="ImagePullBackOff", message="pod words-3: the image can't be pulled")
        message = self._failed(
            Observed(now=observed.now, jobs=observed.jobs, progress=observed.progress, blocker=blocker)
        )
        assert message.endswith("rank 3 of 4 never came within 10 s; ImagePullBackOff: pod words-3: the image can't "
                                "be pulled")  # fmt: skip

    @pytest.mark.parametrize("report", [told(at=8), told(at=8, step=3)])
    def test_is_over_once_training_has_begun_whoever_is_lost_later(self, report: ProgressReport) -> None:
        run = training(self.LIMIT)
        plans(run, seen(ranks(), at=0), seen(ranks(), report, at=9))
        lost = seen(ranks(ALL - {1}), told(at=50, step=3, missing_ranks="1", started=40), at=60)
        assert not plans(run, lost).status.finished
        # An operator that has just started remembers no report.
        assert not plans(run, seen(ranks(ALL - {0}), at=3600)).status.finished

    def test_has_no_say_where_reports_do_not_get_through(self) -> None:
        run = training(self.LIMIT)
        assert not plans(run, seen(ranks(), at=0), seen(ranks(), at=3600)).status.finished

    def test_is_not_for_ranks_of_which_one_is_done(self) -> None:
        done = ranks(ALL - {0, 1}, completed=frozenset({0, 1}))
        assert not plans(training(self.LIMIT), seen(ranks(), at=0), seen(done, at=3600)).status.finished


class TestSteps:
    def test_are_those_of_the_first_rank(self) -> None:
        status = plans(training(), seen(ranks(), told(at=5, step=30), told(1, at=6, step=7))).status
        assert (status.items.done, status.progress.percent) == (30, 30)
        assert status.progress.last_updated_time == T0 + timedelta(seconds=5)

    def test_go_back_to_the_checkpoint_when_a_rank_was_lost(self) -> None:
        run = training()
        plans(run, seen(ranks(), told(at=5, step=70)))
        status = plans(run, seen(ranks(), told(at=20, step=51, resumed=50, started=19))).status
        assert (status.items.done, status.progress.percent) == (51, 51)

    @pytest.mark.parametrize("reports", [[], [told(at=9, missing_ranks="2")], [told(1, at=9)]])
    def test_stay_while_nobody_says_otherwise(self, reports: list[ProgressReport]) -> None:
        run = training()
        plans(run, seen(ranks(), told(at=5, step=70)))
        assert plans(run, seen(ranks(), *reports)).status.items.done == 70

    def test_are_as_fast_as_the_first_rank_says_which_knows_how_long_it_waited(self) -> None:
        status = plans(training(), seen(ranks(), told(at=50, step=20, stepsPerSecond=4))).status
        assert status.progress.rate_per_second == 4
        assert status.progress.estimated_remaining_seconds == 20

    def test_are_as_fast_as_its_time_says_where_it_says_nothing(self) -> None:
        status = plans(training(), seen(ranks(), told(at=10, step=25, resumed=5))).status
        assert status.progress.rate_per_second == 2

    def test_of_one_rank_alone_are_told_to_the_last_step(self) -> None:
        over = ranks(frozenset(), state=JobState.COMPLETE, completed=ALL, ended=T0 + timedelta(seconds=60))
        made = plans(training(), seen(over, told(at=50, step=100), told(1, at=50, step=9)))
        job = ensured(made.actions)
        assert job.document.worked is not None
        assert job.document.worked.done == 100


class TestFigures:
    def test_are_the_newest_of_the_first_rank(self) -> None:
        run = training()
        plans(run, seen(ranks(), told(at=5, step=30, checkpoint=20, softLoss=2, wrong=9)))
        status = plans(run, seen(ranks(), told(at=8, step=60, checkpoint=50, softLoss=1), told(1, at=9, x=3))).status
        assert metrics(status) == {"softLoss": 1}
        assert status.checkpoint == Checkpoint(uri="file:///out/checkpoint.npz", step=50)

    def test_stay_when_nobody_reports_any(self) -> None:
        run = training()
        plans(run, seen(ranks(), told(at=5, checkpoint=20, softLoss=2)))
        for observed in (seen(ranks()), seen(ranks(), told(at=9, missing_ranks="1"))):
            status = plans(run, observed).status
            assert metrics(status) == {"softLoss": 2}
            assert status.checkpoint is not None

    def test_of_the_result_replace_them_and_the_checkpoint_stays(self) -> None:
        run = training()
        result = RunResult(digest="sha256:2", metrics=[Metric(name="gates", value=7)]).model_dump_json()
        over = ranks(frozenset(), state=JobState.COMPLETE, completed=ALL)
        last = told(at=5, checkpoint=90, softLoss=2)
        plans(run, seen(ranks(), last))
        done = seen(over, last, finalize=JobView(state=JobState.COMPLETE, message=result))
        status = plans(run, done).status
        assert metrics(status) == {"gates": 7}
        assert status.checkpoint is not None
        assert plans(run, done).status == status

    def test_are_such_as_json_holds(self) -> None:
        odd = told(at=5, softLoss=math.nan, hardLoss=math.inf, stepsPerSecond=math.inf, wrong=3, others={"x" * 100: 1})
        status = plans(training(), seen(ranks(), odd)).status
        assert metrics(status) == {"wrong": 3, f"{'x' * 63}…": 1}
        assert RunStatus.model_validate_json(status.model_dump_json()) == status

    def test_of_a_result_are_such_too(self) -> None:
        result = RunResult(digest="d", metrics=[Metric(name="a", value=1), Metric(name="b", value=2)])
        text = result.model_dump_json().replace("2.0", "NaN")
        view = JobView(state=JobState.COMPLETE, message=text)
        over = ranks(frozenset(), state=JobState.COMPLETE, completed=ALL)
        assert metrics(plans(training(), seen(over, finalize=view)).status) == {"a": 1}

    def test_are_no_more_than_a_status_has_room_for(self) -> None:
        many = told(at=5, wrong=1, others={f"metric{n}": n for n in range(31)})
        assert len(plans(sweep(), seen(ranks(), many)).status.metrics) == 32


class TestNumberOfRanks:
    def test_may_change_while_they_run_and_reaches_job_and_document(self) -> None:
        run = training()
        plans(run, seen(ranks(), told(at=5, step=9)))
        run.spec.sharding.shards = 2
        made = plans(run, seen(ranks(), told(at=5, step=9)))
        job = ensured(made.actions)
        assert (job.step, job.completions, job.parallelism) == (Step.WORK, 2, 2)
        assert job.document.spec["sharding"]["shards"] == 2
        assert made.status.shards.total == 2

    def test_leaves_out_what_ranks_beyond_it_came_to(self) -> None:
        run = training()
        run.spec.sharding.shards = 2
        made = plans(run, seen(ranks(ALL - {3}, completed=frozenset({1, 3}))))
        assert (made.status.shards.succeeded, made.status.shards.completed_indexes) == (1, "1")

    def test_comes_too_late_when_they_are_done(self) -> None:
        run = training()
        run.spec.sharding.shards = 6
        made = plans(run, seen(ranks(frozenset(), state=JobState.COMPLETE, completed=ALL)))
        assert ensured(made.actions).step is Step.FINALIZE
        assert (made.status.shards.total, made.status.shards.succeeded) == (4, 4)
