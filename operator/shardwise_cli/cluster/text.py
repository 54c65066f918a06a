"""Numbers, times and columns as `kubectl` shows them: short enough for a table, and never cut."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
NOTHING = "-"


def duration(seconds: float | None) -> str:
    """Return a time span in its two largest units: 42s, 3m20s, 5h, 2d4h."""
    if seconds is None:
        return NOTHING
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if parts or count:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"


def age(moment: datetime | None, *, now: datetime) -> str:
    """Return how long ago something was."""
    return NOTHING if moment is None else duration((now - moment).total_seconds())


def count(number: int | None) -> str:
    """Return a count: 12,345, and 1.2M from a million on."""
    if number is None:
        return "?"
    for unit, size in (("G", 1_000_000_000), ("M", 1_000_000)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:,}"


def rate(per_second: float | None) -> str:
    """Return items per second."""
    if not per_second:
        return NOTHING
    return f"{per_second:,.0f}/s" if per_second >= 100 else f"{per_second:.1f}/s"


def percent(number: int | None) -> str:
    """Return percent."""
    return NOTHING if number is None else f"{number}%"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of left-aligned columns, two spaces apart; the first row is the headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
