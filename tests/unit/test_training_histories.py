"""Whatever is lost on the way, and however often their number changes: ranks come together, and a sweep finds its seed.

The whole operator takes part, as in test_operator_histories; ranks read the number that they are from what the operator
wrote, now and then from an old copy, and train only when as many have come and all have read the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import Phase as Doing
from hypothesis import example, given
from hypothesis import strategies as st

from shardwise_api import indexes
from shardwise_api.status import Phase, RunStatus
from shardwise_api.wire import (
    Checkpoint,
    ItemCounts,
    Metric,
    PrepareResult,
    ProgressReport,
    RunResult,
    ShardResult,
    Step,
    StepFailure,
)
from shardwise_operator.observe.snapshots import INDEX_ANNOTATION
from tests.support import manifests
from tests.support.examples import examples
from tests.support.troubled_world import TroubledWorld, nothing_unexpected
from tests.support.virtual_time import in_virtual_time

STEPS = 20
MOST_RANKS = 4
"""As many as a batch of the manifest has samples."""
DIGEST = "sha256:the-one"
Body = dict[str, Any]


def message(left: PrepareResult | RunResult | ShardResult | StepFailure) -> str:
    return left.model_dump_json(by_alias=True)


def index_of(pod: Body) -> int:
    return int(pod["metadata"]["labels"][INDEX_ANNOTATION])


class _Training(TroubledWorld):
    """What ranks and seeds have in common: their single steps, and how pods are lost."""

    def _single(self, pod: Body, *, result: RunResult | StepFailure) -> None:
        """Let the pod of prepare or finalize come to its end."""
        jobs, step = self.world.jobs, pod["metadata"]["labels"]["shardwise.dev/step"]
        if pod["status"]["phase"] == "Pending":
            jobs.start(pod)
        elif step == Step.PREPARE:
            jobs.end(pod, message=message(PrepareResult(items_total=STEPS, input_fingerprint="x", peer_token="secret")))
        else:
            jobs.end(pod, code=2 if isinstance(result, StepFailure) else 0, message=message(result))

    def _report(self, pod: Body, *, missing_ranks: str = "", step: int = 0, checkpoint: int = 0) -> None:
        now = self.world.api._time()
        self.world.operator.cache.accept(
            ProgressReport(
                run=pod["metadata"]["labels"]["shardwise.dev/run-uid"], shard=index_of(pod), attempt_started=now,
                time=now, missing_ranks=missing_ranks, items=ItemCounts(done=step),
                metrics=[] if missing_ranks else [Metric(name="step", value=step)],
                checkpoint=Checkpoint(uri="s3://b/c", step=checkpoint) if checkpoint else None,
            )
        )  # fmt: skip

    def _pods(self, job: str) -> list[Body]:
        return sorted(self.world.jobs.pods(job), key=index_of)


class Ranks(_Training):
    """A training: steps since the last checkpoint are lost when any rank is."""

    def __init__(self, dice: Random) -> None:
        super().__init__(dice)
        self.step = self.checkpoint = 0
        self._read: dict[str, int] = {}
        """The number that each pod has read, by uid."""
        self._together: frozenset[str] = frozenset()
        """The pods that train."""

    async def run(self, *, ranks: int, steps: int) -> RunStatus:
        self.world.apply(f"sharding.shards={ranks}", text=manifests.DIFFLOGIC)
        await self.trouble(steps)
        return await self.calm()

    def _person(self) -> None:
        if self.dice.random() < 0.05:
            self.world.api.change("TrainingRun", "words", spec={"suspend": bool(self.dice.getrandbits(1))})
        if self.dice.random() < 0.15:
            number = self.dice.randint(1, MOST_RANKS)
            self.world.api.change("TrainingRun", "words", spec={"sharding": {"shards": number}})

    def _cluster(self) -> None:
        jobs = self.world.jobs
        jobs.sync()
        for pod in [*jobs.pods("words-prepare"), *jobs.pods("words-finalize")]:
            self._single(pod, result=RunResult(digest=DIGEST, items=ItemCounts(done=STEPS)))
        for pod in self._pods("words"):
            if pod["status"]["phase"] == "Pending" and self.dice.random() < 0.7:
                jobs.start(pod)
                self._read[pod["metadata"]["uid"]] = self._number()
            elif self.troubled and pod["status"]["phase"] == "Running" and self.dice.random() < 0.03:
                jobs.lose(pod)
        self._train({index_of(pod): pod for pod in self._pods("words") if pod["status"]["phase"] == "Running"})
        jobs.sync()

    def _number(self) -> int:
        """What a pod reads that starts: a kubelet's copy may be old."""
        numbers = [number for kind, number in self._numbers() if kind == "ConfigMap"]
        return self.dice.choice(numbers[-2:]) if self.troubled else numbers[-1]

    def _numbers(self) -> list[tuple[str, int]]:
        """The numbers that the run's document and its Job were given, in order."""
        found = []
        for type_, kind, body in self.world.api.log:
            if body["metadata"]["name"] != "words" or type_ == "DELETED":
                continue
            if kind == "ConfigMap":
                found.append((kind, int(json.loads(body["data"]["run.json"])["spec"]["sharding"]["shards"])))
            elif kind == "Job" and body["spec"]["completions"] != next((n for k, n in reversed(found) if k == kind), 0):
                found.append((kind, int(body["spec"]["completions"])))
        return found

    def _train(self, running: Mapping[int, Body]) -> None:
        uids = frozenset(pod["metadata"]["uid"] for pod in running.values())
        if self.step == STEPS:
            for index, pod in running.items():
                done = ItemCounts(done=0 if index else STEPS)
                self.world.jobs.end(pod, message=message(ShardResult(shard=index, items=done)))
            return
        if astray := [pod for index, pod in running.items() if index >= self._read[pod["metadata"]["uid"]]]:
            # In its document it is no rank at all: it looks again.
            self._leave(astray)
            return
        if self._together and self._together != uids:
            # Somebody was lost, or has come anew: all leave, and know the last checkpoint only.
            orderly = self._together < uids
            self.checkpoint = self.step = self.step if orderly else self.checkpoint
            self._leave(pod for pod in running.values() if pod["metadata"]["uid"] in self._together)
            self._together = frozenset()
            return
        if 0 not in running:
            return
        wanted = self._read[running[0]["metadata"]["uid"]]
        waiting = not set(range(wanted)) <= set(running)
        # Who waits looks again: a rank that is no more can't tell it.
        if any(self._read[uid] != wanted for uid in uids) or (waiting and self._number() != wanted):
            self._leave(running.values())
        elif missing := set(range(wanted)) - set(running):
            self._report(running[0], missing_ranks=indexes.to_text(missing), step=self.step)
        elif set(running) == set(range(wanted)):
            self._together = uids
            self.step = min(STEPS, self.step + self.dice.randint(0, 3))
            if self.step == STEPS or self.dice.random() < 0.3:
                self.checkpoint = self.step
            if self.dice.random() < 0.8:
                self._report(running[0], step=self.step, checkpoint=self.checkpoint)

    def _leave(self, pods: Any) -> None:
        for pod in list(pods):
            self.world.jobs.end(pod, code=75, message=message(StepFailure(reason="Temporary", message="again")))

    def check(self, was: RunStatus, is_: RunStatus) -> None:
        assert is_.failures == []
        assert is_.items.done <= STEPS
        ended = indexes.from_text(is_.shards.completed_indexes)
        assert all(index < is_.shards.total for index in ended)
        assert is_.shards.total <= MOST_RANKS

    def check_end(self) -> None:
        self.check_nothing_was_wrong()
        status = self.world.status()
        assert status.phase is Phase.COMPLETE, f"{status.phase}: {status.conditions}"
        assert status.result is not None
        assert status.result.digest == DIGEST
        assert status.items.done == STEPS
        assert self.world.jobs.pods() == []
        assert status.shards.succeeded == status.shards.total
        numbers = self._numbers()
        for before, (kind, number) in pairwise(numbers):
            # A Job gets a number only when those that start read the same.
            assert kind != "Job" or number == before[1], numbers


