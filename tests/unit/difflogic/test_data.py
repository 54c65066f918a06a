"""Data are Life and checkerboards, drawn anew for every sample, and small experiments learn from them."""

from __future__ import annotations

import numpy as np
import pytest

from shardwise_api.difflogic import Preset
from shardwise_jobs.engines.difflogic import data
from shardwise_jobs.engines.difflogic.checkpoint import digest_of
from shardwise_jobs.engines.difflogic.gates import new_logits
from shardwise_jobs.engines.difflogic.optimizer import State
from shardwise_jobs.engines.difflogic.presets import PRESETS, Experiment
from shardwise_jobs.engines.difflogic.sample import Parameters, SampleResult, sample_gradients
from shardwise_jobs.engines.difflogic.step import BatchSum, update
from shardwise_jobs.errors import BadConfiguration


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


@pytest.mark.parametrize("preset", [Preset.LIZARD, Preset.COLOUR_G])
def test_data_that_are_not_there_yet_are_refused(preset: Preset) -> None:
    with pytest.raises(BadConfiguration, match="no data for"):
        data.sample(PRESETS[preset], step=0, number=0)


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
