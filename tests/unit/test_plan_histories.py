"""Whatever is lost, late or seen twice on the way, a run ends as its shards decide, and says nothing false before."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shardwise_api import indexes
from shardwise_api.runs import Run
from shardwise_api.sharding import shard_items
from shardwise_api.status import ConditionType, Failure, Phase, RunStatus
from shardwise_api.wire import ItemCounts, PrepareResult, ProgressReport, RunResult, Step, StepFailure
from shardwise_operator.core.actions import Action, DeleteRun, EnsureJob, StopJob, SuspendJob
from shardwise_operator.core.observed import FAILED_INDEXES, JobState, JobView, Observed
from shardwise_operator.core.plan import plan
from tests.support.examples import examples
from tests.support.plans import T0, new_run

NEVER_RETRIED = -1
"""The fate of a shard that leaves with an exit code that is never retried; another number is how often it fails."""


@dataclass(kw_only=True)
class Scenario:
    """What is decided from the start; the history around it must not matter."""

    items: int
    fates: list[int]
    parallelism: int
    per_shard: int
    max_failed: int
    input_is_fine: bool
    deadline: int | None
    """Of a run with a deadline nobody can say how it ends, only that it ends and leaves nothing running."""

    def run(self) -> Run:
        return new_run(
            f"sharding={{shards: {len(self.fates)}, parallelism: {self.parallelism}}}",
            f"retry={{perShard: {self.per_shard}, maxFailedShards: {self.max_failed}}}",
            *([] if self.deadline is None else [f"activeDeadlineSeconds={self.deadline}"]),
        )

    def failing(self) -> set[int]:
        return {shard for shard, fate in enumerate(self.fates) if fate > self.per_shard}

    def end(self) -> Phase:
        fine = self.input_is_fine and NEVER_RETRIED not in self.fates and len(self.failing()) <= self.max_failed
        return Phase.COMPLETE if fine else Phase.FAILED

    def items_of(self, shard: int) -> int:
        run = self.run()
        sharding = run.spec.sharding
        return len(shard_items(strategy=sharding.strategy, shards=sharding.shards, shard=shard, total=self.items))


@dataclass(kw_only=True)
class Job:
    """A Job controller and its pods, in miniature."""

    step: Step
    completions: int
    parallelism: int
    scenario: Scenario
    state: JobState = JobState.RUNNING
    active: set[int] = field(default_factory=set)
    completed: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    failures: dict[int, int] = field(default_factory=dict)
    reason: str = ""
    message: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    def view(self) -> JobView:
        return JobView(
            state=self.state, completions=self.completions, parallelism=self.parallelism, active=len(self.active),
            completed=frozenset(self.completed), failed=frozenset(self.failed), reason=self.reason,
            message=self.message, started=self.started, ended=self.ended,
        )  # fmt: skip

    def suspend(self) -> None:
        if self.state is JobState.RUNNING:
            self.state = JobState.SUSPENDED
            self.active.clear()

    def end(self, state: JobState, now: datetime, reason: str = "") -> None:
        self.state, self.reason, self.ended = state, reason, now
        self.active.clear()

    def start_pods(self, now: datetime) -> None:
        if self.state is not JobState.RUNNING:
            return
        left = [i for i in range(self.completions) if i not in self.completed | self.failed | self.active]
        for index in left[: max(0, self.parallelism - len(self.active))]:
            self.active.add(index)
            self.started = self.started or now

    def finish(self, index: int, now: datetime) -> Failure | None:
        """Let an attempt of an index come to the end that is decided for it."""
        self.active.discard(index)
        fate = self.scenario.fates[index] if self.step is Step.WORK else 0
        if self.step is Step.PREPARE and not self.scenario.input_is_fine:
            fate = NEVER_RETRIED
        if fate == NEVER_RETRIED:
            self.message = StepFailure(reason="InvalidInput", message="no").model_dump_json()
            self.failed.add(index)
            self.end(JobState.FAILED, now, "PodFailurePolicy")
            return Failure(shard=index, exit_code=2, reason="InvalidInput")
        count = self.failures.get(index, 0)
        if count < fate:
            self.failures[index] = count + 1
            if count + 1 > self.scenario.per_shard:
                self.failed.add(index)
                if len(self.failed) > self.scenario.max_failed:
                    self.end(JobState.FAILED, now, "MaxFailedIndexesExceeded")
                else:
                    self._end_when_over(now)
            return Failure(shard=index, exit_code=1, reason="WorkerFailed", message=f"attempt {count}")
        self.completed.add(index)
        self.message = self._result()
        self._end_when_over(now)
        return None

    def _end_when_over(self, now: datetime) -> None:
        if len(self.completed) + len(self.failed) == self.completions:
            self.end(JobState.FAILED if self.failed else JobState.COMPLETE, now, FAILED_INDEXES if self.failed else "")

    def _result(self) -> str:
        if self.step is Step.PREPARE:
            return PrepareResult(items_total=self.scenario.items, input_fingerprint="sha256:1").model_dump_json()
        if self.step is Step.WORK:
            return '{"shard": 0}'
        done = sum(
            self.scenario.items_of(shard)
            for shard in range(len(self.scenario.fates))
            if shard not in self.scenario.failing()
        )
        return RunResult(digest="sha256:2", items=ItemCounts(done=done)).model_dump_json()


class History:
    """A cluster, and an operator that sees it late, acts twice or not at all, and dies now and then."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self.scenario = scenario
        self.random = random
        self.run = scenario.run()
        self.now = T0
        self.jobs: dict[Step, Job] = {}
        self.committed: dict[int, int] = {}
        self.memory: dict[int, ProgressReport] = {}
        self.failures: list[Failure] = []
        self.seen: deque[Observed] = deque(maxlen=4)

    def cluster_moves(self) -> None:
        self.now += timedelta(seconds=self.random.randint(1, 20))
        for job in self.jobs.values():
            job.start_pods(self.now)
            for index in sorted(job.active):
                if index not in job.active:
                    continue
                if job.step is Step.WORK:
                    self._commit(index)
                if self.random.random() < 0.4 and (failure := job.finish(index, self.now)):
                    self.failures.append(failure)

    def _commit(self, shard: int) -> None:
        whole = self.scenario.items_of(shard)
        before = self.committed.get(shard, 0)
        self.committed[shard] = min(whole, before + self.random.randint(0, 5))
        if self.random.random() < 0.8:
            self.memory[shard] = ProgressReport(
                run="1234", shard=shard, attempt_started=self.now - timedelta(seconds=10), time=self.now,
                items=ItemCounts(done=self.committed[shard]), resumed=before,
            )  # fmt: skip

    def operator_moves(self, *, trouble: bool) -> None:
        self.seen.append(
            Observed(
                now=self.now, jobs={step: job.view() for step, job in self.jobs.items()}, progress=dict(self.memory),
                failures=tuple(self.failures),
            )
        )  # fmt: skip
        observed = self.random.choice(self.seen) if trouble else self.seen[-1]
        made = plan(self.run, observed)
        if not trouble or self.random.random() < 0.8:
            self._write(made.status)
        if made.status.is_true(ConditionType.FAILED):
            alive = {step for step, job in observed.jobs.items() if job.state in (JobState.RUNNING, JobState.SUSPENDED)}
            assert {action.step for action in made.actions if isinstance(action, StopJob)} == alive
        for action in made.actions:
            for _ in range(self.random.choice([0, 1, 2]) if trouble else 1):
                self._act(action)
        if trouble and self.random.random() < 0.1:
            self.memory.clear()
            self.failures.clear()
            self.seen.clear()

    def _write(self, status: RunStatus) -> None:
        before = self.run.status
        self.run.status = RunStatus.model_validate_json(status.model_dump_json(by_alias=True))
        assert self.run.status == status
        if before is not None:
            for end in (ConditionType.COMPLETE, ConditionType.FAILED):
                assert status.is_true(end) or not before.is_true(end)
            assert (status.items.done >= before.items.done) or status.finished
        assert not (status.is_true(ConditionType.COMPLETE) and status.is_true(ConditionType.FAILED))
        assert status.items.done + status.items.failed + status.items.skipped <= self.scenario.items
        assert len(status.failures) <= 10
        succeeded, failed = (
            indexes.from_text(text) for text in (status.shards.completed_indexes, status.shards.failed_indexes)
        )
        assert not succeeded & failed
        assert len(succeeded | failed) <= status.shards.total == len(self.scenario.fates)

    def _act(self, action: Action) -> None:
        match action:
            case EnsureJob():
                job = self.jobs.setdefault(
                    action.step,
                    Job(
                        step=action.step,
                        completions=action.completions,
                        parallelism=action.parallelism,
                        scenario=self.scenario,
                    ),
                )
                job.parallelism = action.parallelism
                if job.state is JobState.SUSPENDED:
                    job.state = JobState.RUNNING
            case SuspendJob():
                self.jobs[action.step].suspend()
            case StopJob():
                job = self.jobs[action.step]
                if job.state in (JobState.RUNNING, JobState.SUSPENDED):
                    job.end(JobState.FAILED, self.now, "Stopped")
            case DeleteRun():
                raise AssertionError("nobody asked for that")

    def person_moves(self) -> None:
        if self.random.random() < 0.1:
            self.run.spec.suspend = not self.run.spec.suspend
        if self.random.random() < 0.1:
            self.run.spec.sharding.parallelism = self.random.randint(1, len(self.scenario.fates))


