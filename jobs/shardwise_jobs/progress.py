"""Progress out of a worker: cumulative counts, at most so often, and never a reason to fail."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from shardwise_api.wire import ItemCounts, ProgressReport

from .files import atomic_write, local_path

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.5
"""Between two reports into a folder; whoever reads them decides how often to look."""


class ProgressSender:
    """Sends a shard's reports to `target`: a `file://` folder where each shard replaces its own small file."""

    def __init__(self, *, target: str | None, run: str, shard: int) -> None:
        folder = None if target is None else local_path(target)
        self._path = None if folder is None else folder / f"shard-{shard}.json"
        self._run = run
        self._shard = shard
        self._started = datetime.now(UTC)
        self._next = 0.0

    def send(
        self,
        items: ItemCounts,
        *,
        total: int | None = None,
        resumed: ItemCounts | None = None,
        message: str = "",
        last: bool = False,
    ) -> None:
        """Report committed counts of the shard, unless the last report is too recent; `last` always goes out."""
        now = time.monotonic()
        if self._path is None or (now < self._next and not last):
            return
        self._next = now + INTERVAL_SECONDS
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
        )
        try:
            atomic_write(self._path, report.model_dump_json(by_alias=True).encode(), durable=False)
        except OSError as error:
            log.warning("progress not reported: %s", error)
