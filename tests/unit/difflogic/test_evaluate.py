"""Solved means: no board, no cell wrong; and trials after training tell a rule from what was learned by heart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shardwise_api.difflogic import Preset
from shardwise_jobs.engines.difflogic.experiments import data, inference, trials
from shardwise_jobs.engines.difflogic.experiments.evaluate import Evaluation, evaluate
from shardwise_jobs.engines.difflogic.experiments.inference import Machine
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS, Experiment, Model
from shardwise_jobs.engines.difflogic.experiments.trials import Trial
from shardwise_jobs.engines.difflogic.model import hard
from shardwise_jobs.engines.difflogic.model.automaton import neighbours
from shardwise_jobs.engines.difflogic.model.gates import Bools, Ints, hardest, new_logits
from tests.support.automata import automaton, batch
from tests.support.circuits import LIFE, life_functions, other_than

FALSE, TRUE = 0, 15


def found(experiment: Experiment, functions: Ints) -> Evaluation:
    wired = experiment.model.wired(seed=experiment.seed)
    return evaluate(experiment=experiment, automaton=wired, functions=functions)


def tried(experiment: Experiment, functions: Ints) -> dict[str, Trial]:
    wired = experiment.model.wired(seed=experiment.seed)
    return {trial.name: trial for trial in trials.trials(experiment=experiment, automaton=wired, functions=functions)}


def constant(experiment: Experiment, function: int) -> Ints:
    """A circuit whose every gate is FALSE, or TRUE."""
    return np.full(experiment.model.wired(seed=experiment.seed).gates, function, dtype=np.int64)


def test_a_trained_circuit_is_right_on_all_boards() -> None:
    assert found(LIFE, life_functions()) == Evaluation(wrong=0, total=512, unit="boards")


def test_boards_that_do_not_die_at_once_are_wrong_to_a_circuit_that_says_dead() -> None:
    survive = sum(bool(data.life(board).any()) for board in data.boards())
    assert found(LIFE, constant(LIFE, FALSE)) == Evaluation(wrong=survive, total=512, unit="boards")


def test_half_the_cells_of_a_checkerboard_are_right_by_any_constant() -> None:
    experiment = PRESETS[Preset.CHECKERBOARD_SMALL]
    for function in (FALSE, TRUE):
        assert found(experiment, constant(experiment, function)) == Evaluation(wrong=1024, total=2048, unit="cells")


@pytest.mark.parametrize("preset", [Preset.LIZARD, Preset.COLOUR_G])
def test_of_a_picture_each_cell_counts_once(preset: Preset) -> None:
    experiment = PRESETS[preset]
    _, target = data.sample(experiment, step=0, number=0)
    drawn = int(target.any(axis=-1).sum())
    assert drawn > 80
    result = found(experiment, constant(experiment, FALSE))
    assert (result.wrong, result.total) == (drawn, experiment.rollout.height * experiment.rollout.width)


def test_it_is_the_same_each_time_and_no_sample_of_the_training() -> None:
    experiment = PRESETS[Preset.CHECKERBOARD_ASYNC]
    learned_nothing = hardest(new_logits(experiment.model.wired(seed=23).gates))
    first = found(experiment, learned_nothing)
    assert first == found(experiment, learned_nothing)
    assert first.wrong > 0


def test_grids_side_by_side_do_not_see_each_other() -> None:
    given = batch(samples=3, asynchronous=True, bits=True)
    assert given.fire is not None
    functions = np.random.default_rng(1).integers(0, 16, given.automaton.gates)
    machine = Machine(automaton=given.automaton, functions=functions)
    together = machine.run(given.x.astype(np.uint8), steps=given.steps, fire=given.fire.transpose(1, 0, 2, 3))
    table = neighbours(height=5, width=7, periodic=False)
    for number in range(3):
        start = np.zeros((3, 36), dtype=np.bool_)
        start[:, :-1] = given.x[number].reshape(35, 3).T
        alone = hard.forward(
            automaton=given.automaton,
            table=table,
            functions=functions,
            start=start,
            fire=given.fire[number].reshape(3, 35),
        )
        assert np.array_equal(together[number].reshape(35, 3).T, alone[:, :-1])


def test_grids_that_are_too_many_at_once_are_run_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    given = batch(samples=5, asynchronous=True, bits=True)
    assert given.fire is not None
    machine = Machine(
        automaton=given.automaton, functions=np.random.default_rng(3).integers(0, 16, given.automaton.gates)
    )
    grids, fire = given.x.astype(np.uint8), given.fire.transpose(1, 0, 2, 3)
    together = machine.run(grids, steps=3, fire=fire)
    monkeypatch.setattr(inference, "MOST_CELLS", 71)
    assert np.array_equal(machine.run(grids, steps=3, fire=fire), together)


def test_step_by_step_is_the_same_as_all_at_once() -> None:
    given = batch(of=automaton(periodic=True), bits=True)
    machine = Machine(
        automaton=given.automaton, functions=np.random.default_rng(2).integers(0, 16, given.automaton.gates)
    )
    steps = machine.steps(given.x.astype(np.uint8))
    for _ in range(4):
        last = next(steps)
    assert np.array_equal(last, machine.run(given.x.astype(np.uint8), steps=4))


def test_a_trained_circuit_is_life_on_larger_grids_for_long() -> None:
    results = tried(LIFE, life_functions())
    assert {name: (trial.wrong, trial.total) for name, trial in results.items()} == {
        "trained": (0, 512),
        "large": (0, 128 * 128 * 300),
    }
    assert str(results["trained"]) == "every board of 3x3 cells: all 512 boards right"


def test_one_wrong_gate_shows_on_larger_grids() -> None:
    functions = life_functions()
    functions[-1] = FALSE
    large = tried(LIFE, functions)["large"]
    assert large.wrong > 0
    assert "wrong, " in str(large)


def test_almost_right_is_not_told_as_right() -> None:
    assert str(Trial(name="large", text="a trial", wrong=1, total=10**7)).endswith(
        "1 of 10,000,000 cells wrong, 99.99 % right"
    )


@pytest.fixture
def board() -> Experiment:
    """A checkerboard whose cells need not talk: small enough for thousands of steps."""
    model = Model(channels=1, kernels=1, perceive_widths=(1,), update_widths=(1,), periodic=False, permute=False)
    return dataclasses.replace(PRESETS[Preset.CHECKERBOARD_SYNC], model=model)


def test_of_a_dead_square_only_its_surroundings_count_and_a_healed_one_counts_whole(board: Experiment) -> None:
    results = tried(board, constant(board, TRUE))
    assert {name: (trial.wrong, trial.total) for name, trial in results.items()} == {
        "trained": (1024, 2048),
        "large": (2048, 4096),
        "dead": (1848, 3696),
        "healed": (2048, 4096),
    }
    assert "80 steps" in results["large"].text
    assert "first 40 of them" in results["healed"].text


def test_a_dead_square_holds_zeros_that_its_neighbours_see(board: Experiment) -> None:
    # A cell becomes the opposite of the one at its upper left.
    results = tried(board, np.array([12, 5]))
    target = data.checkerboard(height=64, width=64).astype(np.bool_)
    alive = np.ones((64, 64), dtype=np.bool_)
    alive[22:42, 22:42] = False

    def after(dead_steps: int) -> Bools:
        state = np.zeros((64, 64), dtype=np.bool_)
        for step in range(80):
            state = ~np.pad(state, ((1, 0), (1, 0)))[:-1, :-1]
            state &= alive if step < dead_steps else True
        return state

    # After 80 steps nothing is left of where it began.
    assert results["large"].wrong == int((after(0) != target).sum())
    assert results["dead"].wrong == int(((after(80) != target) & alive).sum())
    assert results["healed"].wrong == int((after(40) != target).sum())
    assert not np.array_equal(after(80), after(0) & alive)
    assert not np.array_equal(after(40), after(0))


def test_damage_is_done_where_cells_fire_at_random_and_a_circuit_that_needs_no_neighbours_recovers(
    board: Experiment,
) -> None:
    results = tried(other_than(board, fire_rate=0.6), constant(board, TRUE))
    assert set(results) == {"trained", "large", "dead", "healed", "damaged", "rested"}
    # Where the last square was, cells that have not fired since are right where 0 is, and wrong where 1 is.
    assert results["damaged"].total == results["rested"].total == 4096
    assert results["rested"].wrong == 2048


def test_damage_is_zeros_that_stay_with_a_circuit_that_changes_nothing(board: Experiment) -> None:
    results = tried(other_than(board, fire_rate=0.6), np.array([3, 3]))
    # Noise is wrong in half of all cells, and so is nothing; but not in the same ones.
    assert results["damaged"].wrong == results["rested"].wrong != results["large"].wrong
    assert abs(results["damaged"].wrong - 2048) < abs(results["large"].wrong - 2048)


def test_life_with_another_time_of_its_own_is_judged_by_it() -> None:
    functions = life_functions()
    assert found(other_than(LIFE, steps=4), functions).wrong == 0
    blinking = dataclasses.replace(LIFE, model=dataclasses.replace(LIFE.model, periodic=False))
    assert found(other_than(blinking, steps=2), functions).wrong == 0