class Seeds(_Training):
    """A sweep: some seeds are solved, some never, and some fail a few times before."""

    def __init__(self, dice: Random, *, fates: list[str]) -> None:
        super().__init__(dice)
        self.fates = fates
        self._attempts = [0] * len(fates)
        self.solved: set[int] = set()

    async def run(self, *, stop_on_first: bool, steps: int) -> RunStatus:
        seeds = list(range(100, 100 + len(self.fates)))
        self.world.apply(
            f"sharding={{shards: {len(seeds)}, parallelism: {self.dice.randint(1, len(seeds))}}}",
            f"engine.difflogic.sweep={{seeds: {seeds}, stopOnFirst: {str(stop_on_first).lower()}}}",
            "retry.perShard=1",
            text=manifests.DIFFLOGIC,
        )
        await self.trouble(steps)
        return await self.calm()

    def _person(self) -> None:
        if self.dice.random() < 0.05:
            self.world.api.change("TrainingRun", "words", spec={"suspend": bool(self.dice.getrandbits(1))})

    def _cluster(self) -> None:
        jobs = self.world.jobs
        jobs.sync()
        none = StepFailure(reason="NoSeedConverged", message="none")
        for pod in [*jobs.pods("words-prepare"), *jobs.pods("words-finalize")]:
            self._single(pod, result=RunResult(digest=DIGEST) if self.solved else none)
        for pod in self._pods("words"):
            luck = self.dice.random()
            if pod["status"]["phase"] == "Pending":
                jobs.start(pod)
            elif self.troubled and luck < 0.05:
                jobs.lose(pod)
            elif luck < 0.5:
                self._end(pod, index_of(pod))
            else:
                self._report(pod, step=self.dice.randint(0, STEPS))
        jobs.sync()

    def _end(self, pod: Body, index: int) -> None:
        self._attempts[index] += 1
        fate = self.fates[index]
        if fate == "never":
            told = StepFailure(reason="NotConverged", message=f"seed {100 + index}")
            self.world.jobs.end(pod, code=3, message=message(told))
        elif fate == "fails" or (fate == "late" and self._attempts[index] == 1):
            self.world.jobs.end(pod, code=1)
        else:
            self.solved.add(index)
            self.world.jobs.end(pod, message=message(ShardResult(shard=index)))

    def check(self, was: RunStatus, is_: RunStatus) -> None:
        assert {failure.exit_code for failure in is_.failures} <= {1, 2, 3}
        assert is_.shards.succeeded + is_.shards.failed <= len(self.fates)

    def check_end(self, *, stop_on_first: bool) -> None:
        self.check_nothing_was_wrong()
        status = self.world.status()
        hope = {index for index, fate in enumerate(self.fates) if fate in ("solved", "late")}
        assert status.phase is (Phase.COMPLETE if hope else Phase.FAILED), status.conditions
        assert self.world.jobs.pods() == []
        if not hope:
            (failed,) = [condition for condition in status.conditions if condition.type == "Failed"]
            # The Job's word, when the worker's could not be read at that moment.
            assert failed.reason in ("NoSeedConverged", "PodFailurePolicy")
        if not hope or not stop_on_first:
            assert indexes.from_text(status.shards.completed_indexes) == hope
            assert indexes.from_text(status.shards.failed_indexes) == set(range(len(self.fates))) - hope


