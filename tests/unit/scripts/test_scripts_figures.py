"""The suite benchmark's arithmetic: a bound that is wrong makes any run look good, or bad."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.scripts_figures import list_schedule, lost, most_at_once, outcome, uneven
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("seconds", "workers", "end"),
    [
        ([30] * 7, 1, 210),
        ([30] * 7, 6, 60),
        ([30] * 7, 7, 30),
        # The original's example of a list in a bad order, and in a good one.
        ([1, 1, 1, 3], 3, 4),
        ([3, 1, 1, 1], 3, 3),
        ([], 4, 0),
    ],
)
def test_a_list_schedule_ends_when_its_last_job_does(seconds: list[float], workers: int, end: float) -> None:
    assert list_schedule(seconds, workers=workers) == end


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30), st.integers(1, 8))
def test_it_is_between_what_is_possible_and_what_graham_promises(seconds: list[float], workers: int) -> None:
    least = max(sum(seconds) / workers, max(seconds))
    found = list_schedule(seconds, workers=workers)

    assert least * (1 - 1e-9) <= found <= (sum(seconds) / workers + max(seconds) * (1 - 1 / workers)) * (1 + 1e-9)


def test_uneven_jobs_are_the_same_each_time_and_uneven() -> None:
    found = uneven(200, mean=2)

    assert found == uneven(200, mean=2)
    assert min(found) >= 0.2
    assert max(found) <= 16
    assert max(found) > 4 * sum(found) / len(found)


def summary(*spans: tuple[str, str]) -> dict[str, Any]:
    attempts = [{"start_time": start, "end_time": end} for start, end in spans]
    return {"jobs": [{"id": "a", "status": "SUCCESS", "exit_code": 0, "attempts_detail": attempts}]}


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([("1", "2"), ("2", "3")], 1),
        ([("1", "3"), ("2", "4")], 2),
        ([("1", "9"), ("2", "3"), ("4", "5")], 2),
        ([], 0),
    ],
)
def test_attempts_that_share_a_moment_are_counted(spans: list[tuple[str, str]], most: int) -> None:
    assert most_at_once(summary(*spans)) == most


def test_what_two_runs_share_is_id_status_and_exit_code() -> None:
    assert outcome(summary(("1", "2"))) == [("a", "SUCCESS", 0)]
    assert lost(11, 10) == pytest.approx(0.1)
