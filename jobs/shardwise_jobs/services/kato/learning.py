"""What one call does to a session's memory, worked out on a copy, so that a call whose store fails has done nothing.

All that a call learns is collected here, equal patterns summed, and handed to the store in one piece by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shardwise_jobs.engines.kato.names import pattern_hash, sorted_event, wire_name
from shardwise_jobs.engines.kato.stores.base import Events, PatternCount

from .models import Observed, SessionConfig

MAX_STM_EVENTS = 1000
"""A session keeps this many of its last events between calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMetadata:
    """Emotives and metadata observed since the last learn: they belong to the next pattern of the same session."""

    emotives: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Per emotive, sum and number of its values."""
    metadata: Mapping[str, Mapping[str, None]] = field(default_factory=dict)
    """Per key, the distinct values as strings, in order of arrival."""

    def joined(self, observation: Observed) -> PendingMetadata:
        """Return what is gathered once `observation` is in."""
        emotives = dict(self.emotives)
        for name, value in observation.get("emotives", {}).items():
            total, count = emotives.get(name, (0.0, 0))
            emotives[name] = (total + value, count + 1)
        metadata = {key: dict(values) for key, values in self.metadata.items()}
        for key, known in observation.get("metadata", {}).items():
            values = known if isinstance(known, list) else [known]
            metadata.setdefault(key, {}).update(dict.fromkeys(map(str, values)))
        return PendingMetadata(emotives=emotives, metadata=metadata)

    def mean_emotives(self) -> dict[str, float]:
        """Return one value per emotive: the mean over the observations that had it."""
        return {name: total / count for name, (total, count) in self.emotives.items()}


NOTHING_PENDING = PendingMetadata()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a session remembers between calls. Never changed in place: readers need no lock."""

    stm: Events = field(default_factory=list)
    gathered: PendingMetadata = NOTHING_PENDING
    time: int = 0
    """Observations of this session so far."""


@dataclass(slots=True, kw_only=True)
class _Lesson:
    events: Events
    count: int = 0
    emotives: list[dict[str, float]] = field(default_factory=list)
    metadata: dict[str, dict[str, None]] = field(default_factory=dict)

    def gather(self, gathered: PendingMetadata) -> None:
        """Add what was gathered for one learn."""
        if gathered.emotives:
            self.emotives.append(gathered.mean_emotives())
        for key, values in gathered.metadata.items():
            self.metadata.setdefault(key, {}).update(values)


class Call:
    """One call at work on a session's memory."""

    def __init__(self, *, memory: Memory, config: SessionConfig) -> None:
        self.stm = list(memory.stm)
        self.time = memory.time
        self.cue: Events | None = None
        """The STM as the last observation left it before learning: what predictions are made from."""
        self.learned_after_cue: dict[str, int] = {}
        """Bare names learned since the cue was taken, with counts: predictions must not know them yet."""
        self._gathered = memory.gathered
        self._lessons: dict[str, _Lesson] = {}
        self._limit = config.max_pattern_length or 0
        self._kept = max(self._limit - 1, 0) if config.stm_mode == "ROLLING" else 0

    def observe(self, observation: Observed, *, with_cue: bool = False) -> str | None:
        """Take in one observation; returns the name that auto-learning gave, if it did."""
        self.time += 1
        if "emotives" in observation or "metadata" in observation:
            self._gathered = self._gathered.joined(observation)
        strings = observation.get("strings")
        if strings:
            # Nearly all events are one symbol, and this is the innermost loop.
            self.stm.append(sorted_event(strings) if len(strings) > 1 else strings)
        if with_cue:
            self.cue = list(self.stm)
            self.learned_after_cue = {}
        if not strings or not 0 < self._limit <= len(self.stm):
            return None
        kept = self.stm[-self._kept :] if self._kept else []
        name = self.learn()
        self.stm = kept
        return name or None

    def learn(self) -> str:
        """Learn the STM and clear it; returns the wire name, or "" for fewer than two symbols (nothing is learned)."""
        stm, gathered = self.stm, self._gathered
        self.clear()
        return self._learn(stm, gathered)

    def learn_sequence(self, symbols: list[str]) -> str:
        """Learn a pattern of one-symbol events and leave the STM as it is; returns its wire name, or ""."""
        return self._learn([[symbol] for symbol in symbols], NOTHING_PENDING)

    def _learn(self, events: Events, gathered: PendingMetadata) -> str:
        if sum(map(len, events)) < 2:
            return ""
        bare = pattern_hash(events)
        lesson = self._lessons.get(bare)
        if lesson is None:
            lesson = self._lessons[bare] = _Lesson(events=events)
        lesson.count += 1
        if gathered is not NOTHING_PENDING:
            lesson.gather(gathered)
        if self.cue is not None:
            self.learned_after_cue[bare] = self.learned_after_cue.get(bare, 0) + 1
        return wire_name(bare)

    def clear(self) -> None:
        """Clear the STM, and what was gathered for it."""
        self.stm = []
        self._gathered = NOTHING_PENDING

    def memory(self) -> Memory:
        """Return what the session is to remember."""
        return Memory(stm=self.stm[-MAX_STM_EVENTS:], gathered=self._gathered, time=self.time)

    def batch(self) -> list[PatternCount]:
        """Return everything learned, each name once."""
        return [
            PatternCount(
                name=name,
                events=lesson.events,
                count=lesson.count,
                emotives=lesson.emotives,
                metadata={key: list(values) for key, values in lesson.metadata.items()},
            )
            for name, lesson in self._lessons.items()
        ]
