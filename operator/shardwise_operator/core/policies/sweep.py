"""A sweep of seeds: each shard is a training of its own, and those that don't converge are what a sweep is for."""

from __future__ import annotations

import math

from shardwise_api.difflogic import DifflogicEngine, Sweep
from shardwise_api.runs import Run
from shardwise_api.status import RunStatus
from shardwise_api.wire import ExitCode, Metric, Step

from ..observed import Observed
from ..progress import metric_of
from ..retry_policy import RetryPolicy
from .base import show
from .training import TrainingPolicy

_WRONG = "wrong"
_SEED = "seed"
_LISTED_SEEDS = 20


class SweepPolicy(TrainingPolicy):
    """See `Policy`."""

    def __init__(self, run: Run, training: DifflogicEngine, sweep: Sweep) -> None:
        super().__init__(run, training)
        self._sweep = sweep

    def retry(self, *, step: Step, completions: int) -> RetryPolicy:
        """See `Policy.retry`: seeds fail neither the run nor each other."""
        if step is not Step.WORK:
            return super().retry(step=step, completions=completions)
        hopeless = frozenset({int(ExitCode.NOT_CONVERGED)})
        return RetryPolicy(
            per_index=self.run.spec.retry.per_shard,
            max_failed=completions,
            fail_job_codes=self._final_codes() - hopeless,
            fail_index_codes=hopeless,
            success_count=1 if self._sweep.stop_on_first else None,
        )

    def tolerates(self, failed: int) -> bool:
        """See `Policy.tolerates`: the last step says whether one is good, also when the last one was and no other."""
        return True

    def update_metrics(self, status: RunStatus, observed: Observed) -> None:
        """See `Policy.update_metrics`: one seed can be shown, the one that is nearest to its goal."""
        found = [
            report
            for report in self.counted_reports(observed).values()
            if (report.metrics or report.checkpoint) and report.shard < len(self._sweep.seeds)
        ]
        if not found:
            return
        best = min(found, key=lambda report: (metric_of(report, _WRONG, otherwise=math.inf), report.shard))
        seed = Metric(name=_SEED, value=self._sweep.seeds[best.shard])
        metrics = [seed, *best.metrics] if best.metrics else []
        show(status, best.model_copy(update={"metrics": metrics}))

    def _workers_in_words(self) -> str:
        seeds = ", ".join(map(str, self._sweep.seeds[:_LISTED_SEEDS]))
        more = ", …" if len(self._sweep.seeds) > _LISTED_SEEDS else ""
        return f"{self.run.spec.sharding.shards} seeds: {seeds}{more}"

    def progress_details(self, status: RunStatus) -> dict[str, object]:
        """See `Policy.progress_details`."""
        return {"seeds": f"{status.shards.succeeded}/{status.shards.total}"}

    def result_rows(self, status: RunStatus) -> list[tuple[str, str]]:
        """See `Policy.result_rows`."""
        shards = status.shards
        seeds = f"{shards.succeeded} solved, {shards.failed} not, of {shards.total}"
        return [*super().result_rows(status), ("seeds", seeds)]
