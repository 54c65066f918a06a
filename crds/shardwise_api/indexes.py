"""Sets of completion indexes as interval text (`0-4,7`), as the Job controller writes them: bounded for any run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .common import MAX_SHARDS


def to_text(indexes: Iterable[int]) -> str:
    """Return sorted, merged intervals: {0, 1, 2, 3, 4, 7} -> `0-4,7`; two neighbours are `0,1` as Kubernetes has it."""
    parts: list[str] = []
    ordered = sorted(set(indexes))
    start = 0
    for position in range(1, len(ordered) + 1):
        if position < len(ordered) and ordered[position] == ordered[position - 1] + 1:
            continue
        first, last = ordered[start], ordered[position - 1]
        if first == last:
            parts.append(f"{first}")
        elif last == first + 1:
            parts.append(f"{first},{last}")
        else:
            parts.append(f"{first}-{last}")
        start = position
    return ",".join(parts)


def counted_in(text: str, positions: Iterable[int]) -> set[int]:
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
