"""The control loop's core: from a run and what is seen of its children to actions and status.

Pure and level-based: the same observation gives the same plan, whatever was lost or seen twice before it. The order
of a run is prepare -> shards -> finalize; a condition that says Complete or Failed is never taken back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from shardwise_api import indexes
from shardwise_api.runs import Run, is_gang, suite_of, sweep_of
from shardwise_api.status import ConditionType, Result, RunStatus
from shardwise_api.wire import PrepareResult, RunDocument, RunResult, Step, StepFailure, WorkResult

from .actions import Action, DeleteRun, EnsureJob, StopJob, SuspendJob
from .conditions import set_condition, shortened
from .observed import FAILED_INDEXES, JobState, JobView, Observed
from .report import describe
from .results import InvalidResult, M, result_of
from .suites import finished, parallelism, shards_of, skips_work, verdict, worker_exits
from .training import awaited_ranks, counted_reports, has_begun, presentable


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, and what the run's status is."""

    actions: tuple[Action, ...]
    status: RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    reason: str
    message: str


def plan(run: Run, observed: Observed) -> Plan:
    """Return actions and status for a run as it is observed; `run.status` is what was said of it before."""
    status = (run.status or RunStatus()).model_copy(deep=True)
    status.observed_generation = run.metadata.generation or status.observed_generation
    if status.finished:
        # Asked again for as long as a Job still runs: the first time may have been lost.
        return Plan(actions=(*_stop_all(observed), *_after_end(run, status, observed.now)), status=status)
    if status.start_time is None:
        status.start_time = observed.now
    set_condition(status, ConditionType.ACCEPTED, value=True, reason="Valid", now=observed.now)

    prepared, unprepared = _result(PrepareResult, Step.PREPARE, run, observed)
    result, unfinished = _result(RunResult, Step.FINALIZE, run, observed)
    ending = _failed_step(run, observed) or unprepared or unfinished or _deadline(run, observed, status)
    actions: tuple[Action, ...]
    if result is not None:
        # Before any deadline: a run that has its result is not failed by being looked at late.
        actions = ()
        _conclude(status, result, already=prepared is not None and prepared.already_complete, now=observed.now)
    elif ending is not None:
        actions = _stop_all(observed)
        _fail(status, ending, now=observed.now)
    elif run.spec.suspend or observed.interrupted:
        # One that a queue holds too: it would begin when there is quota.
        actions = tuple(
            SuspendJob(step=step) for step, job in observed.jobs.items() if job.state is JobState.RUNNING or job.held
        )
    else:
        actions = (_next(run, observed, prepared=prepared, status=status),)
    describe(run, status, observed=observed, prepared=prepared, result=result)
    return Plan(actions=actions, status=status)


def plan_blind(run: Run, *, now: datetime, steps: Collection[Step], problem: str) -> Plan:
    """Return what to do with a run that `plan` failed on: its deadlines count all the same. `steps` have Jobs."""
    status = (run.status or RunStatus()).model_copy(deep=True)
    status.start_time = status.start_time or now
    ending = None if status.finished else _active_deadline(run, Observed(now=now), status)
    if ending is not None:
        _fail(status, ending, now=now)
    if status.finished:
        return Plan(actions=tuple(StopJob(step=step) for step in steps), status=status)
    set_condition(status, ConditionType.PROGRESSING, value=False, reason="PlanFailed", message=problem, now=now)
    return Plan(actions=(), status=status)


def _next(run: Run, observed: Observed, *, prepared: PrepareResult | None, status: RunStatus) -> EnsureJob:
    work = observed.jobs.get(Step.WORK)
    document = run_document(run, prepared=prepared)
    if prepared is None:
        return EnsureJob(step=Step.PREPARE, completions=1, parallelism=1, document=document)
    if not skips_work(run, prepared) and (work is None or not _work_is_done(run, work)):
        shards = shards_of(run, prepared)
        return EnsureJob(
            step=Step.WORK,
            completions=shards,
            # Ranks all at once, whatever the manifest says.
            parallelism=shards if is_gang(run) else parallelism(run, shards),
            document=document,
        )
    worked = None
    if work is not None and work.started is not None and work.ended is not None:
        worked = WorkResult(
            seconds=(work.ended - work.started).total_seconds(),
            workers=parallelism(run, work.completions) if suite_of(run) is not None else work.parallelism,
            done=sum(report.items.done - report.resumed_done for report in counted_reports(run, observed).values()),
            failed_shards=indexes.to_text(work.failed),
            ends=worker_exits(run, work, observed=observed, status=status),
        )
    return EnsureJob(
        step=Step.FINALIZE, completions=1, parallelism=1, document=document.model_copy(update={"worked": worked})
    )


def run_document(run: Run, *, prepared: PrepareResult | None = None) -> RunDocument:
    """Return what workers read of a run."""
    return RunDocument(
        uid=run.metadata.uid or "",
        name=run.metadata.name,
        namespace=run.metadata.namespace,
        kind=run.kind,
        spec=run.spec_document(),
        prepared=prepared,
    )


