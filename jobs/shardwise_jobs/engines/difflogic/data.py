"""What automata learn from: samples that are pure functions of seed, optimiser step and number in the batch.

So any process can make any sample, and a training that starts again needs nothing but its step. The pictures of Lizard
and ColourG are not drawn yet.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shardwise_jobs.errors import BadConfiguration

from .draws import Stream, below, bits
from .gates import Bools
from .presets import Experiment

Bits: TypeAlias = NDArray[np.uint8]
BOARDS = 512
"""Boards of 3x3 cells there are: all that Game of Life's rule knows of."""
SQUARE = 2
"""Cells along a square of the checkerboard."""


def life(grid: Bits) -> Bits:
    """Return a grid (..., height, width) of 0 and 1 after one step of Conway's Life on a torus."""
    around = np.zeros_like(grid)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy or dx:
                around += np.roll(grid, (dy, dx), axis=(-2, -1))
    lives: Bits = ((around == 3) | ((around == 2) & (grid == 1))).astype(np.uint8)
    return lives


def boards() -> Bits:
    """Return all boards (512, 3, 3): the bits of each number, highest first, row by row."""
    numbers = np.arange(BOARDS)[:, None]
    return ((numbers >> np.arange(8, -1, -1)) & 1).astype(np.uint8).reshape(BOARDS, 3, 3)


def checkerboard(*, height: int, width: int) -> Bits:
    """Return a board (height, width) of 2x2 squares, 0 at the upper left."""
    y, x = np.indices((height, width))
    return ((x // SQUARE + y // SQUARE) % 2).astype(np.uint8)


def sample(experiment: Experiment, *, step: int, number: int) -> tuple[Bits, Bits]:
    """Return one sample of a batch: its initial grid and its target, (height, width, channels) of 0 and 1.

    Args:
        experiment: what is learned; its seed draws.
        step: the optimiser step, from 0.
        number: of the sample in its batch.

    Raises:
        BadConfiguration: there is no such data yet.
    """
    rollout, channels = experiment.rollout, experiment.model.channels
    shape = (rollout.height, rollout.width, channels)
    if experiment.data == "GameOfLife":
        drawn = below(BOARDS, 1, seed=experiment.seed, stream=Stream.DATA, sample=number, step=step)
        board = boards()[drawn[0]]
        return board[..., None], life(board)[..., None]
    if experiment.data == "Checkerboard":
        start: Bools = bits(int(np.prod(shape)), seed=experiment.seed, stream=Stream.DATA, sample=number, step=step)
        target = np.zeros(shape, dtype=np.uint8)
        target[..., 0] = checkerboard(height=rollout.height, width=rollout.width)
        return start.reshape(shape).astype(np.uint8), target
    raise BadConfiguration(f"preset: there is no data for {experiment.data} yet")
