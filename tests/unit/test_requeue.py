"""A run is looked at when its next limit is over: not before, not much later, and never when nothing can change."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, RunStatus
from shardwise_operator.core.conditions import set_condition
from shardwise_operator.core.plan import plan
from shardwise_operator.shell.requeue import RESYNC_SECONDS, requeue_after
from tests.support.plans import FINALIZE_DONE, PREPARE_DONE, T0, new_run, observe, work_over, work_view


def requeued(run: Run, *, at: float) -> float | None:
    assert run.status is not None
    return requeue_after(run=run, status=run.status, now=T0 + timedelta(seconds=at))


def working(*changes: str) -> Run:
    run = new_run(*changes)
    run.status = plan(run, observe(prepare=PREPARE_DONE, work=work_view())).status
    return run


def finished(*changes: str) -> Run:
    run = working(*changes)
    run.status = plan(run, observe(at=50, prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE)).status
    assert run.status.finished
    return run


def test_a_run_without_limits_is_looked_at_now_and_then() -> None:
    assert requeued(working(), at=0) == requeued(working(), at=9999) == RESYNC_SECONDS


@pytest.mark.parametrize("limit", ["activeDeadlineSeconds", "startDeadlineSeconds"])
def test_a_limit_is_over_when_it_is_looked_at(limit: str) -> None:
    run = working(f"{limit}=100")
    assert requeued(run, at=50) == RESYNC_SECONDS
    wait = requeued(run, at=97)
    assert wait is not None
    assert 3 < wait < 3.5


def test_the_nearer_limit_counts() -> None:
    wait = requeued(working("activeDeadlineSeconds=8", "startDeadlineSeconds=5"), at=1)
    assert wait is not None
    assert 4 < wait < 4.5


def test_a_limit_that_is_over_calls_for_no_haste() -> None:
    assert requeued(working("startDeadlineSeconds=5"), at=60) == RESYNC_SECONDS


def test_limits_do_not_run_while_a_run_is_suspended() -> None:
    run = working("activeDeadlineSeconds=5")
    assert run.status is not None
    set_condition(run.status, ConditionType.SUSPENDED, value=True, reason="SuspendRequested", now=T0)
    assert requeued(run, at=1) == RESYNC_SECONDS


def test_limits_begin_anew_after_a_suspension() -> None:
    run = working("activeDeadlineSeconds=5")
    assert run.status is not None
    for seconds, value in ((1, True), (60, False)):
        now = T0 + timedelta(seconds=seconds)
        set_condition(run.status, ConditionType.SUSPENDED, value=value, reason="x", now=now)
    wait = requeued(run, at=61)
    assert wait is not None
    assert 4 < wait < 4.5


def test_a_run_that_has_ended_and_stays_is_not_looked_at() -> None:
    assert requeued(finished(), at=60) is None


def test_a_run_that_has_ended_and_goes_is_looked_at_then() -> None:
    run = finished("ttlSecondsAfterFinished=1000")
    assert requeued(run, at=50) == 1000
    assert requeued(run, at=1049) == 1


def test_one_that_should_have_gone_is_looked_at_soon_but_not_at_once() -> None:
    wait = requeued(finished("ttlSecondsAfterFinished=0"), at=500)
    assert wait is not None
    assert 0 < wait < 1


def test_a_run_of_which_nothing_is_known_is_looked_at() -> None:
    run = new_run("activeDeadlineSeconds=5")
    assert requeue_after(run=run, status=RunStatus(), now=T0) is not None
