"""Where the time of a worker goes: codes, vectors, writing. They overlap, so their sum may be more than the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum


class Phase(StrEnum):
    """What a chunk's time is spent on."""

    TMD = "tmd"
    EMBED = "embed"
    WRITE = "write"


class PhaseTimer:
    """Milliseconds in which at least one call of a phase was under way; for one thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._active: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._millis: dict[str, float] = {}

    @contextmanager
    def running(self, phase: Phase) -> Iterator[None]:
        """Count the time of the block; several at once count once."""
        self._settle(phase)
        self._active[phase] = self._active.get(phase, 0) + 1
        try:
            yield
        finally:
            self._settle(phase)
            self._active[phase] -= 1

    def lap(self) -> dict[str, float]:
        """Return what came together since the last lap, what is still under way included."""
        for phase in self._active:
            self._settle(phase)
        laps, self._millis = self._millis, {}
        return laps

    def _settle(self, phase: str) -> None:
        now = self._now()
        if self._active.get(phase):
            self._millis[phase] = self._millis.get(phase, 0.0) + (now - self._since[phase]) * 1000
        self._since[phase] = now


class WithWriting(Mapping[str, float]):
    """A lap, and as `write` the time from now until it is read: a ledger row is made when its block's rows are in.

    What the commit itself takes comes after that, and is in no row.
    """

    def __init__(self, lap: Mapping[str, float], *, now: Callable[[], float] = time.monotonic) -> None:
        self._lap = lap
        self._now = now
        self._begun = now()

    def __getitem__(self, phase: str) -> float:
        if phase == Phase.WRITE:
            return round((self._now() - self._begun) * 1000, 3)
        return round(self._lap[phase], 3)

    def __iter__(self) -> Iterator[str]:
        yield from (phase for phase in self._lap if phase != Phase.WRITE)
        yield Phase.WRITE.value

    def __len__(self) -> int:
        return len(list(iter(self)))
