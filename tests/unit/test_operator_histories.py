"""Whatever watches lose, calls break or processes die on the way: a run ends as its shards decide, each step made once.

The whole operator takes part (memory, observation, plan, executor, loop), on an API server and a Job controller in
memory and in virtual time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import Phase as Doing
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api import indexes
from shardwise_api.runs import KINDS
from shardwise_api.status import Phase, RunStatus
from shardwise_api.wire import ItemCounts, PrepareResult, ProgressReport, RunResult, ShardResult, Step
from shardwise_operator.core.plan import plan
from shardwise_operator.observe.run import observe
from shardwise_operator.observe.snapshots import JobSnapshot, PodSnapshot, job_snapshot
from tests.support.bodies import run_owner
from tests.support.examples import examples
from tests.support.fake_api import RUN_KINDS
from tests.support.plans import T0, new_run
from tests.support.troubled_world import TroubledWorld, nothing_unexpected
from tests.support.virtual_time import in_virtual_time

NEVER_RETRIED = -1
"""The fate of a shard that leaves with an exit code that is never retried; another number is how often it fails."""
ITEMS = 10
"""Of each shard."""
DIGEST = "sha256:the-one"
MAX_STATUS_BYTES = 100 * 1024


@dataclass(kw_only=True)
class Scenario:
    """What is decided from the start; the history around it must not matter."""

    fates: list[int]
    per_shard: int
    max_failed: int
    input_is_fine: bool

    def failing(self) -> set[int]:
        return {shard for shard, fate in enumerate(self.fates) if fate > self.per_shard}

    def end(self) -> Phase:
        fine = self.input_is_fine and NEVER_RETRIED not in self.fates and len(self.failing()) <= self.max_failed
        return Phase.COMPLETE if fine else Phase.FAILED


class History(TroubledWorld):
    """A world in which everything goes wrong that may, until it is calm."""

    def __init__(self, scenario: Scenario, dice: Random) -> None:
        super().__init__(dice)
        self.scenario = scenario
        self._attempts: Counter[int] = Counter()
        self._fallen: set[str] = set()

    async def run(self, steps: int) -> RunStatus:
        shards = len(self.scenario.fates)
        self.world.apply(
            f"sharding={{shards: {shards}, parallelism: {self.dice.randint(1, shards)}}}",
            f"retry={{perShard: {self.scenario.per_shard}, maxFailedShards: {self.scenario.max_failed}}}",
        )
        await self.trouble(steps)
        return await self.calm()

    # What happens to everybody.

    def _person(self) -> None:
        if self.dice.random() < 0.05:
            suspend = bool(self.dice.getrandbits(1))
            self.world.api.change("TrainingRun", "words", spec={"suspend": suspend})
        if self.dice.random() < 0.05:
            parallelism = self.dice.randint(1, len(self.scenario.fates))
            self.world.api.change("TrainingRun", "words", spec={"sharding": {"parallelism": parallelism}})

    def _cluster(self) -> None:
        jobs = self.world.jobs
        jobs.sync()
        for pod in jobs.pods():
            luck = self.dice.random()
            if pod["status"]["phase"] == "Pending":
                if luck < 0.7:
                    jobs.start(pod)
            elif self.troubled and luck < 0.05:
                jobs.lose(pod)
            elif self.troubled and luck < 0.1:
                jobs.end(pod, code=75, message='{"reason": "PeersLost", "message": "again, please"}')
            elif luck < 0.5:
                self._end(pod)
            elif self.dice.random() < 0.5:
                self._report(pod)
        jobs.sync()
        for pod in jobs.pods(live=False):
            if pod["status"]["phase"] in ("Succeeded", "Failed") and self.troubled and self.dice.random() < 0.1:
                jobs.sweep(pod)
        for job in self.world.api.of("Job"):
            name = job["metadata"]["name"]
            shown = job["status"].get("conditions", [{}])[0] if "status" in job else {}
            kept = "annotations" in job["metadata"]
            there = any(pod["status"]["phase"] == "Succeeded" for pod in jobs.pods(name, live=False))
            if shown.get("type") == "Complete" and not kept and not there:
                self._fallen.add(job["metadata"]["uid"])

    def _end(self, pod: dict[str, Any]) -> None:
        step, end = pod["metadata"]["labels"]["shardwise.dev/step"], self.world.jobs.end
        shard = int(pod["metadata"]["name"].split("-")[-2])
        if step == Step.PREPARE:
            if not self.scenario.input_is_fine:
                end(pod, code=2, message='{"reason": "InvalidInput", "message": "no"}')
                return
            total = ITEMS * len(self.scenario.fates)
            end(pod, message=PrepareResult(items_total=total, input_fingerprint="x").model_dump_json(by_alias=True))
        elif step == Step.FINALIZE:
            done = ITEMS * (len(self.scenario.fates) - len(self.scenario.failing()))
            end(pod, message=RunResult(digest=DIGEST, items=ItemCounts(done=done)).model_dump_json(by_alias=True))
        elif self.scenario.fates[shard] == NEVER_RETRIED:
            end(pod, code=2, message='{"reason": "BadConfiguration", "message": "no"}')
        elif self._attempts[shard] < self.scenario.fates[shard]:
            self._attempts[shard] += 1
            end(pod, code=1, message=f"attempt {self._attempts[shard]}")
        else:
            result = ShardResult(shard=shard, items=ItemCounts(done=ITEMS))
            end(pod, message=result.model_dump_json(by_alias=True))

    def _report(self, pod: dict[str, Any]) -> None:
        labels = pod["metadata"]["labels"]
        if labels["shardwise.dev/step"] == Step.WORK:
            self.world.operator.cache.accept(
                ProgressReport(
                    run=labels["shardwise.dev/run-uid"], shard=int(pod["metadata"]["name"].split("-")[-2]),
                    attempt_started=self.world.api._time(), time=self.world.api._time(),
                    items=ItemCounts(done=self.dice.randint(0, ITEMS)),
                )
            )  # fmt: skip

    def check(self, was: RunStatus, is_: RunStatus) -> None:
        assert {failure.exit_code for failure in is_.failures} <= {1, 2}
        assert is_.finished or is_.items.done >= was.items.done

    def check_end(self) -> None:
        self.check_nothing_was_wrong()
        scenario, api = self.scenario, self.world.api
        status = self.world.status()
        assert status.phase is scenario.end()
        assert self.world.jobs.pods() == []
        made = Counter(call.name for call in api.written(verb="apply", kind="Job"))
        deleted = Counter(call.name for call in api.written(verb="delete", kind="Job"))
        assert all(name in ("words-prepare", "words", "words-finalize") for name in made)
        assert "words" not in deleted
        jobs = Counter(body["metadata"]["name"] for type_, kind, body in api.log if (type_, kind) == ("ADDED", "Job"))
        fallen = [body for type_, kind, body in api.log if (type_, kind) == ("DELETED", "Job")]
        assert {body["metadata"]["uid"] for body in fallen} <= self._fallen
        repeated = Counter(body["metadata"]["name"] for body in fallen)
        if status.phase is Phase.COMPLETE:
            assert jobs == Counter({"words-prepare": 1, "words": 1, "words-finalize": 1}) + repeated
            assert status.result is not None
            assert status.result.digest == DIGEST
            assert indexes.from_text(status.shards.failed_indexes) == scenario.failing()
            assert indexes.from_text(status.shards.completed_indexes) == (
                set(range(len(scenario.fates))) - scenario.failing()
            )
            assert status.items.done == ITEMS * (len(scenario.fates) - len(scenario.failing()))
        elif not scenario.input_is_fine:
            assert jobs == Counter({"words-prepare": 1})


# A history is not made shorter than it was found: that takes minutes, and the seed tells it all.
@examples(25, phases=[Doing.explicit, Doing.generate])
@given(
    scenario=st.builds(
        Scenario,
        fates=st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, NEVER_RETRIED]), min_size=1, max_size=5),
        per_shard=st.integers(0, 2),
        max_failed=st.integers(0, 2),
        input_is_fine=st.sampled_from([True, True, True, False]),
    ),
    seed=st.integers(0, 2**32),
    steps=st.integers(0, 60),
)
def test_every_history_of_an_operator_comes_to_the_same_end(scenario: Scenario, seed: int, steps: int) -> None:
    async def story() -> None:
        history = History(scenario, Random(seed))
        await history.run(steps)
        await history.world.operator.manager.stop()
        history.check_end()

    with nothing_unexpected():
        in_virtual_time(story())


class TestTenThousandShards:
    SHARDS = 10_000

    def test_have_a_status_that_an_api_server_takes(self) -> None:
        run = new_run(f"sharding={{shards: {self.SHARDS}, parallelism: 100}}", f"retry.maxFailedShards={self.SHARDS}")
        prepared = PrepareResult(items_total=10**9, input_fingerprint="sha256:1").model_dump_json(by_alias=True)
        jobs = [self._job(Step.PREPARE, condition="Complete", kept_message=prepared), self._work(), self._job(
            Step.FINALIZE, condition="Complete",
            kept_message=RunResult(digest="sha256:2", summary={"text": "x" * 3900}).model_dump_json(by_alias=True),
        )]  # fmt: skip
        observed = observe(
            now=T0, run_uid="1234", jobs=jobs, pods=[self._failed_pod(shard) for shard in range(1, self.SHARDS, 2)],
            reports={shard: self._report(shard) for shard in range(self.SHARDS)},
        )  # fmt: skip
        status = plan(run, observed).status
        assert status.phase is Phase.COMPLETE
        assert (status.shards.succeeded, status.shards.failed) == (self.SHARDS // 2, self.SHARDS // 2)
        assert len(status.failures) == 10
        document = status.model_dump_json(by_alias=True, exclude_none=True)
        assert len(document.encode()) <= MAX_STATUS_BYTES
        assert RunStatus.model_validate_json(document) == status

    def _work(self) -> JobSnapshot:
        condition = {"type": "Failed", "status": "True", "reason": "FailedIndexes", "message": "Job has failed indexes"}
        seen = job_snapshot(
            {
                "metadata": {"uid": "j", "name": "words", "resourceVersion": "1",
                             "namespace": "team", "labels": {"shardwise.dev/step": "work"},
                             "ownerReferences": [run_owner()]},
                "spec": {"completions": self.SHARDS, "parallelism": 100},
                "status": {"completedIndexes": indexes.to_text(range(0, self.SHARDS, 2)),
                           "failedIndexes": indexes.to_text(range(1, self.SHARDS, 2)), "conditions": [condition]},
            }
        )  # fmt: skip
        assert seen is not None
        return seen

    def _job(self, step: Step, **fields: Any) -> JobSnapshot:
        return JobSnapshot(
            run=("team", "1234"),
            uid=step, name=f"words-{step}", step=step, version="1", deleting=False, suspended=False, completions=1,
            parallelism=1, **fields,
        )  # fmt: skip

    def _failed_pod(self, shard: int) -> PodSnapshot:
        return PodSnapshot(
            run=("team", "1234"),
            uid=f"p{shard}", name=f"words-{shard}-x", step=Step.WORK, shard=shard, job_uid="j", version="1",
            deleting=False, phase="Failed", running=False, started=T0, ended=T0, exit_code=1, message="x" * 4096,
        )  # fmt: skip

    def _report(self, shard: int) -> ProgressReport:
        return ProgressReport(
            run="1234", shard=shard, attempt_started=T0, time=T0, items=ItemCounts(done=10**5), total=10**5
        )


def test_the_kinds_that_are_watched_are_those_there_are() -> None:
    assert set(RUN_KINDS.values()) == set(KINDS)