# A history is not made shorter than it was found: that takes minutes, and the seed tells it all.
@examples(25, phases=[Doing.explicit, Doing.generate])
@given(ranks=st.integers(1, MOST_RANKS), seed=st.integers(0, 2**32), steps=st.integers(0, 60))
# The number of ranks grows just as the last one ends.
@example(ranks=2, seed=297317, steps=50)
def test_ranks_come_to_their_end_however_often_they_are_lost_or_changed(ranks: int, seed: int, steps: int) -> None:
    async def story() -> None:
        history = Ranks(Random(seed))
        await history.run(ranks=ranks, steps=steps)
        await history.world.operator.manager.stop()
        history.check_end()

    with nothing_unexpected():
        in_virtual_time(story())


@examples(20, phases=[Doing.explicit, Doing.generate])
@given(
    fates=st.lists(st.sampled_from(["solved", "late", "never", "never", "fails"]), min_size=1, max_size=5),
    stop_on_first=st.booleans(),
    seed=st.integers(0, 2**32),
    steps=st.integers(0, 40),
)
def test_a_sweep_ends_with_a_seed_that_is_solved_or_with_none(
    fates: list[str], stop_on_first: bool, seed: int, steps: int
) -> None:
    async def story() -> None:
        history = Seeds(Random(seed), fates=fates)
        await history.run(stop_on_first=stop_on_first, steps=steps)
        await history.world.operator.manager.stop()
        history.check_end(stop_on_first=stop_on_first)

    with nothing_unexpected():
        in_virtual_time(story())
