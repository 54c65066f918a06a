"""What is seen of a run's children, in words that a cluster and a laptop share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shardwise_api.status import Failure, JobReference
from shardwise_api.wire import ProgressReport, Step


class JobState(StrEnum):
    """Where a child Job is."""

    RUNNING = "Running"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"


FAILED_INDEXES = "FailedIndexes"
"""A Job's reason when all its indexes are over and some failed for good; any other failure came before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """The work of one step: a Job of one index for `prepare` and `finalize`, of all shards for `work`.

    Where shards are spread over several Jobs, it is those together.
    """

    state: JobState
    completions: int = 1
    parallelism: int = 1
    active: int = 0
    running: frozenset[int] = frozenset()
    """Indexes whose worker runs."""
    completed: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    reason: str = ""
    """Why it failed, in the Job's words: BackoffLimitExceeded, MaxFailedIndexesExceeded, PodFailurePolicy, …"""
    message: str = ""
    """Termination message of the last pod that ended; a Job is shown complete only together with it."""
    held: bool = False
    """Suspended by somebody else, who will let it go again (Kueue): waiting, and to be left alone."""
    unended: bool = False
    """It is over, and a Job of it is not."""
    started: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """What keeps workers from starting: an image, a Secret, a quota, a right that is missing. It goes when mended."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that a plan is made from, besides the run itself."""

    now: datetime
    jobs: Mapping[Step, JobView] = field(default_factory=dict)
    progress: Mapping[int, ProgressReport] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    """Failed attempts, newest last."""
    waits_for: str = ""
    """Why a Job that is held waits, in a queue's words."""
    blocker: Blocker | None = None
    job_ref: JobReference | None = None
    interrupted: bool = False
    """A person asked the local runner to stop (Ctrl-C); a cluster has `spec.suspend` for it."""
