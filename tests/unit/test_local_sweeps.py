"""A sweep's local Job: indexes of which one is enough, and that may fail without failing the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shardwise_api.wire import StepFailure
from shardwise_operator.core.observed import JobState
from shardwise_operator.core.retry_policy import RetryPolicy
from tests.support.local_jobs import GRACEFUL, Jobs, exists, jobs_in, to_the_end, until


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with jobs_in(tmp_path) as made:
        yield made


class TestSweep:
    """Indexes of which one is enough, and that may fail without failing the others."""

    HOPELESS = frozenset({3})

    def _rules(self, *, success_count: int | None = 1, per_index: int = 3) -> RetryPolicy:
        return RetryPolicy(
            per_index=per_index, max_failed=3, fail_index_codes=self.HOPELESS, success_count=success_count
        )

    def test_the_first_that_is_done_asks_the_others_to_end_and_waits_for_them(self, jobs: Jobs) -> None:
        (jobs.folder / "hold").touch()
        script = f"if shard == 0: wait_for('started-1'); wait_for('started-2'); sys.exit(0)\n{GRACEFUL}"
        job = jobs(script, completions=3, rules=self._rules())
        until(job, exists(jobs, "stopped-1", "stopped-2"))
        job.tick()
        assert job.view().state is JobState.RUNNING
        (jobs.folder / "hold").unlink()
        to_the_end(job)
        view = job.view()
        assert (view.state, view.completed, view.failed) == (JobState.COMPLETE, frozenset({0}), frozenset())
        assert (job.failures, [jobs.attempts(shard) for shard in (1, 2)]) == ([], [1, 1])

    def test_those_that_have_not_begun_never_do(self, jobs: Jobs) -> None:
        job = jobs("attempt()", completions=3, parallelism=1, rules=self._rules())
        to_the_end(job)
        assert [jobs.attempts(shard) for shard in range(3)] == [1, 0, 0]

    def test_an_exit_code_without_hope_fails_an_index_at_once_and_alone(self, jobs: Jobs) -> None:
        message = StepFailure(reason="NotConverged", message="seed 5").model_dump_json()
        # The last is enough, and lets the others try before.
        hopeless = f"attempt(); note('tried'); tell({message!r}); sys.exit(3)"
        script = f"if shard < 2: {hopeless}\nattempt(); wait_for('tried-0'); wait_for('tried-1')"
        job = jobs(script, completions=3, rules=self._rules())
        to_the_end(job)
        view = job.view()
        assert (view.state, view.completed) == (JobState.COMPLETE, frozenset({2}))
        assert all(jobs.attempts(shard) == 1 for shard in range(3))
        assert {failure.reason for failure in job.failures} <= {"NotConverged"}

    def test_when_none_is_done_the_job_has_failed_with_all_of_them(self, jobs: Jobs) -> None:
        job = jobs("sys.exit(3)", completions=3, rules=self._rules())
        to_the_end(job)
        view = job.view()
        assert (view.state, view.reason, view.failed) == (JobState.FAILED, "FailedIndexes", frozenset({0, 1, 2}))

    def test_when_all_are_wanted_all_are_worked_on(self, jobs: Jobs) -> None:
        job = jobs("attempt(); sys.exit(3 if shard == 1 else 0)", completions=3, rules=self._rules(success_count=None))
        to_the_end(job)
        view = job.view()
        assert (view.state, view.completed, view.failed) == (JobState.FAILED, frozenset({0, 2}), frozenset({1}))
