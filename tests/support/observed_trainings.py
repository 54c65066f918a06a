"""Trainings in the pure core: their manifests, Jobs and reports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import Run
from shardwise_api.status import RunStatus
from shardwise_api.wire import (
    Checkpoint,
    ItemCounts,
    Metric,
    PrepareResult,
    ProgressReport,
)
from shardwise_operator.core.observed import JobState, JobView, Observed
from tests.support import manifests
from tests.support.plans import T0, observe

PREPARED = JobView(
    state=JobState.COMPLETE, message=PrepareResult(items_total=100, input_fingerprint="sha256:1").model_dump_json(),
    started=T0, ended=T0,
)  # fmt: skip
ALL = frozenset(range(4))


def training(*changes: str, ranks: int = 4) -> Run:
    """A training by four ranks."""
    text = manifests.changed(manifests.DIFFLOGIC, f"sharding.shards={ranks}", *changes)
    run = parse_manifest(text, name="test")
    run.metadata.uid = "1234"
    return run


def sweep(*changes: str) -> Run:
    """A search among the seeds 5, 6, 7 and 8."""
    return training("engine.difflogic.sweep={seeds: [5, 6, 7, 8]}", *changes)


def ranks(running: frozenset[int] = ALL, *, state: JobState = JobState.RUNNING, **fields: Any) -> JobView:
    """The Job of the ranks; those that run."""
    known: dict[str, Any] = {"completions": 4, "parallelism": 4, "active": len(running), "started": T0}
    return JobView(state=state, running=running, **{**known, **fields})


def told(
    shard: int = 0, *, at: float, step: int = 0, missing_ranks: str = "", resumed: int = 0,
    checkpoint: int | None = None, started: float = 0, others: Mapping[str, float] = MappingProxyType({}),
    **metrics: float,
) -> ProgressReport:  # fmt: skip
    """What a shard reports `at` seconds after T0."""
    return ProgressReport(
        run="1234", shard=shard, attempt_started=T0 + timedelta(seconds=started), time=T0 + timedelta(seconds=at),
        items=ItemCounts(done=step), resumed=resumed, missing_ranks=missing_ranks,
        metrics=[Metric(name=name, value=value) for name, value in {**metrics, **others}.items()],
        checkpoint=None if checkpoint is None else Checkpoint(uri="file:///out/checkpoint.npz", step=checkpoint),
    )  # fmt: skip


def seen(work: JobView, *reports: ProgressReport, at: float = 10, **more: Any) -> Observed:
    """What is seen of a training at work."""
    return observe(at=at, prepare=PREPARED, work=work, reports=reports, **more)


def metrics(status: RunStatus) -> dict[str, float]:
    return {metric.name: metric.value for metric in status.metrics}
