"""The progress bar of a run: samples, rate, time left and errors, on standard error."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Never

from tqdm import tqdm

from shardwise_api.status import Failure, Phase, RunStatus


class ProgressBar:
    """Shows statuses as they come; where standard error is no terminal, a line now and then."""

    def __init__(self, *, label: str) -> None:
        self._label = label
        self._phase: Phase | None = None
        self._shown: list[Failure] = []
        terminal = sys.stderr.isatty()
        self._bar: tqdm[Never] = tqdm(
            desc=label,
            unit=" samples",
            unit_scale=False,
            file=sys.stderr,
            dynamic_ncols=terminal,
            mininterval=0.1 if terminal else 5.0,
            smoothing=0.1,
        )

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self._bar.close()

    def show(self, status: RunStatus) -> None:
        """Show a status."""
        if status.phase is not self._phase:
            self._phase = status.phase
            self._bar.set_description(f"{self._label} {status.phase}", refresh=False)
        if status.items.total is not None and self._bar.total != status.items.total:
            self._bar.total = status.items.total
        for failure in [failure for failure in status.failures if failure not in self._shown]:
            where = "" if failure.shard is None else f"shard {failure.shard}, "
            self._bar.write(f"{where}exit {failure.exit_code}, {failure.reason}: {failure.message}", file=sys.stderr)
        self._shown = status.failures
        items = status.items
        self._bar.set_postfix(
            {"errors": items.failed, "shards": f"{status.shards.succeeded}/{status.shards.total}"}, refresh=False
        )
        self._bar.update(items.done + items.failed + items.skipped - self._bar.n)
        if status.finished:
            self._bar.refresh()
