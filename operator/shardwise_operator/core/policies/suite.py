"""What is different for a suite, whose shards are scripts: how many is known late, all may fail, and its end is judged.

The Job says which scripts are over; what each came to is in their records, which the last step alone reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from shardwise_api import indexes
from shardwise_api.common import MAX_SHARDS
from shardwise_api.runs import Run, TrainingRun
from shardwise_api.scripts import PodOverride, ScriptsEngine
from shardwise_api.status import ConditionType, ItemStatus, RunStatus
from shardwise_api.wire import (
    MAX_ENDS,
    MAX_SUITE_JOBS,
    ExitCode,
    ItemCounts,
    PrepareResult,
    ProgressReport,
    RunResult,
    Step,
    SuiteCounts,
    SuiteJobStatus,
    SuiteStatus,
    WorkerExit,
)

from ..conditions import shortened
from ..observed import JobState, JobView, Observed
from ..retry_policy import ONE_STEP, RetryPolicy
from .base import Ending, Policy

MAX_END_CHARACTERS = 200
IDS = "ids"
"""Where the prepare step puts what the jobs are called, as far as there is room."""
INTERRUPTED = 130
_EXIT_STATUS = {"InvalidSpec": 2, "NothingDiscovered": 3, "Interrupted": INTERRUPTED}
"""Of a run that failed for one of these; for anything else 1."""


class SuitePolicy(Policy):
    """See `Policy`."""

    silence_is_stall = False
    limits_threads = False
    records_node = True
    lists_scripts = True
    worker_per_core = False
    progress_unit = "scripts"
    already_complete = "every script had succeeded"

    def __init__(self, run: Run, suite: ScriptsEngine) -> None:
        super().__init__(run)
        self._suite = suite

    def shards(self, prepared: PrepareResult | None) -> int:
        """See `Policy.shards`: none is known until the run is prepared."""
        return (prepared.items_total or 0) if prepared is not None else 0

    def parallelism(self, shards: int) -> int:
        """See `Policy.parallelism`."""
        return min(self._suite.max_workers, shards)

    def workers(self, work: JobView) -> int:
        """See `Policy.workers`: several Jobs share one limit."""
        return self.parallelism(work.completions)

    @property
    def is_dry_run(self) -> bool:
        """See `Policy.is_dry_run`."""
        return self._suite.dry_run

    def not_dry(self) -> Run:
        """See `Policy.not_dry`."""
        suite = self._suite.model_copy(update={"dry_run": False})
        run = super().not_dry()
        assert isinstance(run, TrainingRun)
        run.spec.engine.scripts = suite
        return run

    def skips_work(self, prepared: PrepareResult) -> bool:
        """See `Policy.skips_work`."""
        return prepared.already_complete or self._suite.dry_run or not prepared.items_total

    def problem_of(self, prepared: PrepareResult) -> str | None:
        """See `Policy.problem_of`."""
        total, overrides = prepared.items_total or 0, self.pod_overrides
        if total > MAX_SHARDS:
            return f"itemsTotal: {total} scripts; a suite has at most {MAX_SHARDS:,}"
        found = f"parts (of podOverrides): {shortened(f'{prepared.parts}', limit=200)} of {total} scripts"
        if len(prepared.parts or ()) != len(overrides):
            return f"{found}; the manifest has {len(overrides)} podOverrides"
        taken: set[int] = set()
        for text in prepared.parts or ():
            try:
                members = indexes.from_text(text)
            except ValueError as error:
                return f"{found}; {error}"
            if members & taken or any(index >= total for index in members):
                return f"{found}; each script is in one entry at most"
            taken |= members
        return None

    @property
    def pod_overrides(self) -> Sequence[PodOverride]:
        """See `Policy.pod_overrides`."""
        return self._suite.pod_overrides or ()

    @property
    def termination_seconds(self) -> int | None:
        """See `Policy.termination_seconds`: a script gets its grace, and the worker time to record how it ended."""
        return self._suite.termination_seconds

    def retry(self, *, step: Step, completions: int) -> RetryPolicy:
        """See `Policy.retry`."""
        if step is not Step.WORK:
            return RetryPolicy(
                per_index=ONE_STEP.per_shard, max_failed=0, fail_job_codes=frozenset({int(ExitCode.BAD_CONFIGURATION)})
            )
        # Scripts fail by themselves, and with whatever code: 2 is what a parser of arguments says of its own script.
        return RetryPolicy(
            per_index=self._suite.retries,
            max_failed=completions,
            fail_index_codes=frozenset({int(ExitCode.NO_SCRIPT)}),
            pause_seconds=self._suite.retry_delay_seconds,
            pause_growth=self._suite.retry_backoff,
        )

    def tolerates(self, failed: int) -> bool:
        """See `Policy.tolerates`: the last step judges them."""
        return True

    def worker_exits(self, work: JobView, *, observed: Observed, status: RunStatus) -> list[WorkerExit]:
        """See `Policy.worker_exits`: of scripts that failed for good; one that was killed has left no record of it."""
        newest = {
            failure.shard: failure for failure in (*status.failures, *observed.failures) if failure.shard is not None
        }
        found = [
            WorkerExit(
                shard=shard,
                exit_code=failure.exit_code,
                reason=failure.reason,
                message=shortened(failure.message, limit=MAX_END_CHARACTERS),
            )
            for shard, failure in sorted(newest.items())
            if shard in work.failed
        ]
        return found[:MAX_ENDS]

    def counted_items(self, known: ItemStatus, observed: Observed) -> ItemCounts:
        """See `Policy.counted_items`: a script that failed leaves no count; the Job has it."""
        work = observed.jobs.get(Step.WORK)
        return ItemCounts() if work is None else ItemCounts(done=len(work.completed), failed=len(work.failed))

    def rate(self, work: JobView, reports: Mapping[int, ProgressReport]) -> float | None:
        """Return scripts per second until the last reported end of one: time alone changes nothing."""
        over = work.completed | work.failed
        ended = max((report.time for shard, report in reports.items() if shard in over), default=None)
        if work.started is None or ended is None or ended <= work.started:
            return None
        return len(over) / (ended - work.started).total_seconds()

    def add_status(self, status: RunStatus, *, observed: Observed, prepared: PrepareResult | None) -> None:
        """Fill in where a suite is, from what the Job says; what the last step said of it stays."""
        if status.result is not None:
            return
        known = status.suite or SuiteStatus()
        total = self.shards(prepared) or known.counts.total
        work = observed.jobs.get(Step.WORK) or JobView(state=JobState.RUNNING)
        suspended = status.is_true(ConditionType.SUSPENDED)
        # A failed run's Jobs may already be deleted; keep the recorded outcome.
        work = replace(
            work,
            completed=work.completed | indexes.from_text(status.shards.completed_indexes),
            failed=work.failed | indexes.from_text(status.shards.failed_indexes),
        )
        over = len(work.completed) + len(work.failed)
        status.suite = SuiteStatus(
            exit_status=_exit_status(status, suspended=suspended),
            counts=SuiteCounts(
                total=total,
                success=len(work.completed),
                failed=len(work.failed),
                interrupted=max(0, total - over) if suspended else 0,
            ),
            jobs=[
                SuiteJobStatus(id=id_, status=_where(index, work, suspended=suspended))
                for index, id_ in enumerate(_ids(known, prepared))
            ],
        )

    def conclude(self, status: RunStatus, result: RunResult) -> Ending | None:
        """See `Policy.conclude`: that scripts failed, and which, is what the suite was run to find out."""
        if result.suite is None:
            return None
        status.suite = SuiteStatus(
            exit_status=result.suite.exit_status,
            counts=result.suite.counts,
            jobs=[SuiteJobStatus.from_line(line) for line in result.suite.jobs[:MAX_SUITE_JOBS]],
            summary_uri=result.uri,
        )
        if result.suite.exit_status == 0:
            return None
        reason = "Interrupted" if result.suite.exit_status == INTERRUPTED else "MandatoryJobFailed"
        return Ending(reason=reason, message=result.suite.message)

    def imagined(self) -> PrepareResult:
        """See `Policy.imagined`: the scripts of podOverrides behind as many others as run at once."""
        ends = [*accumulate((len(override.ids) for override in self.pod_overrides), initial=self._suite.max_workers)]
        parts = [indexes.to_text(range(*interval)) for interval in pairwise(ends)] or None
        return super().imagined().model_copy(update={"parts": parts, "items_total": ends[-1]})

    def identity(self, prepared: PrepareResult) -> dict[str, object]:
        """See `Policy.identity`: scripts have names."""
        return {}

    @property
    def finishing(self) -> str:
        """See `Policy.finishing`."""
        return f"waiting {self._suite.grace_seconds} s for the scripts that run"

    def progress_details(self, status: RunStatus) -> dict[str, object]:
        """See `Policy.progress_details`."""
        return {"failed": status.shards.failed, "running": status.shards.active}

    def result_rows(self, status: RunStatus) -> list[tuple[str, str]]:
        """See `Policy.result_rows`."""
        if status.suite is None:
            return super().result_rows(status)
        exit_status = status.suite.exit_status
        return [
            ("scripts", _counted(status.suite.counts)),
            *([] if exit_status is None else [("exit status", str(exit_status))]),
        ]


def _counted(counts: SuiteCounts) -> str:
    numbers = {
        "succeeded": counts.success, "failed": counts.failed, "skipped": counts.skipped,
        "interrupted": counts.interrupted,
    }  # fmt: skip
    found = ", ".join(f"{number:,} {word}" for word, number in numbers.items() if number)
    return f"{found or 'none over'} of {counts.total:,}"


def _exit_status(status: RunStatus, *, suspended: bool) -> int | None:
    failed = status.condition(ConditionType.FAILED)
    if failed is not None and failed.status == "True":
        return _EXIT_STATUS.get(failed.reason, 1)
    return INTERRUPTED if suspended else None


def _ids(known: SuiteStatus, prepared: PrepareResult | None) -> list[str]:
    found = None if prepared is None else prepared.details.get(IDS)
    if not isinstance(found, list):
        return [job.id for job in known.jobs]
    return [str(id_) for id_ in found[:MAX_SUITE_JOBS]]


def _where(index: int, work: JobView, *, suspended: bool) -> str:
    if index in work.completed:
        return "SUCCESS"
    if index in work.failed:
        return "FAILED"
    if suspended:
        return "INTERRUPTED"
    return "RUNNING" if index in work.running else "PENDING"
