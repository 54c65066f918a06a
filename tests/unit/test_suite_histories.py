"""Whatever watches lose, calls break or pods die on the way: every script comes to its end, and the suite is judged.

The whole operator takes part, as in test_operator_histories. Workers leave records on a volume; one that is killed
leaves none, and the last step must learn from the operator how it ended.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import Phase as Doing
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api import indexes
from shardwise_api.status import ConditionType, Phase, RunStatus
from shardwise_api.wire import (
    ItemCounts,
    PrepareResult,
    RunDocument,
    RunResult,
    ShardResult,
    Step,
    StepFailure,
    SuiteCounts,
    SuiteResult,
)
from shardwise_operator.observe.snapshots import shard_of
from tests.support import manifests
from tests.support.examples import examples
from tests.support.troubled_world import TroubledWorld, nothing_unexpected
from tests.support.virtual_time import in_virtual_time

DIGEST = "sha256:the-one"
KILLED = -1
"""The fate of a script whose worker is killed each time, before it can say a word; another number is how often it
fails."""
CODES = (1, 2, 3, 74, 255)
"""With which scripts fail: none of them may end more than its own script."""
Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is decided from the start; the history around it must not matter."""

    fates: list[int]
    retries: int
    workers: int
    shapes: list[int]
    """Of each script: 0 for a pod as the worker's, else the entry of podOverrides, counted from 1."""

    def shape_of(self, index: int) -> int:
        return self.shapes[index % len(self.shapes)]

    def shaped(self, number: int) -> list[int]:
        return [index for index in range(len(self.fates)) if self.shape_of(index) == number]

    def failing(self) -> set[int]:
        return {index for index, fate in enumerate(self.fates) if fate == KILLED or fate > self.retries}

    def killed(self) -> set[int]:
        return {index for index, fate in enumerate(self.fates) if fate == KILLED}


