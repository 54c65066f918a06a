"""Data are Life and checkerboards, drawn anew for every sample, and small experiments learn from them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise_api.difflogic import Preset
from shardwise_jobs.engines.difflogic.experiments import data, patterns
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS, Experiment
from shardwise_jobs.engines.difflogic.model.gates import new_logits
from shardwise_jobs.engines.difflogic.model.optimizer import State
from shardwise_jobs.engines.difflogic.model.rng import Stream
from shardwise_jobs.engines.difflogic.model.sample import Parameters, SampleResult, sample_gradients
from shardwise_jobs.engines.difflogic.model.step import BatchSum, update
from shardwise_jobs.engines.difflogic.training.checkpoint import digest_of
from tests.support.circuits import other_than


def grid(size: int, *cells: tuple[int, int]) -> data.Bits:
    board = np.zeros((size, size), dtype=np.uint8)
    for cell in cells:
        board[cell] = 1
    return board


def test_example_e_a_blinker_has_period_two() -> None:
    blinker = grid(10, (4, 3), (4, 4), (4, 5))
    assert data.life(blinker).tolist() == blinker.T.tolist()
    assert np.array_equal(data.life(data.life(blinker)), blinker)


def test_example_e_a_glider_is_itself_one_cell_on_after_four_steps() -> None:
    glider = grid(10, (0, 1), (1, 2), (2, 0), (2, 1), (2, 2))
    moved = glider
    for step in range(1, 41):
        moved = data.life(moved)
        if step % 4 == 0:
            assert np.array_equal(moved, np.roll(glider, (step // 4, step // 4), axis=(0, 1)))


def test_of_512_boards_140_have_a_live_cell_in_their_middle() -> None:
    boards = data.boards()
    assert len({board.tobytes() for board in boards}) == 512
    assert boards[1].ravel().tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert int(data.life(boards)[:, 1, 1].sum()) == 140


def test_a_checkerboard_has_squares_of_four_cells() -> None:
    assert data.checkerboard(height=4, width=5).tolist() == [[0, 0, 1, 1, 0]] * 2 + [[1, 1, 0, 0, 1]] * 2


@pytest.mark.parametrize("preset", [Preset.GAME_OF_LIFE, Preset.CHECKERBOARD_SYNC, Preset.CHECKERBOARD_ASYNC])
def test_a_sample_is_that_of_its_place_and_differs_from_others(preset: Preset) -> None:
    experiment = PRESETS[preset]
    drawn = {
        (step, number): data.sample(experiment, step=step, number=number) for step in range(6) for number in range(6)
    }
    again = data.sample(experiment, step=3, number=2)
    assert np.array_equal(again[0], drawn[3, 2][0])
    assert np.array_equal(again[1], drawn[3, 2][1])
    assert len({x.tobytes() for x, _ in drawn.values()}) > 30
    shape = (experiment.rollout.height, experiment.rollout.width, experiment.model.channels)
    assert {x.shape for x, _ in drawn.values()} == {y.shape for _, y in drawn.values()} == {shape}


def test_targets_are_lifes_next_board_and_the_checkerboard() -> None:
    x, y = data.sample(PRESETS[Preset.GAME_OF_LIFE], step=1, number=1)
    assert np.array_equal(y[..., 0], data.life(x[..., 0]))
    _, y = data.sample(PRESETS[Preset.CHECKERBOARD_SMALL], step=1, number=1)
    assert np.array_equal(y[..., 0], data.checkerboard(height=16, width=16))
    assert not y[..., 1:].any()


def test_life_among_dead_cells_wraps_nothing() -> None:
    row = grid(4, (0, 0), (0, 1), (0, 3))
    assert data.life(row)[0].tolist() == [1, 0, 0, 0]
    assert not data.life(row, periodic=False).any()


def test_the_lizard_grows_from_one_cell_and_the_letter_from_none() -> None:
    x, y = data.sample(PRESETS[Preset.LIZARD], step=4, number=0)
    assert (x.sum(axis=-1) == 128 * grid(20, (10, 10))).all()
    drawn = ["".join(".#"[cell] for cell in row) for row in y[..., 0]]
    assert tuple(drawn) == patterns.LIZARD
    assert not y[..., 1:].any()
    x, y = data.sample(PRESETS[Preset.COLOUR_G], step=4, number=0)
    assert not x.any()
    assert np.array_equal(y[..., :3], patterns.coloured(patterns.COLOUR_G))
    assert not y[..., 3:].any()


def test_an_own_pattern_grows_in_the_middle_of_its_grid() -> None:
    own = dataclasses.replace(PRESETS[Preset.LIZARD], pattern=("##.", "..#"))
    _, y = data.sample(other_than(own, height=4, width=6), step=0, number=0)
    assert y[..., 0].tolist() == [[0] * 6, [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6]


def test_a_picture_larger_than_its_grid_or_cell_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="20x20 cells doesn't fit a grid of 19x20"):
        data.sample(other_than(PRESETS[Preset.LIZARD], height=19), step=0, number=0)
    letter = PRESETS[Preset.COLOUR_G]
    narrow = dataclasses.replace(letter, model=dataclasses.replace(letter.model, channels=2))
    with pytest.raises(BadConfiguration, match="2, but the picture has 3 bits"):
        data.sample(narrow, step=0, number=0)


def test_other_grids_of_life_are_drawn_cell_by_cell_and_live_as_long_as_the_automaton_runs() -> None:
    x, y = data.sample(other_than(PRESETS[Preset.GAME_OF_LIFE], height=8, width=9, steps=3), step=0, number=1)
    assert 20 < x.sum() < 52
    assert np.array_equal(y[..., 0], data.life(data.life(data.life(x[..., 0]))))


def test_a_trial_draws_other_grids_than_a_training() -> None:
    experiment = PRESETS[Preset.CHECKERBOARD_SYNC]
    trained_on, _ = data.sample(experiment, step=0, number=0)
    tried_on, _ = data.sample(experiment, step=0, number=0, stream=Stream.EVALUATION)
    assert not np.array_equal(trained_on, tried_on)


def test_data_that_nobody_knows_are_refused() -> None:
    with pytest.raises(BadConfiguration, match="no data for Chess"):
        data.sample(dataclasses.replace(PRESETS[Preset.LIZARD], data="Chess"), step=0, number=0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "empty"),
        (("",), "empty"),
        (("##", "#"), "row 1 has 1 letters, the first has 2"),
        (("#.", ".x"), "row 1: 'x', expected one of . #"),
    ],
)
def test_a_pattern_that_is_none_is_refused(rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        patterns.silhouette(rows)


def trained(experiment: Experiment, *, steps: int, dtype: str) -> tuple[State, list[float]]:
    """Train an experiment, and return its state and losses."""
    automaton = experiment.model.wired(seed=experiment.seed)
    state, losses = State.fresh(new_logits(automaton.gates)), []

    def computed(parameters: Parameters, number: int) -> SampleResult:
        x, y = data.sample(experiment, step=state.step, number=number)
        return sample_gradients(
            automaton=automaton,
            parameters=parameters,
            x=x.astype(np.float64),
            y=y.astype(np.float64),
            loss_channels=np.array(experiment.rollout.loss_channels),
            steps=experiment.rollout.steps,
            dtype=dtype,
        )

    for _ in range(steps):
        batch, parameters = BatchSum(gates=automaton.gates), Parameters(state.logits)
        for number in range(experiment.batch_size):
            batch.add(computed(parameters, number))
        losses.append(batch.soft_loss)
        state = update(state, batch, parameters=parameters, settings=experiment.optimizer)
    return state, losses


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_the_small_game_of_life_learns_and_twice_gives_the_same_digest(dtype: str) -> None:
    experiment = PRESETS[Preset.GAME_OF_LIFE_SMALL]
    state, losses = trained(experiment, steps=150, dtype=dtype)
    assert np.mean(losses[-20:]) < 0.75 * np.mean(losses[:5])
    again, _ = trained(experiment, steps=150, dtype=dtype)
    assert digest_of(logits=state.logits, step=state.step) == digest_of(logits=again.logits, step=again.step)
