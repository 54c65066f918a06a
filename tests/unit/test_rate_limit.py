"""Token buckets let through what they promise, and forget who is quiet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_operator.shell.rate_limit import RateLimit, TokenBucket, TokenBuckets

_RATE = RateLimit(per_second=2, burst=3)


def test_a_burst_goes_through_and_what_is_more_waits() -> None:
    bucket = TokenBucket(_RATE)
    assert [bucket.take(10.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(10.0) == 0.5
    assert bucket.take(10.25) == 0.25
    assert bucket.take(10.5) == 0


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(RateLimit(per_second=1000, burst=1))
    assert bucket.take(10.0) == 0
    assert bucket.take(5.0) > 0
    assert bucket.take(10.0) > 0


@given(st.lists(st.floats(0, 2), max_size=100))
def test_never_more_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    bucket, now, passed = TokenBucket(_RATE), 0.0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(now) == 0
    assert passed <= _RATE.burst + now * _RATE.per_second + 1e-6


@given(st.lists(st.floats(0, 2), min_size=1, max_size=50))
def test_who_waits_as_told_gets_through(pauses: list[float]) -> None:
    bucket, now = TokenBucket(_RATE), 0.0
    for pause in pauses:
        now += pause
        if wait := bucket.take(now):
            now += wait + 1e-9
            assert bucket.take(now) == 0


def test_one_key_does_not_use_up_another() -> None:
    buckets = TokenBuckets(RateLimit(per_second=1, burst=1))
    assert buckets.take("a", now=0) == 0
    assert buckets.take("a", now=0) > 0
    assert buckets.take("b", now=0) == 0


def test_keys_that_were_quiet_are_forgotten() -> None:
    buckets = TokenBuckets(_RATE)
    for number in range(1000):
        buckets.take(str(number), now=0)
    assert len(buckets) == 1000
    buckets.take("late", now=60)
    assert len(buckets) == 1


def test_a_flood_of_keys_takes_bounded_memory() -> None:
    buckets = TokenBuckets(_RATE, limit=10)
    for number in range(1000):
        buckets.take(str(number), now=0)
    assert len(buckets) == 10


def test_a_key_in_use_outlives_a_flood_of_others() -> None:
    buckets = TokenBuckets(RateLimit(per_second=0.001, burst=1), limit=10)
    buckets.take("busy", now=0)
    for number in range(100):
        buckets.take(str(number), now=0)
        assert buckets.take("busy", now=0) > 0


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_rate_that_lets_nothing_through_is_refused(per_second: float, burst: int) -> None:
    with pytest.raises(ValueError, match="lets something through"):
        RateLimit(per_second=per_second, burst=burst)
