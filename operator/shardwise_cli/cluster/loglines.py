"""Log lines of many pods as one: each with its time, so that they can be merged, and taken up where a read broke."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime

from .view import time_of

Moment = tuple[datetime, str]
"""A time to the nanosecond: Python's own is cut at the microsecond, so the nine digits stand beside it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line and when it was written."""

    moment: Moment
    text: str


def parse(raw: str) -> Line | None:
    """Read a line that was asked for with its time; None for one without (as of a kubelet's own complaint)."""
    stamp, space, text = raw.partition(" ")
    if not space and not stamp.endswith("Z"):
        return None
    moment = time_of(stamp)
    return None if moment is None else Line(moment=(moment, _fraction(stamp)), text=text)


def _fraction(stamp: str) -> str:
    _, dot, rest = stamp.partition(".")
    digits = rest[: next((n for n, character in enumerate(rest) if not character.isdigit()), len(rest))] if dot else ""
    return digits.ljust(9, "0")


async def merge(streams: Sequence[AsyncGenerator[Line, None]]) -> AsyncGenerator[tuple[int, Line], None]:
    """Yield the lines of several logs by time, each with the number of its stream; holds one line of each at a time."""
    async with AsyncExitStack() as stack:
        heads: list[tuple[Moment, int, Line]] = []
        for number, stream in enumerate(streams):
            await stack.enter_async_context(aclosing(stream))
            if (line := await anext(stream, None)) is not None:
                heads.append((line.moment, number, line))
        heapq.heapify(heads)
        while heads:
            _, number, line = heads[0]
            yield number, line
            following = await anext(streams[number], None)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following.moment, number, following))
