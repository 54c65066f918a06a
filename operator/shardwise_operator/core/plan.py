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
from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, Result, RunStatus
from shardwise_api.wire import PrepareResult, RunDocument, RunResult, Step, StepFailure, WorkResult

from .actions import Action, DeleteRun, EnsureJob, StopJob, SuspendJob
from .conditions import set_condition, shortened
from .observed import FAILED_INDEXES, JobState, JobView, Observed
from .policies import Ending, Policy, policy_of
from .progress import presentable
from .report import describe
from .results import InvalidResult, M, result_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, and what the run's status is."""

    actions: tuple[Action, ...]
    status: RunStatus


def plan(run: Run, observed: Observed) -> Plan:
    """Return actions and status for a run as it is observed; `run.status` is what was said of it before."""
    policy = policy_of(run)
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
    ending = _failed_step(policy, observed) or unprepared or unfinished or _deadline(policy, observed, status)
    actions: tuple[Action, ...]
    if result is not None:
        # Before any deadline: a run that has its result is not failed by being looked at late.
        actions = ()
        _conclude(policy, status, result, already=prepared is not None and prepared.already_complete, now=observed.now)
    elif ending is not None:
        actions = _stop_all(observed)
        _fail(status, ending, now=observed.now)
    elif run.spec.suspend or observed.interrupted:
        # One that a queue holds too: it would begin when there is quota.
        actions = tuple(
            SuspendJob(step=step) for step, job in observed.jobs.items() if job.state is JobState.RUNNING or job.held
        )
    else:
        actions = (_next(policy, observed, prepared=prepared, status=status),)
    describe(policy, status, observed=observed, prepared=prepared, result=result)
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


def _next(policy: Policy, observed: Observed, *, prepared: PrepareResult | None, status: RunStatus) -> EnsureJob:
    work = observed.jobs.get(Step.WORK)
    document = run_document(policy.run, prepared=prepared)
    if prepared is None:
        return EnsureJob(step=Step.PREPARE, completions=1, parallelism=1, document=document)
    if not policy.skips_work(prepared) and (work is None or not _work_is_done(policy, work)):
        shards = policy.shards(prepared)
        return EnsureJob(step=Step.WORK, completions=shards, parallelism=policy.parallelism(shards), document=document)
    worked = None
    if work is not None and work.started is not None and work.ended is not None:
        reports = policy.counted_reports(observed).values()
        worked = WorkResult(
            seconds=(work.ended - work.started).total_seconds(),
            workers=policy.workers(work),
            done=sum(report.items.done - report.resumed_done for report in reports),
            failed_shards=indexes.to_text(work.failed),
            ends=policy.worker_exits(work, observed=observed, status=status),
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


def _work_is_done(policy: Policy, work: JobView) -> bool:
    if work.state is JobState.COMPLETE:
        return True
    # A Job with a failed index fails as a whole once all are over; the run tolerates as many as it was told to. A Job
    # that failed for another reason (an exit code that is never retried) did so at once.
    return work.state is JobState.FAILED and work.reason == FAILED_INDEXES and policy.tolerates(len(work.failed))


def _failed_step(policy: Policy, observed: Observed) -> Ending | None:
    """Return how a step has failed the run, None when none has."""
    for step in (Step.PREPARE, Step.WORK, Step.FINALIZE):
        job = observed.jobs.get(step)
        if job is None or job.state is not JobState.FAILED:
            continue
        if step is Step.WORK:
            if _work_is_done(policy, job):
                continue
            numbers = shortened(indexes.to_text(job.failed), limit=200)
            failed = f"shards {numbers} failed" if numbers else "the work step failed"
            told = _failure(job)
            return Ending(reason=job.reason or "ShardsFailed", message=f"{failed}: {told.message}".rstrip(": "))
        told = _failure(job)
        return Ending(reason=told.reason, message=f"{step}: {told.message}")
    return None


def _result(model: type[M], step: Step, run: Run, observed: Observed) -> tuple[M | None, Ending | None]:
    """Return a step's result, or how it ends the run; neither while there is none."""
    try:
        return result_of(model, observed.jobs.get(step), run=run), None
    except InvalidResult as error:
        return None, Ending(reason="InvalidResult", message=f"{step}: {error}")


def _active_deadline(run: Run, observed: Observed, status: RunStatus) -> Ending | None:
    since, limit = _counting_since(run, observed, status), run.spec.active_deadline_seconds
    if since is None or limit is None or observed.now - since <= timedelta(seconds=limit):
        return None
    return Ending(reason="DeadlineExceeded", message=f"spec.activeDeadlineSeconds: {limit} s are over")


def _deadline(policy: Policy, observed: Observed, status: RunStatus) -> Ending | None:
    run = policy.run
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
    if started and work is not None and work.state is JobState.RUNNING and not policy.has_begun(observed, status):
        started = False
        missing = f"{policy.missing_peers(observed) or 'not all ranks'} never came within {limit} s"
    if started:
        return None
    why = "" if observed.blocker is None else f"; {observed.blocker.reason}: {observed.blocker.message}"
    return Ending(reason="StartDeadlineExceeded", message=f"spec.startDeadlineSeconds: {missing}{why}")


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


def _fail(status: RunStatus, ending: Ending, *, now: datetime) -> None:
    set_condition(status, ConditionType.FAILED, value=True, reason=ending.reason, message=ending.message, now=now)
    status.completion_time = now


def _conclude(policy: Policy, status: RunStatus, result: RunResult, *, already: bool, now: datetime) -> None:
    status.result = Result(digest=result.digest, uri=result.uri, summary=result.summary)
    status.metrics = presentable(result.metrics)
    if (ending := policy.conclude(status, result)) is not None:
        message = "; ".join([ending.message, *result.warnings])
        _fail(status, Ending(reason=ending.reason, message=message), now=now)
        return
    nothing_left = [f"nothing was left to do: {policy.already_complete} already"] if already else []
    message = "; ".join([*nothing_left, *result.warnings])
    set_condition(status, ConditionType.COMPLETE, value=True, reason="Finalized", message=message, now=now)
    status.completion_time = now


def _after_end(run: Run, status: RunStatus, now: datetime) -> tuple[Action, ...]:
    ttl = run.spec.ttl_seconds_after_finished
    if ttl is None or status.completion_time is None:
        return ()
    return (DeleteRun(),) if now - status.completion_time >= timedelta(seconds=ttl) else ()