def _work_is_done(run: Run, work: JobView) -> bool:
    if work.state is JobState.COMPLETE:
        return True
    # A Job with a failed index fails as a whole once all are over; the run tolerates as many as it was told to. A Job
    # that failed for another reason (an exit code that is never retried) did so at once.
    # Of a sweep every seed may: the last step says whether one is good, also when the last one was, and all others not.
    # Of a suite every script: the last step judges them.
    judged = sweep_of(run) is not None or suite_of(run) is not None
    tolerated = judged or len(work.failed) <= run.spec.retry.max_failed_shards
    return work.state is JobState.FAILED and work.reason == FAILED_INDEXES and tolerated


def _failed_step(run: Run, observed: Observed) -> _Ending | None:
    """Return how a step has failed the run, None when none has."""
    for step in (Step.PREPARE, Step.WORK, Step.FINALIZE):
        job = observed.jobs.get(step)
        if job is None or job.state is not JobState.FAILED:
            continue
        if step is Step.WORK:
            if _work_is_done(run, job):
                continue
            numbers = shortened(indexes.to_text(job.failed), limit=200)
            failed = f"shards {numbers} failed" if numbers else "the work step failed"
            told = _failure(job)
            return _Ending(reason=job.reason or "ShardsFailed", message=f"{failed}: {told.message}".rstrip(": "))
        told = _failure(job)
        return _Ending(reason=told.reason, message=f"{step}: {told.message}")
    return None


def _result(model: type[M], step: Step, run: Run, observed: Observed) -> tuple[M | None, _Ending | None]:
    """Return a step's result, or how it ends the run; neither while there is none."""
    try:
        return result_of(model, observed.jobs.get(step), run=run), None
    except InvalidResult as error:
        return None, _Ending(reason="InvalidResult", message=f"{step}: {error}")


def _active_deadline(run: Run, observed: Observed, status: RunStatus) -> _Ending | None:
    since, limit = _counting_since(run, observed, status), run.spec.active_deadline_seconds
    if since is None or limit is None or observed.now - since <= timedelta(seconds=limit):
        return None
    return _Ending(reason="DeadlineExceeded", message=f"spec.activeDeadlineSeconds: {limit} s are over")


def _deadline(run: Run, observed: Observed, status: RunStatus) -> _Ending | None:
    if (ending := _active_deadline(run, observed, status)) is not None:
        return ending
    since = _counting_since(run, observed, status)
    if since is None:
        return None
    running = observed.now - since
    limit = run.spec.start_deadline_seconds
    work = observed.jobs.get(Step.WORK)
    if limit is None or running <= timedelta(seconds=limit):
        return None
    started = any(job.active or job.started for job in observed.jobs.values()) or (work is not None and work.completed)
    missing = f"no worker ran within {limit} s"
    if started and is_gang(run) and work is not None and work.state is JobState.RUNNING:
        # Ranks can do nothing until all have come.
        started = has_begun(run, observed, status)
        missing = f"{awaited_ranks(observed) or 'not all ranks'} never came within {limit} s"
    if started:
        return None
    why = "" if observed.blocker is None else f"; {observed.blocker.reason}: {observed.blocker.message}"
    return _Ending(reason="StartDeadlineExceeded", message=f"spec.startDeadlineSeconds: {missing}{why}")


def _counting_since(run: Run, observed: Observed, status: RunStatus) -> datetime | None:
    """Return since when the deadlines count: as those of a Job, they stop with a suspension and begin anew after it."""
    if run.spec.suspend or observed.interrupted:
        return None
    suspended = status.condition(ConditionType.SUSPENDED)
    if suspended is None:
        return status.start_time
    return observed.now if suspended.status == "True" else suspended.last_transition_time


def _failure(job: JobView) -> StepFailure:
    try:
        return StepFailure.model_validate_json(job.message)
    except ValidationError:
        return StepFailure(reason=job.reason or "WorkerFailed", message=job.message)


def _stop_all(observed: Observed) -> tuple[Action, ...]:
    return tuple(
        StopJob(step=step)
        for step, job in observed.jobs.items()
        if job.unended or job.state in (JobState.RUNNING, JobState.SUSPENDED)
    )


def _fail(status: RunStatus, ending: _Ending, *, now: datetime) -> None:
    set_condition(status, ConditionType.FAILED, value=True, reason=ending.reason, message=ending.message, now=now)
    status.completion_time = now


def _conclude(status: RunStatus, result: RunResult, *, already: bool, now: datetime) -> None:
    status.result = Result(digest=result.digest, uri=result.uri, summary=result.summary)
    status.metrics = presentable(result.metrics)
    if result.suite is not None:
        status.suite = finished(result.suite, uri=result.uri)
        if (judged := verdict(result.suite)) is not None:
            # With a result: that scripts failed, and which, is what the suite was run to find out.
            message = "; ".join([judged.message, *result.warnings])
            _fail(status, _Ending(reason=judged.reason, message=message), now=now)
            return
    ledger = "the ledger held every block of this run" if result.suite is None else "every script had succeeded"
    nothing_left = [f"nothing was left to do: {ledger} already"] if already else []
    message = "; ".join([*nothing_left, *result.warnings])
    set_condition(status, ConditionType.COMPLETE, value=True, reason="Finalized", message=message, now=now)
    status.completion_time = now


def _after_end(run: Run, status: RunStatus, now: datetime) -> tuple[Action, ...]:
    ttl = run.spec.ttl_seconds_after_finished
    if ttl is None or status.completion_time is None:
        return ()
    return (DeleteRun(),) if now - status.completion_time >= timedelta(seconds=ttl) else ()
