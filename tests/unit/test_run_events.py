"""A person is told what happened to a run: each thing once, in words to act on, and nothing when nothing happened."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, Failure, RunStatus
from shardwise_operator.core.conditions import set_condition
from shardwise_operator.core.events import EventReason, RunEvent, run_events
from shardwise_operator.core.observed import JobState, JobView, Observed
from shardwise_operator.core.report import STALLED_AFTER
from tests.support.plans import (
    FINALIZE_DONE,
    ONE_RUNS,
    PREPARE_DONE,
    RESULT,
    T0,
    new_run,
    observe,
    plans,
    report,
    work_over,
    work_view,
)  # fmt: skip

_LIFE = [
    observe(),
    observe(at=1, prepare=ONE_RUNS),
    observe(at=2, prepare=PREPARE_DONE, work=work_view(), reports=[report(0, at=2)]),
    observe(
        at=3, prepare=PREPARE_DONE, work=work_view(failed=frozenset({3})),
        failures=[Failure(shard=3, exit_code=1, reason="OutOfMemory", message="killed at 2 GiB")],
    ),
    observe(at=60, prepare=PREPARE_DONE, work=work_over(), finalize=ONE_RUNS),
    observe(at=61, prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE),
]  # fmt: skip


def test_a_life_is_told_in_order_and_each_thing_once() -> None:
    events = life(new_run(), _LIFE)
    assert [str(one.reason) for one in events] == [
        "Accepted", "Started", "ShardFailed", "Finalizing", "Completed",
    ]  # fmt: skip
    assert [one.message for one in events] == [
        "The manifest is valid",
        "Working on 8 shards, 100 items",
        "Shard 3 failed (exit code 1): OutOfMemory: killed at 2 GiB",
        "All shards are over; putting the results together",
        f"Digest {RESULT.digest}",
    ]
    assert [one.type for one in events] == ["Normal", "Normal", "Warning", "Normal", "Normal"]


@given(st.lists(st.sampled_from(_LIFE), max_size=20))
def test_whatever_is_seen_in_whatever_order_nothing_is_told_twice(history: list[Observed]) -> None:
    events = life(new_run(), history)
    for reason in (EventReason.ACCEPTED, EventReason.COMPLETED, EventReason.FAILED):
        assert [one.reason for one in events].count(reason) <= 1
    assert [one.reason for one in events].count(EventReason.SHARD_FAILED) <= 1


def test_a_suspension_and_its_end_are_told() -> None:
    run = new_run()
    work = observe(at=2, prepare=PREPARE_DONE, work=work_view())
    plans(run, work)
    run.spec.suspend = True
    paused = observe(at=3, prepare=PREPARE_DONE, work=work_view(JobState.SUSPENDED, active=0))
    assert [(one.reason, one.message) for one in life(run, [paused])] == [
        (EventReason.SUSPENDED, "SuspendRequested: spec.suspend is true")
    ]
    run.spec.suspend = False
    (resumed,) = life(run, [observe(at=4, prepare=PREPARE_DONE, work=work_view())])
    assert resumed.reason is EventReason.RESUMED


def test_suspensions_one_after_the_other_are_two_occasions() -> None:
    run, occasions = new_run(), set()
    for at in (1, 2, 3, 4):
        run.spec.suspend = at % 2 == 1
        events = life(run, [observe(at=at, prepare=PREPARE_DONE, work=work_view())])
        occasions |= {one.occasion for one in events if one.reason is EventReason.SUSPENDED}
    assert len(occasions) == 2


def test_a_run_that_ends_while_suspended_is_not_said_to_be_resumed() -> None:
    run = new_run()
    run.spec.suspend = True
    plans(run, observe(prepare=PREPARE_DONE, work=work_view()))
    events = life(run, [observe(at=9, prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE)])
    assert [one.reason for one in events] == [EventReason.COMPLETED]


def test_a_stall_is_told_once_for_as_long_as_it_lasts() -> None:
    run = new_run()
    reports = [report(0, at=5)]
    seconds = STALLED_AFTER.total_seconds()
    events = life(
        run,
        [
            observe(at=at, prepare=PREPARE_DONE, work=work_view(), reports=reports)
            for at in (6, seconds + 6, seconds * 2)
        ],
    )
    stalls = [one for one in events if one.reason is EventReason.STALLED]
    assert [(one.type, one.message) for one in stalls] == [
        ("Warning", "Nothing has moved since 2026-01-01 12:00:05 UTC; see the logs of the pods that run")
    ]


def test_a_failed_run_says_why() -> None:
    failed = JobView(
        state=JobState.FAILED, reason="BackoffLimitExceeded", message='{"reason": "NoInput", "message": "x"}'
    )
    (accepted, ended) = life(new_run(), [observe(prepare=failed)])
    assert accepted.reason is EventReason.ACCEPTED
    assert (ended.type, ended.reason, ended.message) == ("Warning", EventReason.FAILED, "NoInput: prepare: x")


def test_the_same_failure_again_is_another_one() -> None:
    failure = Failure(shard=1, exit_code=1, reason="Error", message="no luck")
    before, after = RunStatus(failures=[failure]), RunStatus(failures=[failure, failure])
    (again,) = run_events(before=before, after=after)
    (first,) = run_events(before=None, after=before)
    assert (again.message, first.message) == ("Shard 1 failed (exit code 1): Error: no luck",) * 2
    assert again.occasion != first.occasion


def test_a_failed_item_is_no_failed_shard() -> None:
    assert run_events(before=None, after=RunStatus(failures=[Failure(reason="BadLine")])) == ()


def test_a_refused_manifest_is_told_with_its_problems_and_again_when_they_change() -> None:
    first, second = RunStatus(observed_generation=1), RunStatus(observed_generation=2)
    set_condition(first, ConditionType.ACCEPTED, value=False, reason="InvalidSpec", message="spec.a: no", now=T0)
    (event,) = run_events(before=None, after=first)
    assert (event.type, event.reason, event.message) == ("Warning", EventReason.REJECTED, "InvalidSpec: spec.a: no")
    assert run_events(before=first, after=first) == ()
    set_condition(second, ConditionType.ACCEPTED, value=False, reason="InvalidSpec", message="spec.b: no", now=T0)
    assert [one.message for one in run_events(before=first, after=second)] == ["InvalidSpec: spec.b: no"]


def test_what_keeps_workers_from_starting_is_told_once_per_reason() -> None:
    def not_starting(reason: str, message: str, **fields: Any) -> RunStatus:
        status = RunStatus(**fields)
        set_condition(status, ConditionType.PODS_READY, value=False, reason=reason, message=message, now=T0)
        return status

    no_image = not_starting("ImagePullBackOff", "worker:9 can't be pulled")
    (event,) = run_events(before=not_starting("WaitingForPods", "0 of 2 workers run"), after=no_image)
    assert (event.type, event.message) == ("Warning", "ImagePullBackOff: worker:9 can't be pulled")
    assert run_events(before=no_image, after=not_starting("ImagePullBackOff", "worker:9: again in 20 s")) == ()
    assert len(run_events(before=no_image, after=not_starting("QuotaExceeded", "pods: 0 of 0"))) == 1
    assert run_events(before=None, after=not_starting("WaitingForPods", "0 of 2 workers run")) == ()


def life(run: Run, history: list[Observed]) -> list[RunEvent]:
    """Return all that is reported while a run is observed; a status itself reports nothing, which is checked too."""
    events: list[RunEvent] = []
    for observed in history:
        before = run.status
        after = plans(run, observed).status
        events += run_events(before=before, after=after)
        assert run_events(before=after, after=after) == ()
    return events
