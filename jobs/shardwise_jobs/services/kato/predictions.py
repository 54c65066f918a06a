"""Predictions: which learned patterns look like the STM, what of them has passed and what is to come.

Fields that depend on matching, frequency and futures follow the protocol to the letter (docs/kato.md). Four fields
rest on symbol statistics, which the original computes in ways of its own; here they are, with p(s) = the share of
symbol s in all memberships of symbols in learns, and N = the number of distinct symbols of the node:

- `normalized_entropy`: entropy of the symbols within `present`, logarithm to base N;
- `global_normalized_entropy`: the sum of -p(s) log p(s) over the distinct symbols of `present`, to base N;
- `itfdf_similarity`: cosine of the symbol counts of STM and pattern, each weighted ln((1 + L) / (1 + m(s))) + 1, with
  L learns of which m(s) held s: rare symbols weigh more;
- `confluence`: the pattern's share of all learns, times one minus the product of p(s) over the symbols of `present`.

Sums (pattern probability, weights of futures) run over all patterns that reach the threshold, before the answer is cut
to `max_predictions`: the order of the answer depends on them.

What matching takes grows with the square, and at worst the cube, of how often a symbol comes back, so a prediction has
a budget of processor time: no request is worth what all others would wait for it.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import Match, SequenceMatcher
from typing import Any

from shardwise_jobs.engines.kato.stores.base import Events

from .recall import IndexedPattern, Snapshot

PREDICTION_SECONDS = 10
_UNITS_BETWEEN_LOOKS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a session's last observation made it expect."""

    predictions: Sequence[Mapping[str, Any]] = field(default_factory=list)
    future_potentials: Sequence[Mapping[str, Any]] = field(default_factory=list)


NO_PREDICTIONS = Predictions()


class TooCostly(Exception):
    """A prediction took more than its budget."""


