"""The Jobs that a step is spread over: one, unless scripts of a suite want pods of another shape.

A Job has one pod template. Scripts that differ get a Job for each entry of `podOverrides`, and all others one together.
Which shards a Job has is written on it, so that all else speaks of a run's shards and not of one Job's indexes. How
many run at once is one limit for all of them: what one Job needs no more, the others get.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shardwise_api import indexes
from shardwise_api.runs import Run
from shardwise_api.scripts import PodOverride
from shardwise_api.wire import Step

from ..core.actions import EnsureJob
from ..core.policies import policy_of
from .names import queued


@dataclass(frozen=True, slots=True, kw_only=True)
class JobGroup:
    """One Job of a step."""

    number: int
    """The entry of podOverrides, counted from 1. 0 is the default group."""
    of: int
    """How many Jobs the step has."""
    completions: int
    shards: str | None = None
    """As interval text; None: all, and a completion index is a shard."""
    override: PodOverride | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobGroupState:
    """How far the Job of a group is."""

    parallelism: int
    left: int
    """Shards that are not over."""


def job_groups_of(run: Run, action: EnsureJob) -> tuple[JobGroup, ...]:
    """Return the Jobs of a step, those without shards left out."""
    overrides = policy_of(run).pod_overrides
    if not overrides or action.step is not Step.WORK:
        return (JobGroup(number=0, of=1, completions=action.completions),)
    prepared = action.document.prepared
    texts = (prepared.parts or ()) if prepared is not None else ()
    named = [indexes.from_text(text) for text in texts]
    over = set[int]().union(*named)
    members = [(indexes.missing(over, of=action.completions), action.completions - len(over))]
    members += [(indexes.to_text(group), len(group)) for group in named]
    shards = {number: found for number, found in enumerate(members) if found[1]}
    return tuple(
        JobGroup(
            number=number,
            of=len(shards),
            completions=count,
            shards=text,
            override=overrides[number - 1] if number else None,
        )
        for number, (text, count) in shards.items()
    )


def parallelisms(
    run: Run, action: EnsureJob, groups: Sequence[JobGroup], *, states: Mapping[int, JobGroupState] | None = None
) -> dict[int, int]:
    """Return how many shards of each group may run at once; together never more than the action allows.

    Level: whoever has least gets the next place, so that no group waits for another one's end. A Job's number is never
    lowered, which would kill pods: places get free by shards that are over. `states` are of the Jobs that exist.

    Of a queued run they stay as they were made, one at least: Kueue admits a Job with its size, and stops one that has
    another. How much runs at once is for the queue's quota to say there.
    """
    if len(groups) == 1:
        return {groups[0].number: action.parallelism}
    if queued(run):
        return {number: max(1, count) for number, count in _shares(action, groups, known={}).items()}
    return _shares(action, groups, known=states or {})


def _shares(action: EnsureJob, groups: Sequence[JobGroup], *, known: Mapping[int, JobGroupState]) -> dict[int, int]:
    now = {
        group.number: known.get(group.number, JobGroupState(parallelism=0, left=group.completions)) for group in groups
    }
    taken = {number: min(state.parallelism, state.left) for number, state in now.items()}
    free = action.parallelism - sum(taken.values())
    while free > 0:
        wanting = [number for number, state in now.items() if taken[number] < state.left]
        if not wanting:
            break
        taken[min(wanting, key=lambda number: (taken[number], number))] += 1
        free -= 1
    return {number: max(state.parallelism, taken[number]) for number, state in now.items()}
