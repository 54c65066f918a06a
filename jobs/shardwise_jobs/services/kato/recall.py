"""A node's patterns in memory, indexed by symbol: what predictions are made from.

The statistics of symbols are sums over the patterns, so they need no reading of their own and always agree with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shardwise_jobs.engines.kato.stores.base import Events, Pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedPattern:
    """A pattern as predictions need it."""

    name: str
    events: Events
    flat: tuple[str, ...]
    frequency: int
    emotives: dict[str, float]
    """Mean of each emotive over the entries that the store keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one prediction needs of a node: made from it, the node may learn on."""

    candidates: Sequence[IndexedPattern]
    members: Mapping[str, int]
    memberships: int
    learns: int


class PatternIndex:
    """The patterns of a node at one version of the store. Who changes or reads it holds the node's lock."""

    def __init__(self, *, version: int, patterns: Iterable[Pattern]) -> None:
        self.version = version
        self.patterns: dict[str, IndexedPattern] = {}
        self.learns = 0
        """Learns of the node: the patterns' frequencies summed."""
        self.memberships = 0
        """Distinct symbols per learn, summed."""
        self.members: dict[str, int] = {}
        """Per symbol, the learns whose pattern held it."""
        self._holders: dict[str, dict[str, int]] = {}
        for pattern in patterns:
            self.put(pattern)

    def put(self, pattern: Pattern) -> None:
        """Add a pattern, or replace what is known of it."""
        known = IndexedPattern(
            name=pattern.name,
            events=pattern.events,
            flat=tuple(symbol for event in pattern.events for symbol in event),
            frequency=pattern.frequency,
            emotives=_means(pattern.emotives),
        )
        before = self.patterns.get(known.name)
        more = known.frequency - (before.frequency if before else 0)
        counts = Counter(known.flat)
        for symbol, count in counts.items():
            self.members[symbol] = self.members.get(symbol, 0) + more
            self._holders.setdefault(symbol, {})[known.name] = count
        self.learns += more
        self.memberships += more * len(counts)
        self.patterns[known.name] = known

    def snapshot(self, symbols: Sequence[str], *, threshold: float) -> Snapshot:
        """Return what a prediction from these symbols needs, in which nothing changes any more."""
        return Snapshot(
            candidates=list(self._candidates(symbols, threshold=threshold)),
            members=self.members.copy(),
            memberships=self.memberships,
            learns=self.learns,
        )

    def _candidates(self, symbols: Sequence[str], *, threshold: float) -> Iterator[IndexedPattern]:
        """Yield the patterns that share symbols enough to be able to reach a similarity of `threshold`."""
        shared: dict[str, int] = {}
        for symbol, wanted in Counter(symbols).items():
            for name, held in self._holders.get(symbol, {}).items():
                shared[name] = shared.get(name, 0) + min(wanted, held)
        for name, most in shared.items():
            known = self.patterns[name]
            if 2 * most / (len(symbols) + len(known.flat)) >= threshold:
                yield known


def _means(emotives: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for entry in emotives:
        for name, value in entry.items():
            values.setdefault(name, []).append(value)
    return {name: sum(each) / len(each) for name, each in values.items()}
