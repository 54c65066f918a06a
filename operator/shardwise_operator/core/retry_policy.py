"""Which attempts of a step count, which end it, and when it has enough: the same for a cluster and for a laptop."""

from __future__ import annotations

from dataclasses import dataclass

from shardwise_api.common import Retry
from shardwise_api.runs import Run, suite_of, sweep_of
from shardwise_api.scripts import ScriptsEngine
from shardwise_api.wire import ExitCode, Step

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
    """So many indexes done complete the Job; None: all."""
    pause_seconds: float | None = None
    """From an attempt to the next one, where the runner can choose; None: as it likes."""
    pause_growth: float = 1.0
    """By which that grows with each that counted."""

    def pause(self, failures: int) -> float | None:
        """Return the seconds to wait after so many attempts that counted; None: as the runner likes."""
        if self.pause_seconds is None:
            return None
        try:
            return min(LONGEST_PAUSE_SECONDS, self.pause_seconds * self.pause_growth ** max(0, failures - 1))
        except OverflowError:
            return LONGEST_PAUSE_SECONDS


def retry_policy(run: Run, *, step: Step, completions: int) -> RetryPolicy:
    """Return the rules of a step."""
    suite = suite_of(run)
    if suite is not None:
        return _of_suite(suite, step=step, completions=completions)
    retry = run.spec.retry if step is Step.WORK else ONE_STEP
    final = frozenset(run.spec.retry.non_retriable_exit_codes) - {*map(int, UNCOUNTED)}
    sweep = sweep_of(run) if step is Step.WORK else None
    if sweep is None:
        # More than there are indexes is refused by the API server, and would say no more.
        tolerated = min(retry.max_failed_shards, completions)
        return RetryPolicy(per_index=retry.per_shard, max_failed=tolerated, fail_job_codes=final)
    # Seeds that don't converge are what a sweep is for: they fail neither it nor each other.
    hopeless = frozenset({int(ExitCode.NOT_CONVERGED)})
    return RetryPolicy(
        per_index=retry.per_shard,
        max_failed=completions,
        fail_job_codes=final - hopeless,
        fail_index_codes=hopeless,
        success_count=1 if sweep.stop_on_first else None,
    )


def _of_suite(suite: ScriptsEngine, *, step: Step, completions: int) -> RetryPolicy:
    if step is not Step.WORK:
        return RetryPolicy(
            per_index=ONE_STEP.per_shard, max_failed=0, fail_job_codes=frozenset({int(ExitCode.BAD_CONFIGURATION)})
        )
    # Scripts fail by themselves, and with whatever code: 2 is what a parser of arguments says of its own script.
    return RetryPolicy(
        per_index=suite.retries,
        max_failed=completions,
        fail_index_codes=frozenset({int(ExitCode.NO_SCRIPT)}),
        pause_seconds=suite.retry_delay_seconds,
        pause_growth=suite.retry_backoff,
    )
