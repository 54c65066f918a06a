"""Which patterns go into which call to a KATO server, and what a lost call can have learned: pure functions.

A server learns either whole patterns (an extension), or by itself when its memory holds `chunk_size` events, or
at the end of a call. The batching rules follow from that alone, so they are kept apart from any connection.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .stores.base import Events


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that learns some patterns, in order, from an empty short-term memory to an empty one."""

    patterns: tuple[Events, ...]
    learn_at_end: bool = False
    auto_learn: int | None = None
    """What the session's max_pattern_length must be for this call; None when both 0 and the chunk size will do."""

    def observations(self) -> list[dict[str, Any]]:
        """Return what an observe-sequence is to send, one event each."""
        return [{"strings": event} for pattern in self.patterns for event in pattern]

    def sequences(self) -> list[list[str]]:
        """Return what a learn-sequences is to send: the symbols of each pattern, whose events are single symbols."""
        return [[symbol for event in pattern for symbol in event] for pattern in self.patterns]


def plan_calls(sequences: Sequence[Events], *, chunk_size: int, batch_size: int, whole: bool) -> list[Call]:
    """Put patterns into as few calls as their lengths allow, at most `batch_size` into one; order is kept.

    `whole` is for servers that take patterns of any length as such. Else a call is a run of patterns of exactly
    `chunk_size` events, which the server learns by itself; a shorter one can only end a call, learned by its end; a
    longer one needs a call without learning by itself.
    """
    if whole:
        starts = range(0, len(sequences), batch_size)
        return [Call(patterns=tuple(sequences[start : start + batch_size])) for start in starts]
    calls: list[Call] = []
    run: list[Events] = []

    def end_run() -> None:
        if run:
            calls.append(_plain_call(tuple(run), chunk_size=chunk_size))
            run.clear()

    for sequence in sequences:
        if len(sequence) > chunk_size:
            end_run()
        run.append(sequence)
        if len(sequence) != chunk_size or len(run) == batch_size:
            end_run()
    end_run()
    return calls


def _plain_call(patterns: tuple[Events, ...], *, chunk_size: int) -> Call:
    last = len(patterns[-1])
    if len(patterns) > 1:
        return Call(patterns=patterns, auto_learn=chunk_size, learn_at_end=last < chunk_size)
    return Call(patterns=patterns, auto_learn=0 if last > chunk_size else None, learn_at_end=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """How many patterns of a lost call, counted from its first, the server has learned: at least, and at most."""

    least: int
    most: int


def applied(names: Sequence[str], *, before: Mapping[str, int], after: Mapping[str, int], sole_writer: bool) -> Applied:
    """Bound what a call has learned, given frequencies from before and after it.

    `names` are what the call learns, in order; a server learns them in that order, so what it did is a prefix. A name
    missing in `before` was not looked up; so was one missing in `after`. Frequencies only grow, so growth is an upper
    bound whoever else writes, and exact where nobody else does.
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    for position, name in enumerate(names):
        places[name].append(position)
    least, most = 0, len(names)
    for name, frequency in after.items():
        at = places[name]
        grown = frequency - before.get(name, 0)
        if grown < len(at):
            most = min(most, at[max(grown, 0)])
        if sole_writer and name in before and grown > 0:
            least = max(least, at[min(grown, len(at)) - 1] + 1)
    return Applied(least=min(least, most), most=most)
