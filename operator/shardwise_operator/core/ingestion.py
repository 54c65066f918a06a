"""What reports say of an ingestion: each shard adds up its own chunks and seconds, a status shows those of all shards.

What is reported has been committed and counts every attempt, so it only grows. Less than before means that reports are
missing: those of shards that had ended before the operator started again.
"""

from __future__ import annotations

from shardwise_api.status import RunStatus
from shardwise_api.wire import Metric

from .observed import Observed
from .training import presentable

_DIGITS = 3


def update_metrics(status: RunStatus, observed: Observed) -> None:
    """Fill in the metrics of an ingestion that works; they stay when nobody reported any."""
    known = {metric.name: metric.value for metric in status.metrics}
    sums: dict[str, float] = {}
    for report in observed.progress.values():
        for metric in report.metrics:
            sums[metric.name] = sums.get(metric.name, 0.0) + metric.value
    if sums:
        status.metrics = presentable(
            Metric(name=name, value=round(max(value, known.get(name, 0.0)), _DIGITS)) for name, value in sums.items()
        )
