"""A sweep of seeds: those that fail end nothing, and the one nearest to its goal is shown."""

from __future__ import annotations

from typing import Any

import pytest

from shardwise_api.status import ConditionType, Failure
from shardwise_api.wire import (
    Step,
    StepFailure,
)
from shardwise_operator.core.observed import FAILED_INDEXES, JobState, JobView
from shardwise_operator.core.plan import plan
from tests.support.observed_trainings import metrics, ranks, seen, sweep, told
from tests.support.plans import condition, ensured, plans, states


class TestSweep:
    def _over(self, *, solved: set[int], state: JobState = JobState.FAILED, **fields: Any) -> JobView:
        failed = frozenset({0, 1, 2, 3}) - solved if state is JobState.FAILED else frozenset({0})
        return JobView(
            state=state, completions=4, parallelism=4, completed=frozenset(solved), failed=failed,
            reason=FAILED_INDEXES if state is JobState.FAILED else "", **fields,
        )  # fmt: skip

    def test_that_found_a_seed_is_finalized(self) -> None:
        made = plans(sweep(), seen(self._over(solved={2}, state=JobState.COMPLETE)))
        assert ensured(made.actions).step is Step.FINALIZE
        assert (made.status.shards.succeeded, made.status.shards.failed) == (1, 1)

    @pytest.mark.parametrize("solved", [set(), {3}])
    def test_of_which_seeds_failed_is_finalized_whatever_their_number(self, solved: set[int]) -> None:
        failures = [Failure(shard=0, exit_code=3, reason="NotConverged", message="seed 5: 100 steps, 9 wrong")]
        made = plans(sweep(), seen(self._over(solved=solved), failures=failures))
        assert ensured(made.actions).step is Step.FINALIZE
        assert made.status.shards.failed == 4 - len(solved)
        assert made.status.failures == failures

    def test_that_was_told_wrongly_fails_all_the_same(self) -> None:
        message = StepFailure(reason="InvalidSpec", message="no").model_dump_json()
        view = JobView(state=JobState.FAILED, completions=4, reason="PodFailurePolicy", message=message)
        assert condition(plans(sweep(), seen(view)).status, ConditionType.FAILED).reason == "PodFailurePolicy"

    def test_without_a_seed_that_converged_fails_in_the_words_of_its_last_step(self) -> None:
        message = StepFailure(reason="NoSeedConverged", message="none of 4 seeds").model_dump_json()
        end = JobView(state=JobState.FAILED, reason="PodFailurePolicy", message=message)
        failed = condition(plans(sweep(), seen(self._over(solved=set()), finalize=end)).status, ConditionType.FAILED)
        assert (failed.reason, failed.message) == ("NoSeedConverged", "finalize: none of 4 seeds")

    def test_shows_the_seed_that_is_nearest_to_its_goal(self) -> None:
        reports = [told(0, at=9, step=50, wrong=30), told(1, at=5, step=40, wrong=2, checkpoint=40), told(2, at=8)]
        status = plans(sweep(), seen(ranks(), *reports)).status
        assert metrics(status) == {"seed": 6, "wrong": 2}
        assert status.checkpoint is not None
        assert status.checkpoint.step == 40

    def test_has_as_many_steps_as_its_seeds_together_and_is_as_fast(self) -> None:
        reports = [told(0, at=9, step=50, stepsPerSecond=3), told(1, at=9, step=10, stepsPerSecond=2)]
        status = plans(sweep(), seen(ranks(), *reports)).status
        assert (status.items.done, status.progress.rate_per_second) == (60, 5)

    def test_waits_for_no_rank(self) -> None:
        run = sweep("startDeadlineSeconds=10")
        status = plans(run, seen(ranks(), at=0), seen(ranks(frozenset({0}), active=1), at=3600)).status
        assert not status.finished
        assert states(status)["PodsReady"] == "False/WaitingForPods"


def test_a_report_of_a_shard_that_there_is_not_is_no_reason_to_stop() -> None:
    assert plan(sweep(), seen(ranks(), told(17, at=5, wrong=1))).status.metrics == []
