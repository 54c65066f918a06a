"""What progress reports of several shards come to together: items, speed, metrics that a status can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from shardwise_api.bounds import MAX_COUNT, clamped
from shardwise_api.status import ItemStatus
from shardwise_api.wire import MAX_METRICS, ItemCounts, Metric, ProgressReport

from .conditions import shortened

MAX_METRIC_NAME_CHARACTERS = 64
_SPEED = "stepsPerSecond"


def sum_of(reports: Mapping[int, ProgressReport]) -> ItemCounts:
    """Return the items of all reports together."""
    return _counts(
        done=sum(report.items.done for report in reports.values()),
        failed=sum(report.items.failed for report in reports.values()),
        skipped=sum(report.items.skipped for report in reports.values()),
    )


def at_least(known: ItemStatus, seen: ItemCounts) -> ItemCounts:
    """Return what is seen, and never less than what is known.

    Only committed items are counted, so less than before means that reports are missing: those of shards that had ended
    before the operator started again.
    """
    return _counts(
        done=max(known.done, seen.done), failed=max(known.failed, seen.failed), skipped=max(known.skipped, seen.skipped)
    )


def _counts(*, done: int, failed: int, skipped: int) -> ItemCounts:
    # As much as a status can hold, however much every shard says.
    done = clamped(done)
    failed = min(clamped(failed), MAX_COUNT - done)
    return ItemCounts(done=done, failed=failed, skipped=min(clamped(skipped), MAX_COUNT - done - failed))


def speed(report: ProgressReport) -> float:
    """Return a shard's items per second: its own word, which knows of waiting, or its items over its time."""
    reported = metric_of(report, _SPEED, otherwise=0.0)
    if reported > 0:
        return reported
    seconds = (report.time - report.attempt_started).total_seconds()
    items = report.items.all - report.resumed
    return items / seconds if seconds > 0 and items > 0 else 0.0


def working_seconds(reports: Mapping[int, ProgressReport]) -> float:
    """Return for how long any shard was at work, as its last attempt tells."""
    seconds, until = 0.0, None
    for start, end in sorted((report.attempt_started, report.time) for report in reports.values()):
        begin = start if until is None else max(start, until)
        if end > begin:
            seconds += (end - begin).total_seconds()
            until = end
    return seconds


def presentable(metrics: Iterable[Metric]) -> list[Metric]:
    """Return metrics that a status can hold: JSON knows no infinity."""
    finite = [metric for metric in metrics if math.isfinite(metric.value)]
    return [
        Metric(name=shortened(metric.name, limit=MAX_METRIC_NAME_CHARACTERS), value=metric.value) for metric in finite
    ][:MAX_METRICS]


def metric_of(report: ProgressReport, name: str, *, otherwise: float) -> float:
    """Return the value of a metric, `otherwise` where it was not reported or is no number."""
    found = next((metric.value for metric in report.metrics if metric.name == name), otherwise)
    return found if math.isfinite(found) else otherwise
