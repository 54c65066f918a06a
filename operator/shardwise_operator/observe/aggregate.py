"""Several Jobs of one step, aggregated into the one that a plan works with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..core.observed import FAILED_INDEXES, JobState, JobView

_OVER = (JobState.COMPLETE, JobState.FAILED)


def aggregate(jobs: Sequence[JobView], *, of: int) -> JobView:
    """Return what some Jobs are as one; `of`: how many the step has, for not all may have been made."""
    if len(jobs) == of == 1:
        return jobs[0]
    open_ = [job for job in jobs if job.state not in _OVER]
    broken = next((job for job in jobs if job.state is JobState.FAILED and job.reason != FAILED_INDEXES), None)
    state = _state(jobs, open_=open_, of=of, broken=broken)
    reported = broken or next((job for job in jobs if job.state is JobState.FAILED), jobs[0])
    over = state in _OVER
    # Those that a queue holds have no places yet, as long as others of them run.
    placed = [job for job in jobs if not job.held] or jobs
    ends = [job.ended for job in jobs if job.ended is not None]
    return JobView(
        state=state,
        completions=sum(job.completions for job in jobs),
        parallelism=sum(min(job.parallelism, job.completions - len(job.completed) - len(job.failed)) for job in placed),
        active=sum(job.active for job in jobs),
        running=_union(job.running for job in jobs),
        completed=_union(job.completed for job in jobs),
        failed=_union(job.failed for job in jobs),
        reason=reported.reason,
        message=reported.message,
        held=state is JobState.SUSPENDED and all(job.held for job in open_),
        unended=over and bool(open_),
        started=min((job.started for job in jobs if job.started is not None), default=None),
        ended=max(ends) if over and ends else None,
    )


def _state(jobs: Sequence[JobView], *, open_: Sequence[JobView], of: int, broken: JobView | None) -> JobState:
    if broken is not None:
        return JobState.FAILED
    if open_:
        # One that goes on is enough: the others are waited for, or resumed too.
        going = any(job.state is JobState.RUNNING for job in open_)
        return JobState.RUNNING if going else JobState.SUSPENDED
    if len(jobs) < of:
        return JobState.RUNNING
    return JobState.FAILED if any(job.state is JobState.FAILED for job in jobs) else JobState.COMPLETE


def _union(sets: Iterable[frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*sets)
