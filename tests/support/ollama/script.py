"""What a test has told the server to do wrong, and what the server has seen: the log and the counters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["status", "drop", "cut", "slow", "words", "body", "drip", "hold"]
_LOOK_SECONDS = 0.02


@dataclass(kw_only=True)
class Fault:
    """Something that goes wrong with the next calls it fits."""

    kind: Kind
    """status: that HTTP status; drop: no answer, the connection closes; cut: half of the answer, then the same;
    slow: `milliseconds` more; words: the model says `text`, and was cut off there if `truncated`; body: the HTTP body
    is `text`; drip: a byte now and then, without end; hold: nothing until it is released or the client has gone."""
    times: int | None = 1
    """How many calls, None for all that come."""
    after: int = 0
    """How many that it fits come through before."""
    contains: str = ""
    """Only calls whose prompt holds this."""
    status: int = 503
    milliseconds: float = 0
    text: str = ""
    truncated: bool = False

    def takes(self, prompt: str) -> bool:
        """Say whether this call is one to go wrong, and count it."""
        if self.contains not in prompt or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(kw_only=True)
class Call:
    """A line of the log: a request that came whole."""

    number: int
    path: str
    model: str
    prompt: str
    """Digest of the prompt."""
    seed: int | None
    stream: bool
    in_flight: int
    """Calls the server had at this moment, this one included."""
    at: float = field(default_factory=time.time)
    """When all of it was there, in seconds since 1970."""
    think: bool | None = None
    """Whether the model is to think; None when nothing is said."""
    fault: str | None = None
    outcome: str = "open"
    """done, an HTTP status, dropped, cut, abandoned (the client left); open while it lasts."""


@dataclass(kw_only=True)
class Counters:
    """What there is now, and what there was most of."""

    calls: int = 0
    done: int = 0
    failed: int = 0
    abandoned: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    running: int = 0
    most_running: int = 0
    queued: int = 0
    most_queued: int = 0
    held: int = 0
    loads: int = 0


@dataclass(kw_only=True)
class Board:
    """The server's memory of a test."""

    faults: list[Fault] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    holding: list[asyncio.Future[None]] = field(default_factory=list)

    def fault_of(self, prompt: str) -> Fault | None:
        """Take the fault of a call, the first in the script that fits."""
        return next((fault for fault in self.faults if fault.takes(prompt)), None)

    def count(self, **changes: int) -> None:
        """Change counters, and wake who waits for them."""
        for name, change in changes.items():
            setattr(self.counters, name, getattr(self.counters, name) + change)
            if f"most_{name}" in asdict(self.counters):
                most = max(getattr(self.counters, f"most_{name}"), getattr(self.counters, name))
                setattr(self.counters, f"most_{name}", most)
        self.changed.set()

    async def hold(self) -> None:
        """Stay until released."""
        released = asyncio.get_running_loop().create_future()
        self.holding.append(released)
        self.count(held=1)
        try:
            await released
        finally:
            if released in self.holding:
                self.holding.remove(released)
            self.count(held=-1)

    def release(self, count: int | None) -> None:
        """Let the calls go on that were held longest, all of them when None."""
        # A client that left just now is still among them.
        for released in [one for one in self.holding if not one.done()][:count]:
            self.holding.remove(released)
            released.set_result(None)

    async def until(self, met: Callable[[], bool], *, seconds: float) -> bool:
        """Wait until something holds; False when it doesn't within the time."""
        try:
            async with asyncio.timeout(seconds):
                while not met():
                    self.changed.clear()
                    # Connections close without a word to the board.
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.changed.wait(), _LOOK_SECONDS)
        except TimeoutError:
            return met()
        return True

    def reset(self) -> None:
        """Forget a test: what is still open stays counted as such."""
        self.faults.clear()
        self.release(None)
        self.calls.clear()
        now = self.counters
        self.counters = Counters(
            in_flight=now.in_flight,
            running=now.running,
            queued=now.queued,
            held=now.held,
            most_in_flight=now.in_flight,
            most_running=now.running,
            most_queued=now.queued,
        )
        self.changed.set()

    def shown(self) -> dict[str, Any]:
        """Return the counters as JSON."""
        return asdict(self.counters)
