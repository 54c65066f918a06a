"""What core, children and observation ask of a run, whatever its work is. Each policy overrides what is its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from shardwise_api.common import SecretKeyRef
from shardwise_api.runs import Run, engine_name
from shardwise_api.scripts import PodOverride
from shardwise_api.sharding import shard_items
from shardwise_api.status import ItemStatus, RunStatus
from shardwise_api.wire import ItemCounts, PrepareResult, ProgressReport, RunResult, Step, WorkerExit

from ..observed import JobState, JobView, Observed
from ..progress import at_least, presentable, speed, sum_of, working_seconds
from ..retry_policy import ONE_STEP, UNCOUNTED, RetryPolicy

UNKNOWN_FINGERPRINT = "known-after-the-prepare-step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a run has failed."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a shard has of the input."""

    items: int
    blocks: int
    ends: tuple[int, int] | None
    """Its first and last item."""


class Policy:
    """How the work of a run is dealt, counted and judged; by default, as shards that know nothing of each other."""

    peers_talk: ClassVar[bool] = False
    """Workers of the run reach each other, and all run at once."""
    resizable: ClassVar[bool] = False
    """The number of shards may change while the run goes on."""
    silence_is_stall: ClassVar[bool] = True
    """A shard that reports nothing for long does nothing."""
    limits_threads: ClassVar[bool] = True
    """A worker's libraries are kept to one thread: the shards are the parallelism."""
    records_node: ClassVar[bool] = False
    """Workers write down which node they ran on."""
    worker_per_core: ClassVar[bool] = True
    """On one machine, as many workers run at once as it has cores, unless the manifest says how many."""
    deals_items: ClassVar[bool] = True
    """Each shard has items of its own, which a plan lists."""
    shows_metrics: ClassVar[bool] = False
    """What is learned is what people watch, and read at the end."""
    lists_scripts: ClassVar[bool] = False
    """A plan shows which scripts were found."""
    items: ClassVar[str] = "items"
    """What a table calls what the work is counted in."""
    progress_unit: ClassVar[str] = "samples"
    already_complete: ClassVar[str] = "the ledger held every block of this run"

    def __init__(self, run: Run) -> None:
        self.run = run

    # -- what is dealt

    def shards(self, prepared: PrepareResult | None) -> int:
        """Return how many shards there are, as far as it is known."""
        return self.run.spec.sharding.shards

    def parallelism(self, shards: int) -> int:
        """Return how many shards run at once, as far as the manifest decides it."""
        return self.run.spec.sharding.parallelism or shards

    def workers(self, work: JobView) -> int:
        """Return how many workers did the work, for the summary."""
        return work.parallelism

    @property
    def is_dry_run(self) -> bool:
        """Whether a run that is complete has done nothing."""
        return False

    def not_dry(self) -> Run:
        """Return a copy of the run that is no dry run."""
        return self.run.model_copy(deep=True)

    def skips_work(self, prepared: PrepareResult) -> bool:
        """Say whether there is nothing for workers to do."""
        return prepared.already_complete

    def problem_of(self, prepared: PrepareResult) -> str | None:
        """Return why the prepare step's result is impossible, as `field: problem`: any image may have written it."""
        return "parts: only a suite has groups of podOverrides" if prepared.parts else None

    # -- pods

    @property
    def pod_overrides(self) -> Sequence[PodOverride]:
        """Groups of shards whose pods differ: one Job each, numbered from 1."""
        return ()

    @property
    def termination_seconds(self) -> int | None:
        """How long a worker may take to end, where the manifest does not say it; None: as Kubernetes likes."""
        return None

    @property
    def store_secret(self) -> SecretKeyRef | None:
        """The Secret's key that holds the URI of the store."""
        return None

    # -- attempts

    def retry(self, *, step: Step, completions: int) -> RetryPolicy:
        """Return which attempts of a step count, which end it, and when it has enough."""
        retry = self.run.spec.retry if step is Step.WORK else ONE_STEP
        # More than there are indexes is refused by the API server, and would say no more.
        tolerated = min(retry.max_failed_shards, completions)
        return RetryPolicy(per_index=retry.per_shard, max_failed=tolerated, fail_job_codes=self._final_codes())

    def _final_codes(self) -> frozenset[int]:
        return frozenset(self.run.spec.retry.non_retriable_exit_codes) - {*map(int, UNCOUNTED)}

    def tolerates(self, failed: int) -> bool:
        """Say whether the last step may begin although so many shards have failed."""
        return failed <= self.run.spec.retry.max_failed_shards

    def worker_exits(self, work: JobView, *, observed: Observed, status: RunStatus) -> list[WorkerExit]:
        """Return how workers ended of which the last step finds no record."""
        return []

    # -- peers

    def has_begun(self, observed: Observed, status: RunStatus) -> bool:
        """Say whether a run whose workers run does anything."""
        return True

    def awaits_peers(self, observed: Observed) -> bool:
        """Say whether workers wait for others."""
        return False

    def missing_peers(self, observed: Observed) -> str | None:
        """Return those that are waited for, in words; None when none is known to be missing."""
        return None

    # -- what the status says

    def counted_reports(self, observed: Observed) -> Mapping[int, ProgressReport]:
        """Return the reports whose items are the run's."""
        return observed.progress

    def counted_items(self, known: ItemStatus, observed: Observed) -> ItemCounts:
        """Return how many items went which way, of a run that has no result yet."""
        return at_least(known, sum_of(self.counted_reports(observed)))

    def shards_at_end(self, work: JobView) -> int:
        """Return how many shards a run had whose work is over."""
        return work.completions

    def rate(self, work: JobView, reports: Mapping[int, ProgressReport]) -> float | None:
        """Return items per second, without resumed ones: of the shards at work, or of all over the time of the work."""
        if work.state is not JobState.RUNNING:
            if work.started is None or work.ended is None or work.ended <= work.started:
                return None
            items = sum(max(0, report.items.all - report.resumed) for report in reports.values())
            # A run that was paused, or waited for quota, worked less long than from its first start to its end.
            return items / (working_seconds(reports) or (work.ended - work.started).total_seconds()) or None
        over = work.completed | work.failed
        total = sum(speed(report) for shard, report in reports.items() if shard not in over)
        return total if total and math.isfinite(total) else None

    def update_metrics(self, status: RunStatus, observed: Observed) -> None:
        """Fill in metrics and checkpoint of a run that works, as far as somebody reported them; they stay otherwise."""
        found = [report for report in self.counted_reports(observed).values() if report.metrics or report.checkpoint]
        if found:
            show(status, max(found, key=lambda report: report.time))

    def add_status(self, status: RunStatus, *, observed: Observed, prepared: PrepareResult | None) -> None:
        """Fill in the block of the status that is this policy's own."""

    def conclude(self, status: RunStatus, result: RunResult) -> Ending | None:
        """Fill in what the result says beyond a digest; return why the run has failed although it has a result."""
        return None

    # -- what a person sees

    def imagined(self) -> PrepareResult:
        """Return a prepare step's result that stands for the one that nobody knows yet."""
        return PrepareResult(input_fingerprint=UNKNOWN_FINGERPRINT)

    def identity(self, prepared: PrepareResult) -> dict[str, object]:
        """Return the fields that the numbers of a run's blocks rest on; none for work that isn't cut into blocks."""
        return {
            "spec.sharding.strategy": str(self.run.spec.sharding.strategy),
            "spec.sharding.shards": self.run.spec.sharding.shards,
            "spec.blockSize": self.run.spec.block_size,
            "input": prepared.input_fingerprint,
        }

    def share(self, shard: int, *, total: int) -> Share:
        """Return what a shard has of an input of `total` items."""
        sharding, size = self.run.spec.sharding, self.run.spec.block_size
        items = shard_items(strategy=sharding.strategy, shards=sharding.shards, shard=shard, total=total)
        ends = (items[0], items[-1]) if items else None
        return Share(items=len(items), blocks=-(-len(items) // size), ends=ends)

    @property
    def engine(self) -> str:
        """What a plan calls the engine."""
        return engine_name(self.run)

    @property
    def finishing(self) -> str:
        """What workers do that were asked to stop."""
        return "finishing the current blocks"

    def plan_rows(self) -> list[tuple[str, str]]:
        """Return label and value of how the work is dealt."""
        sharding = self.run.spec.sharding
        return [("shards", f"{sharding.shards} {sharding.strategy}, blocks of {self.run.spec.block_size} items")]

    def progress_details(self, status: RunStatus) -> dict[str, object]:
        """Return what stands beside a progress bar."""
        shards = status.shards
        return {"errors": status.items.failed, "shards": f"{shards.succeeded}/{shards.total}"}

    def result_rows(self, status: RunStatus) -> list[tuple[str, str]]:
        """Return label and value of how much was done."""
        items, shards = status.items, status.shards
        return [
            ("items", f"{items.done:,} done, {items.failed:,} failed, {items.skipped:,} skipped"),
            ("shards", f"{shards.succeeded} of {shards.total} done"),
        ]


def show(status: RunStatus, report: ProgressReport) -> None:
    """Fill in a report's metrics and checkpoint."""
    if report.metrics:
        status.metrics = presentable(report.metrics)
    if report.checkpoint is not None:
        status.checkpoint = report.checkpoint
