"""A rejected run says everything that is wrong with it, and never what is not so."""

from __future__ import annotations

from datetime import timedelta

from shardwise_api.status import ConditionType, Phase, RunStatus
from shardwise_operator.core.cluster_rules import rejected
from shardwise_operator.core.plan import plan
from tests.support.plans import T0, condition, new_run, observe, work_view

LATER = T0 + timedelta(seconds=60)


def test_every_problem_is_said() -> None:
    status = rejected(None, problems=["spec.a: no", "spec.b: no"], generation=3, now=T0)
    accepted = condition(status, ConditionType.ACCEPTED)
    assert (accepted.status, accepted.reason, accepted.message) == ("False", "InvalidSpec", "spec.a: no; spec.b: no")
    assert accepted.observed_generation == status.observed_generation == 3
    assert status.phase is Phase.REJECTED


def test_saying_it_again_changes_nothing() -> None:
    first = rejected(None, problems=["spec.a: no"], generation=1, now=T0)
    assert rejected(first, problems=["spec.a: no"], generation=1, now=LATER) == first


def test_another_problem_is_no_transition() -> None:
    first = rejected(None, problems=["spec.a: no"], generation=1, now=T0)
    second = rejected(first, problems=["spec.b: no"], generation=2, now=LATER)
    assert condition(second, ConditionType.ACCEPTED).last_transition_time == T0
    assert condition(second, ConditionType.ACCEPTED).message == "spec.b: no"


def test_a_run_that_has_ended_stays_as_it_ended() -> None:
    run = new_run("activeDeadlineSeconds=1")
    run.status = plan(run, observe(at=0, work=work_view())).status
    ended = plan(run, observe(at=30, work=work_view())).status
    assert ended.finished
    assert rejected(ended, problems=["spec.a: no"], generation=9, now=LATER) == ended


def test_the_status_before_is_left_alone() -> None:
    before = RunStatus()
    rejected(before, problems=["spec.a: no"], generation=1, now=T0)
    assert before == RunStatus()


def test_any_number_of_problems_fits_into_a_status() -> None:
    status = rejected(None, problems=[f"spec.field{n}: " + "x" * 100 for n in range(10_000)], generation=1, now=T0)
    assert len(condition(status, ConditionType.ACCEPTED).message) <= 1024
