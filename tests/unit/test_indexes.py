"""Interval text is Kubernetes' own format: what the Job controller writes is read, and written alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.common import MAX_SHARDS
from shardwise_api.indexes import from_text, missing, select, to_text


@given(st.sets(st.integers(0, MAX_SHARDS - 1)))
def test_a_set_survives_the_round_trip(indexes: set[int]) -> None:
    assert from_text(to_text(indexes)) == indexes


@given(st.lists(st.integers(0, 50)))
def test_order_and_repetition_do_not_matter(indexes: list[int]) -> None:
    assert to_text(indexes) == to_text(set(indexes))


@pytest.mark.parametrize(
    ("indexes", "text"),
    [
        (set(), ""),
        ({0}, "0"),
        ({3, 4}, "3,4"),
        ({3, 4, 5}, "3-5"),
        ({1, 3, 4, 5, 7}, "1,3-5,7"),
        ({0, 1, 3, 4, 6}, "0,1,3,4,6"),
        (set(range(10_000)), "0-9999"),
    ],
)
def test_the_text_is_the_job_controllers(indexes: set[int], text: str) -> None:
    assert to_text(indexes) == text
    assert from_text(text) == indexes


@pytest.mark.parametrize("shards", [10, 1000, 10_000])
def test_a_run_in_progress_is_told_in_a_few_bytes(shards: int) -> None:
    assert len(to_text(range(shards // 2))) < 12


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1-2-3", "5-3", "1;2", "1.5", "1, 2"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="interval"):
        from_text(text)


@pytest.mark.parametrize("text", ["0-99999999999", "10000", "0-9999,0-9999", f"1,{'9' * 5000}"])
def test_more_than_a_run_can_have_is_refused_before_it_takes_memory(text: str) -> None:
    with pytest.raises(ValueError, match=r"too much|digits"):
        from_text(text)


@given(st.sets(st.integers(0, 200), min_size=1), st.data())
def test_places_in_a_set_are_counted_in_its_order(members: set[int], data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, len(members) - 1)))
    assert select(to_text(members), places) == {sorted(members)[place] for place in places}


@pytest.mark.parametrize("place", [-1, 3])
def test_a_place_that_a_set_does_not_have_is_refused(place: int) -> None:
    with pytest.raises(ValueError, match="has 3 members"):
        select("2,5,7", [place])


@given(st.sets(st.integers(-3, 40)), st.integers(0, 30))
def test_what_is_missing_is_what_is_not_there(present: set[int], count: int) -> None:
    assert from_text(missing(present, of=count)) == set(range(count)) - present


def test_what_is_missing_of_any_number_costs_nothing() -> None:
    assert missing({1, 2, 2**31}, of=2**63) == f"0,3-{2**31 - 1},{2**31 + 1}-{2**63 - 1}"
