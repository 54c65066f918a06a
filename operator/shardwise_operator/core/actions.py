"""What a plan may ask for: few verbs, each safe to repeat."""

from __future__ import annotations

from dataclasses import dataclass

from shardwise_api.wire import RunDocument, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsureJob:
    """The Job of a step exists, runs, and has this parallelism."""

    step: Step
    completions: int
    parallelism: int
    document: RunDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendJob:
    """The Job of a step is suspended: its pods end, its completed indexes stay. In a queue it is taken out of it."""

    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class StopJob:
    """The Job of a step is stopped for good: the run has failed for another reason."""

    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRun:
    """The run is over and its time to live is past."""


Action = EnsureJob | SuspendJob | StopJob | DeleteRun
