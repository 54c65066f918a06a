"""Progress out of a worker: cumulative counts, at most so often, and never a reason to fail."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from shardwise_api.wire import Checkpoint, Environment, ItemCounts, Metric, ProgressReport

from .files import atomic_write, local_path
from .progress_http import HttpSink
from .secrets import struck_values

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.5
"""Between two reports into a folder; whoever reads them decides how often to look."""


class Sink(Protocol):
    """Where reports go. A report replaces those before it, so a sink may leave some out, but not the newest."""

    def put(self, report: bytes, *, last: bool) -> None:
        """Take a report over (JSON), soon and without raising; `last` has none after it."""


class ProgressSender:
    """Sends a shard's reports to `target`, as `SHARDWISE_PROGRESS` names it; nowhere when that is None."""

    def __init__(
        self, *, target: str | None, run: str, shard: int, environment: Mapping[str, str] | None = None
    ) -> None:
        self._sink = None if not target else _sink(target, shard=shard, environment=environment or {})
        self._run = run
        self._shard = shard
        self._started = datetime.now(UTC)

    def send(
        self,
        items: ItemCounts,
        *,
        total: int | None = None,
        resumed: ItemCounts | None = None,
        message: str = "",
        missing_ranks: str = "",
        metrics: Sequence[Metric] = (),
        checkpoint: Checkpoint | None = None,
        last: bool = False,
    ) -> None:
        """Report committed counts of the shard; `last` goes out before this returns, or is given up soon.

        A report replaces those before it: whoever has metrics or a checkpoint to show sends them each time.
        """
        if self._sink is None:
            return
        report = ProgressReport(
            run=self._run,
            shard=self._shard,
            attempt_started=self._started,
            time=datetime.now(UTC),
            items=items,
            total=total,
            resumed=0 if resumed is None else resumed.all,
            resumed_done=0 if resumed is None else resumed.done,
            message=message,
            missing_ranks=missing_ranks,
            metrics=list(metrics),
            checkpoint=checkpoint,
        )
        told = struck_values(report.model_dump(mode="json", by_alias=True))
        self._sink.put(json.dumps(told, separators=(",", ":")).encode(), last=last)


def _sink(target: str, *, shard: int, environment: Mapping[str, str]) -> Sink | None:
    if target.startswith(("http://", "https://")):
        return HttpSink(url=target, token_file=environment.get(Environment.PROGRESS_TOKEN_FILE))
    folder = local_path(target)
    if folder is None:
        log.warning("progress is not reported: %s=%s is neither file:// nor http(s)://", Environment.PROGRESS, target)
        return None
    return FileSink(folder / f"shard-{shard}.json")


class FileSink:
    """A file that each report replaces, unless the one before is too recent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0

    def put(self, report: bytes, *, last: bool) -> None:
        """See `Sink.put`."""
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + INTERVAL_SECONDS
        try:
            atomic_write(self._path, report, durable=False)
        except OSError as error:
            log.warning("progress not reported: %s", error)
