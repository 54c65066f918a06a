"""One run's Jobs, pods and reports put together into what the plan is made from.

A Job counts as ended only together with what its worker left: the two come by different watches, in any order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from pydantic import ValidationError

from shardwise_api import indexes
from shardwise_api.status import Failure, JobReference
from shardwise_api.wire import ProgressReport, ShardResult, Step, StepFailure

from ..core.conditions import shortened
from ..core.observed import Blocker, JobState, JobView, Observed
from ..core.retry_policy import UNCOUNTED
from .aggregate import aggregate
from .blockers import blocker_of
from .snapshots import JobSnapshot, PodSnapshot

_KILLED = 137


def observe(
    *,
    now: datetime,
    run_uid: str,
    jobs: Collection[JobSnapshot],
    pods: Collection[PodSnapshot],
    reports: Mapping[int, ProgressReport],
    held: Collection[str] = (),
    waits_for: str = "",
    blocker: Blocker | None = None,
) -> Observed:
    """Return what is seen of a run.

    `held` are uids of Jobs that somebody suspended who has no queue (Kueue does, of Jobs without one), `waits_for` is
    why; `blocker` is what the API server said when children were made, or in Events.
    """
    # The newest of each name: of one that was made anew the old one's end may have been missed.
    current = {(job.step, job.part): job for job in jobs if not job.deleting}
    steps = {job.uid: job.step for job in current.values()}
    own = [pod for pod in pods if steps.get(pod.job_uid) is pod.step]
    seen = {
        key: _view(job, [pod for pod in own if pod.job_uid == job.uid], held=bool(job.queue) or job.uid in held)
        for key, job in current.items()
    }
    views: dict[Step, JobView] = {}
    for step in dict.fromkeys(step for step, _ in seen):
        numbers = sorted(part for of, part in seen if of is step)
        spread = max(current[step, part].parts for part in numbers)
        views[step] = aggregate([seen[step, part] for part in numbers], of=spread)
    work = min((job for job in current.values() if job.step is Step.WORK), key=lambda job: job.part, default=None)
    return Observed(
        now=now,
        jobs=views,
        progress=_progress(run_uid, reports, [pod for pod in own if pod.step is Step.WORK]),
        failures=_failures(own),
        waits_for=waits_for,
        blocker=blocker or blocker_of([pod for pod in own if views[pod.step].state is JobState.RUNNING]),
        job_ref=None if work is None else JobReference(name=work.name, uid=work.uid),
    )


def awaited_message(job: JobSnapshot, pods: Collection[PodSnapshot]) -> bool:
    """Say whether a Job has ended and what its worker left is not to be seen (yet)."""
    if job.step is Step.WORK and job.condition == "Complete":
        return False
    return bool(job.condition) and not job.deleting and message_of(job, pods) is None


def uncounted(job: JobSnapshot, pods: Collection[PodSnapshot]) -> bool:
    """Say whether the work step has ended and what some of its shards left is not to be seen (yet)."""
    if job.step is not Step.WORK or not job.condition or job.deleting:
        return False
    ended = [pod for pod in pods if pod.job_uid == job.uid and pod.exit_code is not None]
    good = {pod.shard for pod in ended if pod.exit_code == 0}
    bad = {pod.shard for pod in ended if pod.exit_code != 0}
    return not (good >= indexes.from_text(job.completed) and bad >= indexes.from_text(job.failed))


def _view(job: JobSnapshot, pods: list[PodSnapshot], *, held: bool) -> JobView:
    message = message_of(job, pods)
    starts = [pod.started for pod in pods if pod.started is not None]
    completed = frozenset(indexes.from_text(job.completed))
    failed = frozenset(indexes.from_text(job.failed))
    started = min(starts, default=job.started if completed or failed else None)
    state = _state(job, has_message=message is not None)
    return JobView(
        state=state,
        completions=job.completions,
        parallelism=job.parallelism,
        active=sum(pod.running and not pod.deleting for pod in pods),
        running=frozenset(pod.shard for pod in pods if pod.running and not pod.deleting),
        completed=completed,
        failed=failed,
        reason=job.reason,
        message=message or job.message,
        held=held and state is JobState.SUSPENDED,
        started=started,
        ended=job.ended,
    )


def _state(job: JobSnapshot, *, has_message: bool) -> JobState:
    if job.condition == "Complete" and (has_message or job.step is Step.WORK):
        return JobState.COMPLETE
    if job.condition == "Failed":
        return JobState.FAILED
    return JobState.SUSPENDED if job.suspended else JobState.RUNNING


def message_of(job: JobSnapshot, pods: Collection[PodSnapshot]) -> str | None:
    """Return what the worker of a single step left, None while it is not to be seen."""
    if job.kept_message is not None:
        return job.kept_message
    ended = [
        pod
        for pod in pods
        if pod.job_uid == job.uid
        and pod.exit_code is not None
        and (pod.exit_code == 0 if job.condition == "Complete" else _counts(pod))
    ]
    return max(ended, key=_end).message if ended else None


def _progress(
    run_uid: str, reports: Mapping[int, ProgressReport], pods: list[PodSnapshot]
) -> dict[int, ProgressReport]:
    found = dict(reports)
    for pod in pods:
        report = final_report(run_uid, pod, known=found.get(pod.shard))
        if report is not None:
            found[pod.shard] = report
    return found


def final_report(run_uid: str, pod: PodSnapshot, *, known: ProgressReport | None) -> ProgressReport | None:
    """Return what a pod of the work step said at its good end, as a report; None when it had none, or said nothing."""
    if pod.step is not Step.WORK or pod.exit_code != 0 or pod.started is None or pod.ended is None:
        return None
    try:
        result = ShardResult.model_validate_json(pod.message)
    except ValidationError:
        return None
    return ProgressReport(
        run=run_uid,
        shard=pod.shard,
        attempt_started=pod.started,
        time=pod.ended,
        items=result.items,
        total=result.items.all,
        resumed=0 if known is None else known.resumed,
        resumed_done=0 if known is None else known.resumed_done,
        # A result has no room for them, and the last ones said are those of the end.
        metrics=[] if known is None else known.metrics,
        checkpoint=None if known is None else known.checkpoint,
    )


def _failures(pods: list[PodSnapshot]) -> tuple[Failure, ...]:
    failed = sorted((pod for pod in pods if _counts(pod)), key=_end)
    return tuple(_failure(pod) for pod in failed)


def _counts(pod: PodSnapshot) -> bool:
    """Say whether a pod's end was a failure of its worker: not a drained node, not lost peers, not a deleted pod."""
    # Killed for not ending in time, which it was told to do.
    killed = pod.deleting and pod.exit_code == _KILLED and pod.ended_reason != "OOMKilled"
    return pod.exit_code not in (None, 0, *UNCOUNTED) and not pod.disrupted and not killed


def _failure(pod: PodSnapshot) -> Failure:
    try:
        told = StepFailure.model_validate_json(pod.message)
    except ValidationError:
        # Killed from outside, it could say nothing: OOMKilled is the one that people look for.
        told = StepFailure(reason=pod.ended_reason or "WorkerFailed", message=pod.message)
    return Failure(
        shard=pod.shard if pod.step is Step.WORK else None,
        exit_code=pod.exit_code,
        reason=told.reason,
        message=shortened(told.message),
    )


def _end(pod: PodSnapshot) -> tuple[float, str]:
    return (0.0 if pod.ended is None else pod.ended.timestamp(), pod.name)
