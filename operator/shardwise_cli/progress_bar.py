"""The progress bar of a run: what it works through, rate, time left, errors or losses, on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Never

from tqdm import tqdm

from shardwise_api import safe_streams
from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, Failure, RunStatus
from shardwise_api.terminal import sanitize
from shardwise_operator.core.policies import policy_of

from .metrics_format import short_metrics


class ProgressBar:
    """Shows statuses as they come; where standard error is no terminal, a line now and then."""

    def __init__(self, *, run: Run) -> None:
        self._label = run.metadata.name
        self._policy = policy_of(run)
        self._told = ""
        self._shown: list[Failure] = []
        # Who looks on may go, and the run goes on.
        stream = safe_streams.messages()
        terminal = stream.isatty()
        self._bar: tqdm[Never] = tqdm(
            desc=self._label,
            unit=f" {self._policy.progress_unit}",
            unit_scale=False,
            file=stream,
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
        told = sanitize(f"{self._label} {status.phase}{_waiting(status)}")
        if told != self._told:
            self._told = told
            self._bar.set_description(told, refresh=False)
        if status.items.total is not None and self._bar.total != status.items.total:
            self._bar.total = status.items.total
        for failure in [failure for failure in status.failures if failure not in self._shown]:
            where = "" if failure.shard is None else f"shard {failure.shard}, "
            message = f"{where}exit {failure.exit_code}, {failure.reason}: {failure.message}"
            self._bar.write(sanitize(message), file=self._bar.fp)
        self._shown = status.failures
        items = status.items
        self._bar.set_postfix(self._beside(status), refresh=False)
        self._bar.update(items.done + items.failed + items.skipped - self._bar.n)
        if status.finished:
            self._bar.refresh()

    def _beside(self, status: RunStatus) -> dict[str, object]:
        learned = (
            short_metrics({metric.name: metric.value for metric in status.metrics})
            if self._policy.shows_metrics
            else {}
        )
        return {**learned, **self._policy.progress_details(status)}


def _waiting(status: RunStatus) -> str:
    ready = status.condition(ConditionType.PODS_READY)
    return f" ({ready.message})" if ready is not None and ready.reason == "WaitingForRanks" else ""
