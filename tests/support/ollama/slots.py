"""The places in which a model works, and the bounded queue before them: who finds both full is sent away.

The real server bounds those that wait for their model to be scheduled. Here those that wait for a slot are bounded, so
that a test can have a full queue without a scheduler that is slow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .script import Board


class QueueFull(Exception):
    """There is no place left to wait in."""


class Slots:
    """First come, first served."""

    def __init__(self, *, parallel: int, max_queue: int, board: Board) -> None:
        self.parallel = parallel
        self.max_queue = max_queue
        self._board = board
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot, after waiting for it.

        Raises:
            QueueFull: too many wait already.
        """
        if self._running >= self.parallel:
            await self._queue()
        else:
            self._running += 1
        self._board.count(running=1)
        try:
            yield
        finally:
            self._board.count(running=-1)
            self._leave()

    async def _queue(self) -> None:
        if len(self._waiting) >= self.max_queue:
            raise QueueFull
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._board.count(queued=1)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():
                # The slot was handed over just as the client left.
                self._leave()
            raise
        finally:
            self._board.count(queued=-1)

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
