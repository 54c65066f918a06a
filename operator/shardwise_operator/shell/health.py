"""Whether the operator is alive and ready, and its metrics, over HTTP on port 8080.

A process that runs can be dead all the same: a watch that ended, a loop that is stuck. Each such thing is a named
check, and the answer names those that failed, so that a person sees why a container was started anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from aiohttp import web

from .metrics import CONTENT_TYPE, exposition

PORT = 8080
LAG_SECONDS = 1.0
"""An event loop that is always later than this has more to do than it can."""
LAG_ROUNDS = 15
LAG_EVERY = 1.0
SILENT_SECONDS = 60.0

log = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""Returns what is wrong, None when nothing is. Must not block."""


class Health:
    """Named checks: the process is alive while all of `live` pass, and ready while all of both do."""

    def __init__(self) -> None:
        self._live: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}
        self._failing: dict[str, str] = {}

    def add_live(self, name: str, check: Check) -> None:
        """Add a check that the container is started anew for."""
        self._live[name] = check

    def add_ready(self, name: str, check: Check) -> None:
        """Add a check that only keeps requests away."""
        self._ready[name] = check

    def application(self) -> web.Application:
        """Return the application with /healthz, /readyz and /metrics."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._numbers)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        return self._answer(self._live)

    async def _readyz(self, _: web.Request) -> web.Response:
        return self._answer({**self._live, **self._ready})

    async def _numbers(self, _: web.Request) -> web.Response:
        return web.Response(body=exposition(), headers={"Content-Type": CONTENT_TYPE})

    def _answer(self, checks: dict[str, Check]) -> web.Response:
        problems = {name: _outcome(check) for name, check in checks.items()}
        for name, problem in problems.items():
            self._note(name, problem)
        failed = any(problem is not None for problem in problems.values())
        body = {name: problem or "ok" for name, problem in problems.items()}
        return web.json_response({"ok": not failed, "checks": body}, status=503 if failed else 200)

    def _note(self, name: str, problem: str | None) -> None:
        if problem is None:
            if self._failing.pop(name, None) is not None:
                log.info("check %s passes again", name)
        elif name not in self._failing:
            self._failing[name] = problem
            log.warning("check %s fails: %s", name, problem)


def _outcome(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:
        # A check that can't tell is no proof of health.
        return f"{type(error).__name__}: {error}"


class LoopLag:
    """Measures how late the event loop runs what is due. A loop that hangs can't answer; this is about a slow one."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lags: deque[float] = deque(maxlen=LAG_ROUNDS)
        self._last = clock()

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            due = self._clock() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            self.beat(self._clock() - due)

    def beat(self, lag: float) -> None:
        """Note one measurement, in seconds."""
        self._lags.append(lag)
        self._last = self._clock()

    @property
    def seconds(self) -> float:
        """The last measured lag."""
        return max(0.0, self._lags[-1]) if self._lags else 0.0

    def problem(self) -> str | None:
        """Return what is wrong. One late round is none: a person may have stopped the machine."""
        if len(self._lags) == LAG_ROUNDS and min(self._lags) > LAG_SECONDS:
            return f"the event loop has been late by {min(self._lags):.1f} s and more for {LAG_ROUNDS} rounds"
        silent = self._clock() - self._last
        return f"the event loop was not measured for {silent:.0f} s" if silent > SILENT_SECONDS else None
