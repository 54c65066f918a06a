"""What a test sees of a run's children: Jobs in every state, progress reports, and plans made from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import Run
from shardwise_api.status import Condition, ConditionType, Failure, RunStatus
from shardwise_api.wire import ItemCounts, Metric, PrepareResult, ProgressReport, RunResult, Step
from shardwise_operator.core.actions import Action, EnsureJob
from shardwise_operator.core.observed import FAILED_INDEXES, JobState, JobView, Observed
from shardwise_operator.core.plan import Plan, plan

from . import manifests

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
PREPARED = PrepareResult(items_total=100, input_fingerprint="sha256:1")
RESULT = RunResult(
    digest="sha256:2",
    uri="file:///out/summary.json",
    items=ItemCounts(done=90, failed=4, skipped=6),
    metrics=[Metric(name="samples_processed", value=90)],
    summary={"guarantee": "ExactlyOnce"},
)
PREPARE_DONE = JobView(state=JobState.COMPLETE, message=PREPARED.model_dump_json(), started=T0, ended=T0)
PREPARE_DONE_ALREADY = JobView(
    state=JobState.COMPLETE, message=PREPARED.model_copy(update={"already_complete": True}).model_dump_json()
)
FINALIZE_DONE = JobView(state=JobState.COMPLETE, message=RESULT.model_dump_json(by_alias=True))
ONE_RUNS = JobView(state=JobState.RUNNING, active=1, started=T0)


def new_run(*changes: str) -> Run:
    """Return a valid run of eight shards, two at a time, with `path=value` changes."""
    run = parse_manifest(manifests.changed(manifests.KATO, *changes), name="test")
    run.metadata.uid = "1234"
    return run


def work_view(state: JobState = JobState.RUNNING, **fields: Any) -> JobView:
    """Return the work Job as it is seen."""
    known: dict[str, Any] = {"completions": 8, "parallelism": 2, "active": 2, "started": T0}
    return JobView(state=state, **{**known, **fields})


def work_over(*, failed: Sequence[int] = (), reason: str = FAILED_INDEXES, **fields: Any) -> JobView:
    """Return the work Job with all its indexes over."""
    return work_view(
        JobState.FAILED if failed else JobState.COMPLETE,
        active=0,
        completed=frozenset(range(8)) - set(failed),
        failed=frozenset(failed),
        reason=reason if failed else "",
        ended=T0 + timedelta(seconds=50),
        **fields,
    )


def report(
    shard: int, *, at: float, done: int = 10, failed: int = 0, skipped: int = 0, resumed: int = 0
) -> ProgressReport:
    """Return what a shard reports `at` seconds after T0."""
    return ProgressReport(
        run="1234",
        shard=shard,
        attempt_started=T0,
        time=T0 + timedelta(seconds=at),
        items=ItemCounts(done=done, failed=failed, skipped=skipped),
        resumed=resumed,
    )


def observe(
    *, at: float = 0, prepare: JobView | None = None, work: JobView | None = None, finalize: JobView | None = None,
    reports: Sequence[ProgressReport] = (), failures: Sequence[Failure] = (), interrupted: bool = False,
) -> Observed:  # fmt: skip
    """Return what is seen `at` seconds after T0."""
    views = {Step.PREPARE: prepare, Step.WORK: work, Step.FINALIZE: finalize}
    return Observed(
        now=T0 + timedelta(seconds=at),
        jobs={step: view for step, view in views.items() if view is not None},
        progress={report.shard: report for report in reports},
        failures=tuple(failures),
        interrupted=interrupted,
    )


def plans(run: Run, *observations: Observed) -> Plan:
    """Return the plan of the last observation, the status being kept from one to the next."""
    made = None
    for observed in observations:
        made = plan(run, observed)
        run.status = made.status
    assert made is not None
    return made


def condition(status: RunStatus, type_: ConditionType) -> Condition:
    """Return a condition that has to be there."""
    found = status.condition(type_)
    assert found is not None, f"no condition {type_}"
    return found


def states(status: RunStatus) -> dict[str, str]:
    """Return `status/reason` per condition."""
    return {str(condition.type): f"{condition.status}/{condition.reason}" for condition in status.conditions}


def ensured(actions: tuple[Action, ...]) -> EnsureJob:
    """Return the one action, which has to ensure a Job."""
    (action,) = actions
    assert isinstance(action, EnsureJob)
    return action
