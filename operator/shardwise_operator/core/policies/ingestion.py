"""Shards of an ingestion: each adds up its own chunks and seconds, and a status shows those of all shards.

What is reported has been committed and counts every attempt, so it only grows. Less than before means that reports are
missing: those of shards that had ended before the operator started again.
"""

from __future__ import annotations

from shardwise_api.common import SecretKeyRef
from shardwise_api.runs import IngestRun
from shardwise_api.status import RunStatus
from shardwise_api.wire import Metric

from ..observed import Observed
from ..progress import presentable
from .base import Policy

_DIGITS = 3


class IngestionPolicy(Policy):
    """See `Policy`."""

    progress_unit = "chunks"

    def __init__(self, run: IngestRun) -> None:
        super().__init__(run)
        self._store = run.spec.store

    @property
    def store_secret(self) -> SecretKeyRef | None:
        """See `Policy.store_secret`."""
        return self._store.secret_ref

    def update_metrics(self, status: RunStatus, observed: Observed) -> None:
        """See `Policy.update_metrics`."""
        known = {metric.name: metric.value for metric in status.metrics}
        sums: dict[str, float] = {}
        for report in observed.progress.values():
            for metric in report.metrics:
                sums[metric.name] = sums.get(metric.name, 0.0) + metric.value
        if sums:
            status.metrics = presentable(
                Metric(name=name, value=round(max(value, known.get(name, 0.0)), _DIGITS))
                for name, value in sums.items()
            )