class Budget:
    """Processor time of the calling thread, in seconds. Looked at now and then, as work is noted."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.thread_time() + seconds
        self._units = 0

    def spend(self, units: int) -> None:
        """Note so many steps of work.

        Raises:
            TooCostly: the time is over.
        """
        self._units += units
        if self._units >= _UNITS_BETWEEN_LOOKS:
            self._units = 0
            if time.thread_time() > self._end:
                raise TooCostly(
                    f"a prediction took more than {self._seconds:g} s of processor time; "
                    "observe less at once, raise recall_threshold, or set process_predictions to false"
                )


class _Matcher(SequenceMatcher[str]):
    """`SequenceMatcher` without junk, which notes what it spends: its own search for a block can't be interrupted."""

    def __init__(self, flat: Sequence[str], *, budget: Budget) -> None:
        # No symbol is junk, however often it comes.
        super().__init__(None, "", flat, autojunk=False)
        self._budget = budget
        self._pattern: Sequence[str] = ""
        self._length = len(flat)
        self._places: dict[str, list[int]] = {}
        for place, symbol in enumerate(flat):
            self._places.setdefault(symbol, []).append(place)

    def set_seq1(self, a: Sequence[str]) -> None:
        """See `SequenceMatcher.set_seq1`."""
        super().set_seq1(a)
        self._pattern = a

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> Match:
        """See `SequenceMatcher.find_longest_match`."""
        ahi, bhi = len(self._pattern) if ahi is None else ahi, self._length if bhi is None else bhi
        first, second, longest = alo, blo, 0
        ending: dict[int, int] = {}
        for i in range(alo, ahi):
            places = self._places.get(self._pattern[i], [])
            self._budget.spend(1 + len(places))
            longer: dict[int, int] = {}
            for j in places:
                if j < blo:
                    continue
                if j >= bhi:
                    break
                size = longer[j] = ending.get(j - 1, 0) + 1
                if size > longest:
                    first, second, longest = i - size + 1, j - size + 1, size
            ending = longer
        return Match(first, second, longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matched:
    known: IndexedPattern
    frequency: int
    blocks: Sequence[Match]
    similarity: float
    first: int
    """Index of the event in which the first block begins."""
    last: int
    """Index of the event in which the last block ends."""

    @property
    def future(self) -> Events:
        return self.known.events[self.last + 1 :]

    @property
    def weight(self) -> float:
        return self.frequency * self.similarity


def flattened(stm: Events) -> list[str]:
    """Return the symbols of an STM in order."""
    return [symbol for event in stm for symbol in event]


def predict(
    *,
    recall: Snapshot,
    stm: Events,
    threshold: float,
    limit: int,
    unknown: Mapping[str, int] | None = None,
    seconds: float = PREDICTION_SECONDS,
) -> Predictions:
    """Return at most `limit` predictions from `stm`, best first. `unknown` names learns (with counts) to look past.

    Raises:
        TooCostly: it takes more than so many seconds of processor time.
    """
    flat = flattened(stm)
    budget = Budget(seconds)
    found = _matched(recall=recall, flat=flat, threshold=threshold, unknown=unknown or {}, budget=budget)
    potentials, shares = _futures(found)
    total = sum(match.frequency for match in found)
    statistics = _Statistics(recall=recall, flat=flat)
    predictions = []
    for match in found:
        budget.spend(len(flat) + len(match.known.flat))
        share = shares.get(_key(match.future), 0.0)
        predictions.append(_prediction(match, stm=stm, total=total, share=share, statistics=statistics))
    predictions.sort(key=lambda each: (-each["potential"], -each["similarity"], -each["frequency"], each["name"]))
    return Predictions(predictions=predictions[:limit], future_potentials=potentials)


def _matched(
    *, recall: Snapshot, flat: Sequence[str], threshold: float, unknown: Mapping[str, int], budget: Budget
) -> list[_Matched]:
    matcher = _Matcher(flat, budget=budget)
    found = []
    for known in recall.candidates:
        frequency = known.frequency - unknown.get(known.name, 0)
        if frequency <= 0:
            continue
        matcher.set_seq1(known.flat)
        blocks = matcher.get_matching_blocks()[:-1]
        similarity = 2 * sum(block.size for block in blocks) / (len(known.flat) + len(flat))
        if similarity < threshold:
            continue
        found.append(
            _Matched(
                known=known,
                frequency=frequency,
                blocks=blocks,
                similarity=similarity,
                first=_event_at(known.events, blocks[0].a),
                last=_event_at(known.events, blocks[-1].a + blocks[-1].size - 1),
            )
        )
    return found


def _event_at(events: Events, position: int) -> int:
    for index, event in enumerate(events):
        position -= len(event)
        if position < 0:
            return index
    raise IndexError("position lies behind the pattern")


def _key(future: Events) -> str:
    return json.dumps(future)


def _futures(found: Sequence[_Matched]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    groups: dict[str, list[_Matched]] = {}
    for match in found:
        if match.future:
            groups.setdefault(_key(match.future), []).append(match)
    weights = {key: sum(match.weight for match in matches) for key, matches in groups.items()}
    everything = sum(weights.values())
    shares = {key: weight / everything for key, weight in weights.items()}
    potentials: list[dict[str, Any]] = [
        {
            "future": matches[0].future,
            "aggregate_potential": shares[key],
            "supporting_patterns": len(matches),
            "total_weighted_frequency": weights[key],
        }
        for key, matches in groups.items()
    ]
    potentials.sort(key=lambda each: (-each["aggregate_potential"], each["future"]))
    return potentials, shares


def _prediction(match: _Matched, *, stm: Events, total: int, share: float, statistics: _Statistics) -> dict[str, Any]:
    known, blocks = match.known, match.blocks
    present = known.events[match.first : match.last + 1]
    present_flat = [symbol for event in present for symbol in event]
    in_pattern = {block.a + step for block in blocks for step in range(block.size)}
    in_stm = {block.b + step for block in blocks for step in range(block.size)}
    before_present = sum(map(len, known.events[: match.first]))
    extras = _left_over(stm, start=0, used=in_stm)
    matches = sum(block.size for block in blocks)
    surplus = sum(map(len, extras))
    probability = match.frequency / total
    weighted_strength = match.similarity * probability
    information = weighted_strength / share if share else 0.0
    return {
        "type": "prototypical",
        "name": known.name,
        "frequency": match.frequency,
        "emotives": known.emotives,
        "matches": [known.flat[position] for position in sorted(in_pattern)],
        "past": known.events[: match.first],
        "present": present,
        "future": match.future,
        "sequence": known.events,
        "missing": _left_over(present, start=before_present, used=in_pattern),
        "extras": extras,
        "evidence": matches / len(known.flat),
        "confidence": matches / len(present_flat),
        "similarity": match.similarity,
        "fragmentation": len(blocks) - 1,
        "snr": (2 * matches - surplus) / (2 * matches + surplus),
        "entropy": 0.0,
        **statistics.fields(match=match, present=present_flat),
        "pattern_probability": probability,
        "weighted_strength": weighted_strength,
        "predictive_information": information,
        "potential": match.similarity * information,
    }


def _left_over(events: Events, *, start: int, used: set[int]) -> Events:
    left: Events = []
    for event in events:
        left.append([symbol for position, symbol in enumerate(event, start) if position not in used])
        start += len(event)
    return left


class _Statistics:
    """The four fields that rest on symbol statistics; formulas at the top of this module."""

    def __init__(self, *, recall: Snapshot, flat: Sequence[str]) -> None:
        self._recall = recall
        self._base = math.log(max(len(recall.members), 2))
        self._stm = self._weighted(flat)

    def fields(self, *, match: _Matched, present: Sequence[str]) -> dict[str, float]:
        shares = [count / len(present) for count in Counter(present).values()]
        chances = [self._recall.members[symbol] / self._recall.memberships for symbol in set(present)]
        by_chance = math.prod(self._recall.members[symbol] / self._recall.memberships for symbol in present)
        return {
            "normalized_entropy": self._entropy(shares),
            "global_normalized_entropy": self._entropy(sorted(chances)),
            "itfdf_similarity": _cosine(self._stm, self._weighted(match.known.flat)),
            "confluence": match.frequency / self._recall.learns * (1 - by_chance),
        }

    def _entropy(self, chances: Sequence[float]) -> float:
        return sum((-chance * math.log(chance) / self._base for chance in chances), 0.0)

    def _weighted(self, symbols: Sequence[str]) -> dict[str, float]:
        members, learns = self._recall.members, self._recall.learns
        return {
            symbol: count * (math.log((1 + learns) / (1 + members.get(symbol, 0))) + 1)
            for symbol, count in Counter(symbols).items()
        }


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    product = sum(weight * other.get(symbol, 0.0) for symbol, weight in one.items())
    return product / (math.hypot(*one.values()) * math.hypot(*other.values()))