class Suite(TroubledWorld):
    """A suite, and the volume that its workers write to."""

    def __init__(self, scenario: Scenario, dice: Random) -> None:
        super().__init__(dice)
        self.scenario = scenario
        self.records: dict[int, str] = {}
        self.spoken_for: set[int] = set()
        """Of whom the last step heard from the operator."""
        self._failures: Counter[int] = Counter()
        self._at_once = 0

    async def run(self, steps: int) -> RunStatus:
        overrides = [
            {"ids": [f"script-{index}" for index in self.scenario.shaped(number)] or ["of-another-selection"],
             "resources": {"limits": {"memory": f"{number}Gi"}}}
            for number in range(1, max(self.scenario.shapes) + 1)
        ]  # fmt: skip
        self.world.apply(
            'output={uri: "file:///data/out"}',
            f"engine.scripts.retries={self.scenario.retries}",
            f"engine.scripts.maxWorkers={self.scenario.workers}",
            f"engine.scripts.podOverrides={json.dumps(overrides)}",
            text=manifests.SCRIPTS,
        )
        await self.trouble(steps)
        return await self.calm()

    def _person(self) -> None:
        if self.dice.random() < 0.05:
            self.world.api.change("TrainingRun", "words", spec={"suspend": bool(self.dice.getrandbits(1))})

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
                jobs.end(pod, code=143, message=StepFailure(reason="Interrupted", message="x").model_dump_json())
            elif luck < 0.6:
                self._end(pod)
        jobs.sync()
        self._at_once = max(self._at_once, sum(_step(pod) is Step.WORK for pod in jobs.pods()))

    def _end(self, pod: Body) -> None:
        step, index, end = _step(pod), shard_of(pod["metadata"]), self.world.jobs.end
        assert index is not None
        if step is Step.PREPARE:
            ids = [f"script-{number}" for number in range(len(self.scenario.fates))]
            parts = [
                indexes.to_text(self.scenario.shaped(number)) for number in range(1, max(self.scenario.shapes) + 1)
            ]
            prepared = PrepareResult(items_total=len(ids), input_fingerprint="x", details={"ids": ids}, parts=parts)
            end(pod, message=prepared.model_dump_json(by_alias=True))
        elif step is Step.FINALIZE:
            end(pod, message=self._judged().model_dump_json(by_alias=True))
        elif self.scenario.fates[index] == KILLED:
            end(pod, code=137, reason="OOMKilled")
        elif self._failures[index] < self.scenario.fates[index]:
            self._failures[index] += 1
            self.records[index] = "FAILED"
            told = StepFailure(reason="ScriptFailed", message=f"script-{index}")
            end(pod, code=CODES[index % len(CODES)], message=told.model_dump_json())
        else:
            self.records[index] = "SUCCESS"
            done = ShardResult(shard=index, items=ItemCounts(done=1))
            end(pod, message=done.model_dump_json(by_alias=True))

    def _judged(self) -> RunResult:
        """What the last step does: the records, and for those that left none the operator's word."""
        (body,) = [b for b in self.world.api.of("ConfigMap") if b["metadata"]["name"] == "words-finalize"]
        worked = RunDocument.model_validate(json.loads(body["data"]["run.json"])).worked
        assert worked is not None
        ends = {end.shard: end for end in worked.ends}
        assert set(ends) <= self.scenario.failing()
        assert indexes.from_text(worked.failed_shards) == self.scenario.failing()
        self.spoken_for = {index for index in self.scenario.killed() if index in ends}
        assert all((ends[i].exit_code, ends[i].reason) == (137, "OOMKilled") for i in self.spoken_for)
        counts = Counter(self.records.values())
        failed = len(self.scenario.fates) - counts["SUCCESS"]
        told = SuiteResult(
            exit_status=1 if failed else 0,
            message=f"{failed} failed" if failed else "",
            counts=SuiteCounts(total=len(self.scenario.fates), success=counts["SUCCESS"], failed=failed),
        )
        return RunResult(digest=DIGEST, items=ItemCounts(done=counts["SUCCESS"], failed=failed), suite=told)

    def check(self, was: RunStatus, is_: RunStatus) -> None:
        assert {failure.exit_code for failure in is_.failures} <= {137, *CODES}
        assert is_.shards.succeeded + is_.shards.failed <= is_.shards.total or is_.shards.total == 0
        if is_.suite is not None and not is_.finished:
            suspended = is_.is_true(ConditionType.SUSPENDED)
            assert is_.suite.exit_status == (130 if suspended else None)

    def check_end(self) -> None:
        self.check_nothing_was_wrong()
        scenario, status = self.scenario, self.world.status()
        failing = scenario.failing()
        assert status.phase is (Phase.FAILED if failing else Phase.COMPLETE), status.conditions
        if failing:
            failed = status.condition(ConditionType.FAILED)
            assert failed is not None
            assert failed.reason == "MandatoryJobFailed"
        assert status.result is not None
        assert status.result.digest == DIGEST
        assert status.suite is not None
        assert status.suite.exit_status == (1 if failing else 0)
        assert status.suite.counts.failed == len(failing)
        assert indexes.from_text(status.shards.failed_indexes) == failing
        assert indexes.from_text(status.shards.completed_indexes) == set(range(len(scenario.fates))) - failing
        assert self.spoken_for == scenario.killed()
        assert self.world.jobs.pods() == []
        assert self._at_once <= scenario.workers, "more at once than maxWorkers"


def _step(pod: Body) -> Step:
    return Step(pod["metadata"]["labels"]["shardwise.dev/step"])


# A history is not made shorter than it was found: that takes minutes, and the seed tells it all.
@examples(25, phases=[Doing.explicit, Doing.generate])
@given(
    scenario=st.builds(
        Scenario,
        fates=st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, KILLED]), min_size=1, max_size=6),
        retries=st.integers(0, 2),
        workers=st.integers(1, 8),
        shapes=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=1, max_size=6),
    ),
    seed=st.integers(0, 2**32),
    steps=st.integers(0, 60),
)
def test_every_history_of_a_suite_comes_to_the_same_verdict(scenario: Scenario, seed: int, steps: int) -> None:
    async def story() -> None:
        history = Suite(scenario, Random(seed))
        await history.run(steps)
        await history.world.operator.manager.stop()
        history.check_end()

    with nothing_unexpected():
        in_virtual_time(story())
