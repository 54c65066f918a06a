"""A training's progress as reports: not every step, but what a person wants to see of them, and each checkpoint."""

from __future__ import annotations

import time
from collections import deque

from shardwise.engine.progress import ProgressSender
from shardwise_api.wire import Checkpoint, ItemCounts, Metric

from .loop import StepMetrics

INTERVAL_SECONDS = 0.25
"""Between two reports; steps of a small automaton take less than a millisecond."""
_WINDOW = 40
"""Reports that the speed is taken from: the first steps compile, and machines get busy."""


class Reporter:
    """Tells a training's steps; items are optimiser steps."""

    def __init__(self, progress: ProgressSender, *, steps: int, checkpoint_uri: str) -> None:
        self._progress = progress
        self._steps = steps
        self._uri = checkpoint_uri
        self._resumed = 0
        self._saved: int | None = None
        self._seen: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._next = 0.0
        self._latest: StepMetrics | None = None

    def wait(self, missing_ranks: str, *, step: int) -> None:
        """Tell whom a training waits for, and how far it has come before."""
        done = ItemCounts(done=step)
        self._progress.send(done, total=self._steps, resumed=done, missing_ranks=missing_ranks)

    def begin(self, step: int) -> None:
        """Tell from which step a training goes on."""
        self._resumed = step
        self._saved = step or None
        self._seen.append((time.monotonic(), step))
        self._send(step)

    def observe(self, moment: StepMetrics) -> None:
        """Tell of a step, unless the last report is too recent."""
        self._latest = moment
        if moment.saved:
            self._saved = moment.step
        now = time.monotonic()
        if now >= self._next or moment.saved:
            self._next = now + INTERVAL_SECONDS
            self._seen.append((now, moment.step))
            self._send(moment.step)

    def end(self) -> None:
        """Tell the last step once more: nothing comes after it."""
        self._send(self._latest.step if self._latest else self._resumed, last=True)

    def _send(self, step: int, *, last: bool = False) -> None:
        self._progress.send(
            ItemCounts(done=step),
            total=self._steps,
            resumed=ItemCounts(done=self._resumed),
            metrics=self._metrics(),
            checkpoint=None if self._saved is None else Checkpoint(uri=self._uri, step=self._saved),
            last=last,
        )

    def _metrics(self) -> list[Metric]:
        moment = self._latest
        if moment is None:
            return []
        named: dict[str, float] = {
            "step": moment.step,
            "softLoss": moment.soft_loss,
            "hardLoss": moment.hard_loss,
            "hardAccuracy": moment.hard_accuracy,
        }
        (before, first), (now, latest) = self._seen[0], self._seen[-1]
        if latest > first and now > before:
            rate = (latest - first) / (now - before)
            named |= {
                "stepsPerSecond": round(rate, 3),
                "estimatedRemainingSeconds": round((self._steps - moment.step) / rate, 1),
            }
        if moment.verdict is not None:
            named["wrong"] = moment.verdict.wrong
        return [Metric(name=name, value=value) for name, value in named.items()]
