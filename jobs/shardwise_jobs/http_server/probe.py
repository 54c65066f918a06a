"""Asking a store whether it is there, for `GET /health`, which must answer soon however the store does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

PROBE_SECONDS = 2.0
"""A probe of an orchestrator waits little longer than this."""


class Probe:
    """Asks on one thread of its own: something that hangs holds up one question, not one thread per question."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="probe")
        self._asked: Future[object] | None = None

    async def answered(self) -> None:
        """Return when the question was answered; whoever comes while it is open waits for the same answer.

        Raises:
            TimeoutError: not within `PROBE_SECONDS`; the question stays open.
            Exception: what the question raises.
        """
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._thread.submit(self._ask)
            asked = asyncio.wrap_future(self._asked)
        await asyncio.wait_for(asyncio.shield(asked), PROBE_SECONDS)

    def close(self) -> None:
        """Ask no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
