"""Sets of completion indexes as interval text (`0-4,7`), as the Job controller writes them: bounded for any run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .common import MAX_SHARDS


def to_text(indexes: Iterable[int]) -> str:
    """Return sorted, merged intervals: {0, 1, 2, 3, 4, 7} -> `0-4,7`; two neighbours are `0,1` as Kubernetes has it."""
    intervals: list[tuple[int, int]] = []
    for index in sorted(set(indexes)):
        if intervals and index == intervals[-1][1] + 1:
            intervals[-1] = (intervals[-1][0], index)
        else:
            intervals.append((index, index))
    return _text(intervals)


def missing(present: Iterable[int], *, of: int) -> str:
    """Return the indexes below `of` that are not present, as interval text; `of` may be any number and costs nothing.

    missing({1, 2}, of=2**31) -> `0,3-2147483647`
    """
    intervals: list[tuple[int, int]] = []
    following = 0
    for index in sorted(set(present)):
        if not following <= index < of:
            continue
        if index > following:
            intervals.append((following, index - 1))
        following = index + 1
    if following < of:
        intervals.append((following, of - 1))
    return _text(intervals)


def _text(intervals: Iterable[tuple[int, int]]) -> str:
    return ",".join(
        f"{first}" if first == last else f"{first},{last}" if last == first + 1 else f"{first}-{last}"
        for first, last in intervals
    )


def select(text: str, positions: Iterable[int]) -> set[int]:
    """Return the members of a set that have these places in its order, counted from 0.

    Raises:
        ValueError: the text is not a list of intervals, or has no such place.
    """
    members, wanted = _members(text), set(positions)
    if any(not 0 <= position < len(members) for position in wanted):
        raise ValueError(f"{text!r} has {len(members)} members, and no place {to_text(wanted)}")
    return {members[position] for position in wanted}


@lru_cache(maxsize=256)
def _members(text: str) -> tuple[int, ...]:
    # Asked for with every event of a Job's pods.
    return tuple(sorted(from_text(text)))


def from_text(text: str) -> set[int]:
    """Read what `to_text` or the Job controller wrote.

    Raises:
        ValueError: the text is not a list of intervals, or of more indexes than a run may have: it may be anybody's.
    """
    found: set[int] = set()
    count = 0
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        if match is None:
            raise ValueError(f"{part!r} is not an interval of indexes")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the interval {part!r} ends before it starts")
        count += last - first + 1
        if last >= MAX_SHARDS or count > MAX_SHARDS:
            raise ValueError(f"the interval {part!r} is too much: a run has at most {MAX_SHARDS:,} shards")
        found.update(range(first, last + 1))
    return found
