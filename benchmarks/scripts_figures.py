"""What a suite's run could come to at best: the schedule that a list of jobs has on so many workers, by arithmetic."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence

from .figures import Json


def list_schedule(seconds: Sequence[float], *, workers: int) -> float:
    """Return when the last of some jobs ends, if each begins on the first worker that is free, in the order given."""
    free = [0.0] * workers
    for job in seconds:
        heapq.heappush(free, heapq.heappop(free) + job)
    return max(free)


def uneven(count: int, *, mean: float, seed: int = 1) -> list[float]:
    """Return durations of which most are short and a few long, in seconds; the longest is eight times the mean."""
    dice = random.Random(seed)
    drawn = [dice.lognormvariate(0, 0.8) for _ in range(count)]
    scale = mean / (sum(drawn) / count)
    return [round(min(max(one * scale, mean / 10), 8 * mean), 3) for one in drawn]


def most_at_once(summary: Json) -> int:
    """Return how many attempts of a summary ran at the same moment, at most."""
    moments = [
        moment
        for job in summary["jobs"]
        for attempt in job["attempts_detail"]
        # An end before a start that comes at the same moment.
        for moment in ((attempt["start_time"], 1), (attempt["end_time"], -1))
    ]
    running, most = 0, 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


def outcome(summary: Json) -> list[tuple[str, str, int | None]]:
    """Return what two runs must have in common: each job's id, status and exit code, in order."""
    return [(job["id"], job["status"], job["exit_code"]) for job in summary["jobs"]]


def lost(measured: float, best: float) -> float:
    """Return by which share a run took longer than it could at best."""
    return measured / best - 1 if best else math.nan
