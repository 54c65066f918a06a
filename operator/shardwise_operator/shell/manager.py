"""Keeps one loop for each run while this replica leads, and none while it doesn't."""

from __future__ import annotations

import asyncio
import logging

from .cache import Cache
from .metrics import KnownRun
from .reconcile import ReconcileContext, RunLoop

log = logging.getLogger(__name__)

STUCK_SECONDS = 120.0
"""A reconcile takes a handful of calls with a time limit each; longer than this, something hangs."""


class Manager:
    """Starts and stops loops. All methods are called in the event loop's thread."""

    def __init__(self, *, context: ReconcileContext) -> None:
        self._context = context
        self._loops: dict[str, RunLoop] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leading = False

    @property
    def cache(self) -> Cache:
        """What the loops read."""
        return self._context.cache

    def changed(self, uid: str) -> None:
        """Have a run reconciled; one seen for the first time gets its loop."""
        if not self._leading:
            return
        loop = self._loops.get(uid)
        if loop is not None:
            loop.wake()
        elif self._context.cache.run(uid) is not None:
            self._start(uid)

    def start_leading(self) -> None:
        """Begin to look after all runs."""
        log.info("leading: looking after %d runs", len(self._context.cache.runs()))
        self._leading = True
        for uid in self._context.cache.runs():
            self.changed(uid)

    def stop_leading(self) -> None:
        """Stop at once: somebody else may lead by now."""
        log.info("following")
        self._leading = False
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._loops.clear()

    async def stop(self) -> None:
        """Stop, and wait until nothing of it runs any more."""
        tasks = list(self._tasks.values())
        self.stop_leading()
        await asyncio.gather(*tasks, return_exceptions=True)

    def known_runs(self) -> list[KnownRun]:
        """Return all runs that are looked after, as last planned."""
        found = []
        for uid, loop in self._loops.items():
            body = self._context.cache.run(uid)
            if body is not None and loop.status is not None:
                metadata = body["metadata"]
                found.append(
                    KnownRun(
                        kind=body["kind"], namespace=metadata["namespace"], name=metadata["name"], status=loop.status
                    )
                )
        return found

    def problem(self) -> str | None:
        """Return what is wrong with the loops, None when nothing is."""
        now = self._context.clock()
        stuck = [
            uid
            for uid, loop in self._loops.items()
            if loop.busy_since is not None and now - loop.busy_since > STUCK_SECONDS
        ]
        return f"{len(stuck)} runs are stuck in a look, as {stuck[0]}" if stuck else None

    def _start(self, uid: str) -> None:
        loop = RunLoop(uid=uid, context=self._context)
        task = asyncio.create_task(loop.run(), name=f"run {uid}")
        self._loops[uid], self._tasks[uid] = loop, task
        task.add_done_callback(lambda done: self._ended(uid, done))

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(uid) is task:
            del self._tasks[uid], self._loops[uid]
        if not task.cancelled() and task.exception() is not None:
            log.error("the loop of run %s ended", uid, exc_info=task.exception())
        if not task.cancelled():
            # Seen again while its loop was ending.
            self.changed(uid)
