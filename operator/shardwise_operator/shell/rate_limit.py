"""Token buckets: what may happen how often, so that a flood costs its sender and not the API server.

Time is handed in, so that a bucket needs no clock and a test no waiting.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """`per_second` in the long run, `burst` at once after a quiet time."""

    per_second: float
    burst: int

    def __post_init__(self) -> None:
        if self.per_second <= 0 or self.burst < 1:
            raise ValueError("a rate lets something through: per_second > 0 and burst >= 1")


class TokenBucket:
    """One bucket, full at first."""

    __slots__ = ("_rate", "_time", "_tokens")

    def __init__(self, rate: RateLimit) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._time: float | None = None

    def take(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one. `now` is of a monotonic clock."""
        self._fill(now)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate.per_second

    def give_back(self) -> None:
        """Put a token that was taken back."""
        self._tokens = min(self._rate.burst, self._tokens + 1)

    def is_full(self, now: float) -> bool:
        """Say whether this bucket is as good as a new one."""
        self._fill(now)
        return self._tokens >= self._rate.burst

    def _fill(self, now: float) -> None:
        if self._time is not None and now > self._time:
            self._tokens = min(self._rate.burst, self._tokens + (now - self._time) * self._rate.per_second)
        if self._time is None or now > self._time:
            self._time = now


class TokenBuckets:
    """A bucket per key, in bounded memory: a full bucket says nothing and is dropped, then the longest unused one."""

    def __init__(self, rate: RateLimit, *, limit: int = 10_000) -> None:
        self._rate = rate
        self._limit = limit
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, *, now: float) -> float:
        """Take a token of this key and return 0, or return the seconds until there is one."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate)
        self._buckets.move_to_end(key)
        wait = bucket.take(now)
        self._age(now)
        return wait

    def give_back(self, key: str) -> None:
        """Put a token of this key that was taken back."""
        if (bucket := self._buckets.get(key)) is not None:
            bucket.give_back()

    def _age(self, now: float) -> None:
        # The longest unused come first, so this stops at the first that still has something to say.
        while self._buckets:
            key, oldest = next(iter(self._buckets.items()))
            if len(self._buckets) <= self._limit and not oldest.is_full(now):
                return
            del self._buckets[key]
