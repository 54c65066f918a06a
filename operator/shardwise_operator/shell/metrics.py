"""Numbers for Prometheus, in a registry of their own.

What concerns single runs is read from the known runs at each scrape: a run that is deleted takes its series with it,
and nothing counts what the statuses say already.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shardwise_api.runs import Kind
from shardwise_api.status import Phase, RunStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REGISTRY = CollectorRegistry()

RECONCILE_SECONDS = Histogram(
    "shardwise_reconcile_seconds",
    "Time to reconcile one run.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
RECONCILE_ERRORS = Counter(
    "shardwise_reconcile_errors", "Reconciles that failed, by reason.", ["reason"], registry=REGISTRY
)
STATUS_UPDATES = Counter("shardwise_status_updates", "Statuses written.", registry=REGISTRY)
PROGRESS_REPORTS = Counter(
    "shardwise_progress_reports", "Progress reports, by what became of them.", ["outcome"], registry=REGISTRY
)
LEADER = Gauge("shardwise_leader", "1 on the replica that leads.", registry=REGISTRY)
WATCH_STALE_SECONDS = Gauge(
    "shardwise_watch_stale_seconds", "For how long a watch has missed something.", ["kind"], registry=REGISTRY
)
BUILD = Info("shardwise_build", "What runs.", registry=REGISTRY)
ProcessCollector(registry=REGISTRY)

_RUN = ("namespace", "kind", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """A run as the operator knows it now."""

    kind: str
    namespace: str
    name: str
    status: RunStatus


def watch_runs(runs: Callable[[], Iterable[KnownRun]], *, registry: CollectorRegistry = REGISTRY) -> None:
    """Have `runs` asked for the known runs at each scrape."""
    registry.register(_RunCollector(runs))


def exposition(registry: CollectorRegistry = REGISTRY) -> bytes:
    """Return all numbers in Prometheus' text format (CONTENT_TYPE)."""
    return generate_latest(registry)


class _RunCollector(Collector):
    def __init__(self, runs: Callable[[], Iterable[KnownRun]]) -> None:
        self._runs = runs

    def describe(self) -> Iterator[GaugeMetricFamily]:
        # Without it a registry would ask for the runs already when this is registered.
        return iter(_families().values())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = _families()
        phases = Tally[tuple[str, str]]()
        for run in self._runs():
            phases[run.kind, run.status.phase] += 1
            _add_run(families, run)
        # Zeros too: an alert on a series that comes and goes never fires when it should.
        for kind in Kind:
            for phase in Phase:
                families["runs"].add_metric([kind, phase], phases[kind, phase])
        yield from families.values()


def _families() -> dict[str, GaugeMetricFamily]:
    def family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"shardwise_{name}", text, labels=labels)

    return {
        "runs": family("runs", "Runs, by phase.", "kind", "phase"),
        "items": family("run_items", "Items of a run, by what became of them.", *_RUN, "state"),
        "percent": family("run_progress_percent", "How far a run is, 0 to 100.", *_RUN),
        "rate": family("run_items_per_second", "How fast a run works.", *_RUN),
        "shards": family("shards", "Shards of a run, by state.", *_RUN, "state"),
    }


def _add_run(families: dict[str, GaugeMetricFamily], run: KnownRun) -> None:
    labels, status = [run.namespace, run.kind, run.name], run.status
    items, shards, progress = status.items, status.shards, status.progress
    counts = {"done": items.done, "failed": items.failed, "skipped": items.skipped}
    if items.total is not None:
        counts["pending"] = max(0, items.total - sum(counts.values()))
    for state, count in counts.items():
        families["items"].add_metric([*labels, state], count)
    states = {"active": shards.active, "succeeded": shards.succeeded, "failed": shards.failed}
    states["pending"] = max(0, shards.total - sum(states.values()))
    for state, count in states.items():
        families["shards"].add_metric([*labels, state], count)
    if progress.percent is not None:
        families["percent"].add_metric(labels, progress.percent)
    if progress.rate_per_second is not None and not status.finished:
        families["rate"].add_metric(labels, progress.rate_per_second)
