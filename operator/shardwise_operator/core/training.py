"""What reports say of a training, whose shards are ranks of one or seeds of many.

Ranks work on every batch together: the first one counts for all, and until all have come nothing is done. It goes back
to the last checkpoint when one is lost, and what is said of it goes back with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from shardwise_api import indexes
from shardwise_api.runs import Run, is_gang, sweep_of
from shardwise_api.status import RunStatus
from shardwise_api.wire import MAX_METRICS, Metric, ProgressReport, Step

from .conditions import shortened
from .observed import Observed

MAX_METRIC_NAME_CHARACTERS = 64
MAX_RANKS_CHARACTERS = 200
_SPEED = "stepsPerSecond"
_WRONG = "wrong"
_SEED = "seed"
LEADER = 0


def counted_reports(run: Run, observed: Observed) -> Mapping[int, ProgressReport]:
    """Return the reports whose items are the run's."""
    if not is_gang(run):
        return observed.progress
    leader = observed.progress.get(LEADER)
    return {} if leader is None or leader.missing_ranks else {LEADER: leader}


def has_begun(run: Run, observed: Observed, status: RunStatus) -> bool:
    """Say whether the ranks of a run have ever been together; from then on a lost one is waited for without limit."""
    work = observed.jobs.get(Step.WORK)
    if work is None:
        return False
    if work.completed or counted_reports(run, observed) or status.progress.last_updated_time is not None:
        return True
    # Of reports that don't get through nothing is to be learned: what is sure is that all ranks run.
    return LEADER not in observed.progress and work.active >= work.completions


def awaited_ranks(observed: Observed) -> str | None:
    """Return the ranks that have not come, as `ranks 2-3 of 4`; None when none is known to be missing."""
    work = observed.jobs.get(Step.WORK)
    if work is None:
        return None
    leader = observed.progress.get(LEADER)
    if leader is not None and LEADER in work.running:
        missing = leader.missing_ranks
    else:
        missing = indexes.missing(work.running, of=work.completions)
    if not missing:
        return None
    ranks = "rank" if missing.isdigit() else "ranks"
    return f"{ranks} {shortened(missing, limit=MAX_RANKS_CHARACTERS)} of {work.completions}"


def are_awaited(run: Run, observed: Observed) -> bool:
    """Say whether the first rank runs and waits for others."""
    leader, work = observed.progress.get(LEADER), observed.jobs.get(Step.WORK)
    return is_gang(run) and leader is not None and bool(leader.missing_ranks) and work is not None and work.active > 0


def update_metrics(run: Run, status: RunStatus, observed: Observed) -> None:
    """Fill in metrics and checkpoint of a run that works, as far as somebody reported them; they stay otherwise."""
    sweep = sweep_of(run)
    reports = [report for report in counted_reports(run, observed).values() if report.metrics or report.checkpoint]
    if sweep is not None:
        reports = [report for report in reports if report.shard < len(sweep.seeds)]
    if not reports:
        return
    if sweep is None:
        shown = max(reports, key=lambda report: report.time)
        metrics = shown.metrics
    else:
        # One seed at a time can be shown: the one that is nearest to its goal.
        shown = min(reports, key=lambda report: (_value(report, _WRONG, otherwise=math.inf), report.shard))
        metrics = [Metric(name=_SEED, value=sweep.seeds[shown.shard]), *shown.metrics]
    if shown.metrics:
        status.metrics = presentable(metrics)
    if shown.checkpoint is not None:
        status.checkpoint = shown.checkpoint


def presentable(metrics: Iterable[Metric]) -> list[Metric]:
    """Return metrics that a status can hold: JSON knows no infinity."""
    finite = [metric for metric in metrics if math.isfinite(metric.value)]
    return [
        Metric(name=shortened(metric.name, limit=MAX_METRIC_NAME_CHARACTERS), value=metric.value) for metric in finite
    ][:MAX_METRICS]


def speed(report: ProgressReport) -> float:
    """Return a shard's items per second: its own word, which knows of waiting, or its items over its time."""
    told = _value(report, _SPEED, otherwise=0.0)
    if told > 0:
        return told
    seconds = (report.time - report.attempt_started).total_seconds()
    items = report.items.all - report.resumed
    return items / seconds if seconds > 0 and items > 0 else 0.0


def _value(report: ProgressReport, name: str, *, otherwise: float) -> float:
    found = next((metric.value for metric in report.metrics if metric.name == name), otherwise)
    return found if math.isfinite(found) else otherwise
