"""Any number of ranks, any chunks and any interruptions come to the same bits, and no rank waits for a lost one."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.engine.errors import BadConfiguration, BadInput, Interrupted, Temporary, WorkError
from shardwise.engine.files import OutputFolder
from shardwise_jobs.engines.difflogic.experiments import data
from shardwise_jobs.engines.difflogic.model import rng
from shardwise_jobs.engines.difflogic.model.gates import logit_gradient, new_logits
from shardwise_jobs.engines.difflogic.model.optimizer import State, advance
from shardwise_jobs.engines.difflogic.model.sample import Parameters, sample_gradients
from shardwise_jobs.engines.difflogic.training.checkpoint import FILE, Checkpoint
from shardwise_jobs.engines.difflogic.training.loop import StepMetrics, Training
from shardwise_jobs.mpi.communicator import Communicator, SingleProcess
from tests.support.communicators import Outcome, ThreadCommunicator, together
from tests.support.examples import examples
from tests.support.small_trainings import CHECKERBOARD, CROSS, LIFE, after, marks, trained, training

STEPS = 10
KINDS = pytest.mark.parametrize("kind", ["life", "checkerboard"])
OF = {"life": LIFE, "checkerboard": CHECKERBOARD}


def by_ranks(ranks: int, of: Training, *, folder: Path) -> Checkpoint:
    outcomes = together(ranks, lambda world: trained(of, folder=folder, world=world))
    values = [outcome.value for outcome in outcomes]
    assert len({marks(value) for value in values}) == 1
    return values[0]


@functools.cache
def expected(kind: str, *, steps: int = STEPS) -> tuple[str, bytes, bytes, object]:
    """Return the marks of an undisturbed training by one rank, one sample after another."""
    with tempfile.TemporaryDirectory() as folder:
        return marks(trained(training(OF[kind], steps=steps), folder=Path(folder), world=SingleProcess()))


@KINDS
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_any_number_of_ranks_gives_the_same_bits(kind: str, ranks: int, tmp_path: Path) -> None:
    assert marks(by_ranks(ranks, training(OF[kind], steps=STEPS), folder=tmp_path)) == expected(kind)


@KINDS
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("chunk", [1, 2, 4, 8])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_chunks_and_samples_in_flight_change_no_bit(
    kind: str, ranks: int, chunk: int, in_flight: int, tmp_path: Path
) -> None:
    of = dataclasses.replace(training(OF[kind], steps=STEPS, accumulateChunk=chunk), in_flight=in_flight)
    assert marks(by_ranks(ranks, of, folder=tmp_path)) == expected(kind)


def test_more_samples_in_flight_than_there_are_change_no_bit(tmp_path: Path) -> None:
    of = dataclasses.replace(training(LIFE, steps=STEPS), in_flight=64)
    assert marks(trained(of, folder=tmp_path, world=SingleProcess())) == expected("life")


@examples(25)
@given(
    kind=st.sampled_from(sorted(OF)),
    interruptions=st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4, 8]), st.integers(1, STEPS), st.integers(0, 7), st.booleans()),
        max_size=4,
    ),
    last=st.sampled_from([1, 2, 3, 4, 8]),
)
def test_interruptions_and_other_numbers_of_ranks_change_no_bit(
    kind: str, interruptions: list[tuple[int, int, int, bool]], last: int
) -> None:
    of = training(OF[kind], steps=STEPS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for ranks, step, which, killed in interruptions:
            _interrupted(of, folder=folder, ranks=ranks, step=step, which=which % ranks, killed=killed)
        assert marks(by_ranks(last, of, folder=folder)) == expected(kind)


def _interrupted(of: Training, *, folder: Path, ranks: int, step: int, which: int, killed: bool) -> None:
    """Train until one of the ranks is asked to stop in its nth step, or is gone after it."""

    def work(world: Communicator) -> Checkpoint:
        if world.rank != which:
            return trained(of, folder=folder, world=world)
        if killed:
            return trained(of, folder=folder, world=world, observe=_Killed(step))
        return trained(of, folder=folder, world=world, stop=after(step))

    outcomes = together(ranks, work)
    errors = [outcome.error for outcome in outcomes]
    if any(errors):
        assert isinstance(errors[which], KilledError if killed else Interrupted)
        # Who is killed after the last step is missed by nobody.
        others = [outcome for rank, outcome in enumerate(outcomes) if rank != which]
        assert all(isinstance(other.error, Temporary) or other.value.state.step == STEPS for other in others)


class KilledError(Exception):
    """Stands for a lost process: nothing is written, nobody is told."""


class _Killed:
    """Raises after the nth step of an attempt."""

    def __init__(self, step: int) -> None:
        self._left = step

    def __call__(self, _moment: StepMetrics) -> None:
        self._left -= 1
        if not self._left:
            raise KilledError


def test_twice_as_many_steps_are_half_of_them_and_a_restart_by_others(tmp_path: Path) -> None:
    half = by_ranks(2, training(LIFE, steps=STEPS // 2), folder=tmp_path)
    assert half.state.step == STEPS // 2
    digest, moments, losses, verdict = marks(by_ranks(3, training(LIFE, steps=STEPS), folder=tmp_path))
    assert (digest, moments, losses, verdict) == expected("life")


def test_a_stop_is_agreed_on_and_the_checkpoint_holds_that_step(tmp_path: Path) -> None:
    of = training(LIFE, steps=STEPS)
    outcomes = together(
        3, lambda world: trained(of, folder=tmp_path, world=world, stop=after(7) if world.rank == 1 else lambda: False)
    )
    assert isinstance(outcomes[1].error, Interrupted)
    assert [type(outcomes[rank].error) for rank in (0, 2)] == [Temporary, Temporary]
    assert "step 7" in str(outcomes[0].error)
    found = of.read(OutputFolder(str(tmp_path)))
    assert found is not None
    assert found.state.step == 7


def test_a_complete_training_is_left_as_it_is(tmp_path: Path) -> None:
    of = training(LIFE, steps=STEPS)
    by_ranks(1, of, folder=tmp_path)
    before = (tmp_path / FILE).stat()
    again = trained(of, folder=tmp_path, world=SingleProcess(), observe=_Killed(1))
    assert marks(again) == expected("life")
    now = (tmp_path / FILE).stat()
    assert (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_training_that_stops_when_solved_ends_at_the_first_trial_without_error(seed: int, tmp_path: Path) -> None:
    wrong: list[int | None] = []
    of = training(CROSS, steps=400, seed=seed, stopWhenSolved=True)
    last = trained(
        of,
        folder=tmp_path,
        world=SingleProcess(),
        observe=lambda moment: wrong.append(moment.verdict.wrong if moment.verdict else None),
    )
    assert last.state.step == len(wrong) < 400
    assert wrong[-1] == 0
    assert 0 not in wrong[:-1]
    assert trained(of, folder=tmp_path, world=SingleProcess(), observe=_Killed(1)).state.step == last.state.step


def test_another_way_to_judge_changes_no_bit(tmp_path: Path) -> None:
    of = training(LIFE, steps=STEPS, evaluateEverySteps=7, checkpointEverySteps=3)
    digest, moments, losses, _ = marks(trained(of, folder=tmp_path, world=SingleProcess()))
    assert (digest, moments, losses) == expected("life")[:3]


class TestPlainSums:
    """What is computed is what adding floating-point numbers sample by sample computes, as far as that is exact."""

    @KINDS
    @pytest.mark.parametrize("reduction", ["Exact", "Fast"])
    @pytest.mark.parametrize("ranks", [1, 3])
    def test_losses_and_logits_are_those_of_a_plain_loop(
        self, kind: str, reduction: str, ranks: int, tmp_path: Path
    ) -> None:
        of = training(OF[kind], steps=STEPS, reduction=reduction)
        last = by_ranks(ranks, of, folder=tmp_path)
        state, losses = self._plain(of)
        assert np.abs(last.history[:, 1:3] - losses).max() < 1e-10
        assert np.abs(last.state.logits - state.logits).max() < 1e-8

    def _plain(self, of: Training) -> tuple[State, npt.NDArray[np.float64]]:
        state, losses = State.fresh(new_logits(of.automaton.gates)), []
        for step in range(of.experiment.steps):
            parameters = Parameters(state.logits)
            sums, soft, hard = np.zeros((of.automaton.gates, 4)), 0.0, 0.0
            for number in range(of.experiment.batch_size):
                result = self._sample(of, parameters, step=step, number=number)
                sums, soft, hard = sums + result.sums, soft + result.soft_loss, hard + result.hard_loss
            gradient = logit_gradient(weights=parameters.weights, sums=sums)
            state = advance(state, gradient, settings=of.experiment.optimizer)
            losses.append((soft, hard))
        return state, np.array(losses)

    def _sample(self, of: Training, parameters: Parameters, *, step: int, number: int) -> Any:
        experiment, rollout = of.experiment, of.experiment.rollout
        x, y = data.sample(experiment, step=step, number=number)
        fire = None
        if rollout.fire_rate is not None:
            shape = {"steps": rollout.steps, "height": rollout.height, "width": rollout.width}
            fire = rng.fire_masks(**shape, seed=experiment.seed, sample=number, step=step, rate=rollout.fire_rate)
        return sample_gradients(
            automaton=of.automaton,
            parameters=parameters,
            x=x.astype(np.float64),
            y=y.astype(np.float64),
            loss_channels=np.array(rollout.loss_channels),
            steps=rollout.steps,
            fire=fire,
            dtype=of.dtype,
        )


class TestRefused:
    """What can't be trained, and what nobody would notice."""

    def test_more_ranks_than_samples(self, tmp_path: Path) -> None:
        of = training(LIFE, steps=STEPS, batchSize=2)
        for outcome in together(3, lambda world: trained(of, folder=tmp_path, world=world)):
            assert isinstance(outcome.error, BadConfiguration)
            assert "3 ranks and 2 samples" in str(outcome.error)

    @pytest.mark.parametrize("ranks", [1, 3])
    def test_another_experiments_checkpoint_and_it_stays(self, ranks: int, tmp_path: Path) -> None:
        by_ranks(1, training(LIFE, steps=4), folder=tmp_path)
        before = (tmp_path / FILE).read_bytes()
        other = training(LIFE, steps=STEPS, seed=4)
        refused = self._refused(ranks, other, tmp_path)
        assert "checkpoint.npz: a checkpoint of another experiment: seed is 23 there and 4 here" in refused
        assert (tmp_path / FILE).read_bytes() == before

    @pytest.mark.parametrize("ranks", [1, 3])
    def test_a_broken_checkpoint(self, ranks: int, tmp_path: Path) -> None:
        (tmp_path / FILE).write_bytes(b"not an archive")
        assert "not a readable npz file" in self._refused(ranks, training(LIFE, steps=STEPS), tmp_path)

    def test_a_checkpoint_beyond_the_last_step(self, tmp_path: Path) -> None:
        by_ranks(1, training(LIFE, steps=4), folder=tmp_path)
        assert "a checkpoint of step 4, but spec.engine.difflogic.steps is 3" in self._refused(
            1, training(LIFE, steps=3), tmp_path
        )

    @pytest.mark.parametrize("reduction", ["Exact", "Fast"])
    @pytest.mark.parametrize("ranks", [1, 2])
    def test_a_training_that_diverges_names_its_step_and_a_way_out(
        self, ranks: int, reduction: str, tmp_path: Path
    ) -> None:
        of = training(LIFE, steps=STEPS, reduction=reduction, optimizer={"lr": 1e200})
        for outcome in together(ranks, lambda world: trained(of, folder=tmp_path, world=world)):
            assert isinstance(outcome.error, BadInput)
            assert str(outcome.error).startswith("step 1: ")
            assert "a smaller spec.engine.difflogic.optimizer.lr may help (it is 1e+200)" in str(outcome.error)
        assert not (tmp_path / FILE).exists()

    @pytest.mark.parametrize("reduction", ["Exact", "Fast"])
    def test_a_sample_that_fails_is_told_by_its_rank_alone(self, reduction: str, tmp_path: Path) -> None:
        of = training(LIFE, steps=STEPS, reduction=reduction)
        not_a_number: Any = "three"
        broken = dataclasses.replace(of, chunk=not_a_number)
        outcomes = together(3, lambda world: trained(broken if world.rank == 1 else of, folder=tmp_path, world=world))
        assert outcomes[1].error is not None
        assert not isinstance(outcomes[1].error, Temporary)
        for rank in (0, 2):
            assert isinstance(outcomes[rank].error, Temporary)
            assert "another rank failed at step 1" in str(outcomes[rank].error)

    def test_ranks_that_were_given_different_trainings(self, tmp_path: Path) -> None:
        outcomes = together(
            2, lambda world: trained(training(LIFE, steps=STEPS + world.rank), folder=tmp_path, world=world)
        )
        for outcome in outcomes:
            assert isinstance(outcome.error, WorkError)
            assert "different trainings (1 of 2" in str(outcome.error)

    def test_replicas_that_differ(self, tmp_path: Path) -> None:
        of = training(LIFE, steps=STEPS)

        def work(world: Communicator) -> Checkpoint:
            if isinstance(world, ThreadCommunicator) and world.rank == 1:
                _bend(world)
            return trained(of, folder=tmp_path, world=world)

        for outcome in together(2, work):
            assert isinstance(outcome.error, WorkError)
            assert "at step 4 ranks hold different logits" in str(outcome.error)
        assert not (tmp_path / FILE).exists()

    def test_an_output_that_can_not_be_written_is_told_by_rank_0(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        outcomes: list[Outcome[Checkpoint]] = list(
            together(2, lambda world: trained(training(LIFE, steps=5), folder=tmp_path / "file", world=world))
        )
        assert isinstance(outcomes[0].error, BadConfiguration)
        assert "spec.output.uri" in str(outcomes[0].error)
        assert isinstance(outcomes[1].error, Temporary)

    def _refused(self, ranks: int, of: Training, folder: Path) -> str:
        outcomes = together(ranks, lambda world: trained(of, folder=folder, world=world))
        assert isinstance(outcomes[0].error, BadInput)
        assert all(isinstance(outcome.error, Temporary) for outcome in outcomes[1:])
        return str(outcomes[0].error)


def _bend(world: ThreadCommunicator) -> None:
    """Let a rank see sums that are off by one word, as a faulty machine might."""
    add = world.add

    def bent(words: npt.NDArray[np.int64]) -> None:
        add(words)
        if len(words) > 2:
            words[2] += 1 << 20

    world.add = bent  # type: ignore[method-assign]
