"""Numbers of the runs come and go with the runs; those of the operator stay."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from shardwise_api.status import ItemStatus, Phase, Progress, RunStatus, ShardStatus
from shardwise_operator.shell import metrics
from shardwise_operator.shell.metrics import KnownRun, exposition, watch_runs

_WORDS = KnownRun(
    kind="TrainingRun",
    namespace="team",
    name="words",
    status=RunStatus(
        phase=Phase.RUNNING,
        items=ItemStatus(total=100, done=30, failed=2, skipped=1),
        shards=ShardStatus(total=8, active=2, succeeded=3, failed=1),
        progress=Progress(percent=33, rate_per_second=12.5),
    ),
)
_LABELS = {"namespace": "team", "kind": "TrainingRun", "name": "words"}


def test_a_run_has_its_series_and_takes_them_with_it() -> None:
    runs = [_WORDS]
    registry = CollectorRegistry()
    watch_runs(lambda: runs, registry=registry)
    shown = series(registry)
    assert {state: shown[key("run_items", state=state)] for state in ("done", "failed", "skipped", "pending")} == {
        "done": 30, "failed": 2, "skipped": 1, "pending": 67,
    }  # fmt: skip
    assert {state: shown[key("shards", state=state)] for state in ("active", "succeeded", "failed", "pending")} == {
        "active": 2, "succeeded": 3, "failed": 1, "pending": 2,
    }  # fmt: skip
    assert shown[key("run_progress_percent")] == 33
    assert shown[key("run_items_per_second")] == 12.5
    runs.clear()
    assert not [one for one in series(registry) if ("name", "words") in one[1]]


def test_runs_are_counted_by_kind_and_phase_with_zeros() -> None:
    registry = CollectorRegistry()
    watch_runs(lambda: [_WORDS, _WORDS], registry=registry)
    shown = {dict(labels)["kind"] + dict(labels)["phase"]: value for (name, labels), value in series(registry).items()
             if name == "shardwise_runs"}  # fmt: skip
    assert shown["TrainingRunRunning"] == 2
    assert shown["IngestRunRunning"] == 0
    assert sum(shown.values()) == 2


def test_what_nobody_knows_has_no_series() -> None:
    registry = CollectorRegistry()
    watch_runs(
        lambda: [KnownRun(kind="TrainingRun", namespace="team", name="new", status=RunStatus())], registry=registry
    )
    names = {name for name, labels in series(registry) if ("name", "new") in labels}
    assert names == {"shardwise_run_items", "shardwise_shards"}


def test_a_label_may_hold_anything() -> None:
    odd = 'a"b\\c\nd'
    registry = CollectorRegistry()
    watch_runs(lambda: [KnownRun(kind="TrainingRun", namespace=odd, name="x", status=RunStatus())], registry=registry)
    assert any(("namespace", odd) in labels for _, labels in series(registry))


def test_the_operator_s_own_numbers_have_the_agreed_names() -> None:
    metrics.PROGRESS_REPORTS.labels(outcome="accepted")
    metrics.RECONCILE_ERRORS.labels(reason="Conflict")
    metrics.WATCH_STALE_SECONDS.labels(kind="Job").set(0)
    metrics.BUILD.info({"version": "1"})
    names = {name for name, _ in series(metrics.REGISTRY)}
    assert names >= {
        "shardwise_reconcile_seconds_bucket", "shardwise_reconcile_errors_total", "shardwise_status_updates_total",
        "shardwise_progress_reports_total", "shardwise_leader", "shardwise_watch_stale_seconds",
        "shardwise_build_info", "process_resident_memory_bytes",
    }  # fmt: skip


def key(name: str, **more: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"shardwise_{name}", frozenset({**_LABELS, **more}.items())


def series(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return all numbers as Prometheus would read them."""
    families = text_string_to_metric_families(exposition(registry).decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
