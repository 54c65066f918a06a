"""A step that is spread over several Jobs is one to the plan: over when all are, and broken when one is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from shardwise_operator.core.observed import FAILED_INDEXES, JobState, JobView
from shardwise_operator.observe.aggregate import aggregate
from tests.support.virtual_time import T0

AT_WORK = JobView(
    state=JobState.RUNNING, completions=3, parallelism=2, active=2, running=frozenset({1, 2}), completed=frozenset({0}),
    started=T0,
)  # fmt: skip
SUSPENDED = JobView(state=JobState.SUSPENDED, completions=2)
DONE = JobView(
    state=JobState.COMPLETE, completions=2, parallelism=2, completed=frozenset({3, 4}),
    started=T0 + timedelta(seconds=5), ended=T0 + timedelta(seconds=60),
)  # fmt: skip
ONE_FAILED = JobView(
    state=JobState.FAILED, completions=2, parallelism=2, completed=frozenset({5}), failed=frozenset({6}),
    reason=FAILED_INDEXES, message="6", started=T0, ended=T0 + timedelta(seconds=9),
)  # fmt: skip
BROKEN = replace(ONE_FAILED, reason="DeadlineExceeded", message="too late")


def test_one_alone_is_itself() -> None:
    assert aggregate([AT_WORK], of=1) is AT_WORK


@pytest.mark.parametrize(
    ("jobs", "of", "state"),
    [
        ([AT_WORK, DONE], 2, JobState.RUNNING),
        ([AT_WORK, SUSPENDED], 2, JobState.RUNNING),
        ([SUSPENDED, DONE], 2, JobState.SUSPENDED),
        ([DONE, DONE], 2, JobState.COMPLETE),
        ([DONE, ONE_FAILED], 2, JobState.FAILED),
        ([DONE, ONE_FAILED], 3, JobState.RUNNING),
        ([DONE], 2, JobState.RUNNING),
        ([SUSPENDED], 2, JobState.SUSPENDED),
        ([AT_WORK, ONE_FAILED], 2, JobState.RUNNING),
        ([AT_WORK, BROKEN], 2, JobState.FAILED),
    ],
)
def test_it_is_over_when_all_are_or_one_is_broken(jobs: list[JobView], of: int, state: JobState) -> None:
    assert aggregate(jobs, of=of).state is state


def test_shards_and_workers_are_those_of_all() -> None:
    found = aggregate([AT_WORK, ONE_FAILED], of=2)
    assert (found.completions, found.active, found.running) == (5, 2, frozenset({1, 2}))
    assert (found.completed, found.failed) == (frozenset({0, 5}), frozenset({6}))
    # So many are to run: of those that are over none.
    assert found.parallelism == 2
    assert (found.started, found.ended) == (T0, None)


def test_it_lasts_from_the_first_start_to_the_last_end() -> None:
    found = aggregate([DONE, ONE_FAILED], of=2)
    assert (found.started, found.ended) == (T0, DONE.ended)
    assert (found.reason, found.message) == (FAILED_INDEXES, "6")


def test_of_a_broken_one_the_others_have_to_be_stopped() -> None:
    found = aggregate([AT_WORK, BROKEN], of=2)
    assert (found.reason, found.message, found.unended) == ("DeadlineExceeded", "too late", True)
    assert not aggregate([DONE, BROKEN], of=2).unended


def test_it_is_held_when_a_queue_holds_all_that_is_left() -> None:
    held = replace(SUSPENDED, held=True)
    assert aggregate([held, DONE], of=2).held
    assert not aggregate([held, SUSPENDED], of=2).held
    assert not aggregate([held, AT_WORK], of=2).held


def test_what_a_queue_still_holds_has_no_places_among_those_that_run() -> None:
    held = replace(SUSPENDED, held=True, parallelism=2)
    assert aggregate([held, AT_WORK], of=2).parallelism == aggregate([AT_WORK, DONE], of=2).parallelism == 2