SCENARIOS = st.builds(
    Scenario,
    items=st.integers(0, 60),
    fates=st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, NEVER_RETRIED]), min_size=1, max_size=6),
    parallelism=st.just(1),
    per_shard=st.integers(0, 3),
    max_failed=st.integers(0, 2),
    input_is_fine=st.sampled_from([True, True, True, False]),
    deadline=st.sampled_from([None, None, None, 60]),
)


@examples(60)
@given(scenario=SCENARIOS, seed=st.integers(0, 2**32), troubles=st.integers(0, 60))
def test_every_history_of_a_run_comes_to_the_same_end(scenario: Scenario, seed: int, troubles: int) -> None:
    history = History(scenario, Random(seed))
    for _ in range(troubles):
        history.person_moves()
        history.cluster_moves()
        history.operator_moves(trouble=True)
    history.run.spec.suspend = False
    for _ in range(400):
        history.cluster_moves()
        history.operator_moves(trouble=False)
        if history.run.status is not None and history.run.status.finished:
            break
    history.operator_moves(trouble=False)
    status = history.run.status
    assert status is not None
    assert not any(job.active for job in history.jobs.values())
    if scenario.deadline is not None:
        assert status.finished
        return
    assert status.phase is scenario.end()
    if status.phase is Phase.COMPLETE:
        assert status.result is not None
        assert status.result.digest == "sha256:2"
        assert indexes.from_text(status.shards.failed_indexes) == scenario.failing()
        assert status.progress.percent == 100
    elif not scenario.input_is_fine:
        failed = status.condition(ConditionType.FAILED)
        assert failed is not None
        assert (failed.reason, failed.message) == ("InvalidInput", "prepare: no")
