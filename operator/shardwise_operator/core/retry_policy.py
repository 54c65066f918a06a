"""Which attempts of a step count, which end it, and when it has enough: the same for a cluster and for a laptop."""

from __future__ import annotations

from dataclasses import dataclass

from shardwise_api.common import Retry
from shardwise_api.wire import ExitCode

UNCOUNTED = (ExitCode.TEMPORARY, ExitCode.TERMINATED)
"""No fault of the worker: such an end uses up no retry."""
LONGEST_PAUSE_SECONDS = 3600.0
ONE_STEP = Retry(per_shard=1)
"""Prepare and finalize are one worker each; what a retry may mend gets one more, after the worker's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The rules of one step's Job."""

    per_index: int
    """Further attempts of an index that failed."""
    max_failed: int
    """More indexes than these fail the Job before the others are over."""
    fail_job_codes: frozenset[int] = frozenset()
    """Exit codes that fail the Job at once."""
    fail_index_codes: frozenset[int] = frozenset()
    """Exit codes after which an index is not tried again."""
    success_count: int | None = None
    """Number of succeeded indexes that completes the Job; None: all."""
    pause_seconds: float | None = None
    """From an attempt to the next one, where the runner can choose; None: as it likes."""
    pause_growth: float = 1.0
    """Multiplier applied to the pause after each attempt that counted; 1 keeps it constant."""

    def pause(self, failures: int) -> float | None:
        """Return the seconds to wait after so many attempts that counted; None: as the runner likes."""
        if self.pause_seconds is None:
            return None
        try:
            return min(LONGEST_PAUSE_SECONDS, self.pause_seconds * self.pause_growth ** max(0, failures - 1))
        except OverflowError:
            return LONGEST_PAUSE_SECONDS
