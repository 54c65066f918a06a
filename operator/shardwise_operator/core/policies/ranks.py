"""Ranks of one training: they work on every batch together, so the first one counts for all.

Until all have come nothing is done. When one is lost the others go back to the last checkpoint, and what is said of the
run goes back with them.
"""

from __future__ import annotations

from collections.abc import Mapping

from shardwise_api import indexes
from shardwise_api.status import ItemStatus, RunStatus
from shardwise_api.wire import ItemCounts, ProgressReport, Step

from ..conditions import shortened
from ..observed import JobState, JobView, Observed
from ..progress import at_least, sum_of
from .training import TrainingPolicy

MAX_RANKS_CHARACTERS = 200
LEADER = 0


class RanksPolicy(TrainingPolicy):
    """See `Policy`."""

    peers_talk = True
    resizable = True
    worker_per_core = False

    def parallelism(self, shards: int) -> int:
        """See `Policy.parallelism`: all at once, whatever the manifest says."""
        return shards

    def has_begun(self, observed: Observed, status: RunStatus) -> bool:
        """Say whether the ranks have ever been together; from then on a lost one is waited for without limit."""
        work = observed.jobs.get(Step.WORK)
        if work is None:
            return False
        if work.completed or self.counted_reports(observed) or status.progress.last_updated_time is not None:
            return True
        # Reports can be lost; rely on the running pods.
        return LEADER not in observed.progress and work.active >= work.completions

    def awaits_peers(self, observed: Observed) -> bool:
        """Say whether the first rank runs and waits for others."""
        leader, work = observed.progress.get(LEADER), observed.jobs.get(Step.WORK)
        return leader is not None and bool(leader.missing_ranks) and work is not None and work.active > 0

    def missing_peers(self, observed: Observed) -> str | None:
        """Return the ranks that have not come, as `ranks 2-3 of 4`."""
        work = observed.jobs.get(Step.WORK)
        if work is None:
            return None
        leader = observed.progress.get(LEADER)
        if leader is not None and LEADER in work.running:
            missing = leader.missing_ranks
        else:
            missing = indexes.missing(work.running, of=work.completions)
        if not missing:
            return None
        ranks = "rank" if missing.isdigit() else "ranks"
        return f"{ranks} {shortened(missing, limit=MAX_RANKS_CHARACTERS)} of {work.completions}"

    def counted_reports(self, observed: Observed) -> Mapping[int, ProgressReport]:
        """See `Policy.counted_reports`."""
        leader = observed.progress.get(LEADER)
        return {} if leader is None or leader.missing_ranks else {LEADER: leader}

    def counted_items(self, known: ItemStatus, observed: Observed) -> ItemCounts:
        """See `Policy.counted_items`: ranks say where they are, and after a loss that is the last checkpoint."""
        reports = self.counted_reports(observed)
        return sum_of(reports) if reports else at_least(known, ItemCounts())

    def shards_at_end(self, work: JobView) -> int:
        """See `Policy.shards_at_end`: another number comes too late, also one that the Job was given at its end."""
        return min(work.completions, len(work.completed)) if work.state is JobState.COMPLETE else work.completions

    def _workers_in_words(self) -> str:
        shards = self.run.spec.sharding.shards
        return f"{shards} ranks, which share each batch" if shards > 1 else "1 rank"

    def progress_details(self, status: RunStatus) -> dict[str, object]:
        """See `Policy.progress_details`."""
        return {"ranks": f"{status.shards.active}/{status.shards.total}"}

    def result_rows(self, status: RunStatus) -> list[tuple[str, str]]:
        """See `Policy.result_rows`."""
        return [*super().result_rows(status), ("ranks", str(status.shards.total))]
