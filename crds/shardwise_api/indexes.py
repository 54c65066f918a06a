"""Sets of completion indexes as interval text (`0-4,7`), as the Job controller writes them: bounded for any run."""

from __future__ import annotations

from collections.abc import Iterable


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


def from_text(text: str) -> set[int]:
    """Read what `to_text` or the Job controller wrote.

    Raises:
        ValueError: the text is not a list of intervals.
    """
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
