"""An event loop whose time jumps to whatever is due next: minutes take no time, and go the same way every time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When a virtual time begins."""


def clock() -> float:
    """Return the running loop's seconds."""
    return asyncio.get_running_loop().time()


def now() -> datetime:
    """Return the running loop's time of day."""
    return T0 + timedelta(seconds=clock())


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to what is due next instead of passing."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits for something that never comes"
        self._loop.jump(max(0.0, timeout))
        return super().select(0)


def in_virtual_time(story: Coroutine[Any, Any, T]) -> T:
    """Run a story on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)
