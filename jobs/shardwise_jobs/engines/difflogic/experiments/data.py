"""What automata learn from: samples that are pure functions of seed, optimiser step and number in the batch.

So any process can make any sample, and a training that starts again needs nothing but its step.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadConfiguration

from ..model.rng import Stream, below, bits
from . import patterns
from .presets import Experiment

Bits: TypeAlias = NDArray[np.uint8]
BOARDS = 512
"""Boards of 3x3 cells there are: all that Game of Life's rule knows of."""
BOARD = 3
"""Cells along the side of one."""
SQUARE = 2
"""Cells along a square of the checkerboard."""


def life(grid: Bits, *, periodic: bool = True) -> Bits:
    """Return a grid (..., height, width) of 0 and 1 after one step of Conway's Life, on a torus or among dead cells."""
    height, width = grid.shape[-2:]
    edges = [(0, 0)] * (grid.ndim - 2) + [(1, 1), (1, 1)]
    wide = np.pad(grid, edges, mode="wrap" if periodic else "constant")
    around = np.zeros_like(grid)
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                around += wide[..., dy : dy + height, dx : dx + width]
    lives: Bits = ((around == 3) | ((around == 2) & (grid == 1))).astype(np.uint8)
    return lives


@cache
def boards() -> Bits:
    """Return all boards (512, 3, 3): the bits of each number, highest first, row by row."""
    numbers = np.arange(BOARDS)[:, None]
    made = ((numbers >> np.arange(8, -1, -1)) & 1).astype(np.uint8).reshape(BOARDS, BOARD, BOARD)
    # Everyone is given the same.
    made.setflags(write=False)
    return made


@cache
def _boards_after(steps: int, periodic: bool) -> Bits:
    """Return what becomes of all boards, (512, 3, 3): looked up, for a batch takes no longer than its sums."""
    made: Bits = lived(boards()[..., None], steps=steps, periodic=periodic)[..., 0]
    made.setflags(write=False)
    return made


def checkerboard(*, height: int, width: int) -> Bits:
    """Return a board (height, width) of 2x2 squares, 0 at the upper left."""
    y, x = np.indices((height, width))
    return ((x // SQUARE + y // SQUARE) % 2).astype(np.uint8)


def sample(experiment: Experiment, *, step: int, number: int, stream: Stream = Stream.DATA) -> tuple[Bits, Bits]:
    """Return one sample of a batch: its initial grid and its target, (height, width, channels) of 0 and 1.

    Args:
        experiment: what is learned; its seed draws.
        step: the optimiser step, from 0.
        number: of the sample in its batch.
        stream: what is drawn from; a trial after training draws from its own.

    Raises:
        BadConfiguration: the data don't fit grid or channels, or nobody knows them.
    """
    rollout, channels = experiment.rollout, experiment.model.channels
    shape = (rollout.height, rollout.width, channels)
    if experiment.data == "GameOfLife":
        start = np.zeros(shape, dtype=np.uint8)
        if shape[:2] == (BOARD, BOARD):
            drawn = below(BOARDS, 1, seed=experiment.seed, stream=stream, sample=number, step=step)
            start[..., 0] = boards()[drawn[0]]
            target = np.zeros(shape, dtype=np.uint8)
            target[..., 0] = _boards_after(rollout.steps, experiment.model.periodic)[drawn[0]]
            return start, target
        cells = bits(shape[0] * shape[1], seed=experiment.seed, stream=stream, sample=number, step=step)
        start[..., 0] = cells.reshape(shape[:2])
        return start, lived(start, steps=rollout.steps, periodic=experiment.model.periodic)
    if experiment.data == "Checkerboard":
        drawn_bits = bits(int(np.prod(shape)), seed=experiment.seed, stream=stream, sample=number, step=step)
        target = np.zeros(shape, dtype=np.uint8)
        target[..., 0] = checkerboard(height=rollout.height, width=rollout.width)
        return drawn_bits.reshape(shape).astype(np.uint8), target
    if experiment.data == "Lizard":
        start = np.zeros(shape, dtype=np.uint8)
        start[rollout.height // 2, rollout.width // 2] = 1
        return start, _centred(patterns.silhouette(experiment.pattern or patterns.LIZARD), shape)
    if experiment.data == "ColourG":
        return np.zeros(shape, dtype=np.uint8), _centred(patterns.coloured(patterns.COLOUR_G), shape)
    raise BadConfiguration(f"preset: there are no data for {experiment.data}")


def lived(grids: Bits, *, steps: int, periodic: bool) -> Bits:
    """Return grids (..., height, width, channels) whose first channel has lived `steps` steps; the others are 0."""
    last = np.zeros_like(grids)
    last[..., 0] = grids[..., 0]
    for _ in range(steps):
        last[..., 0] = life(last[..., 0], periodic=periodic)
    return last


def _centred(picture: Bits, shape: tuple[int, int, int]) -> Bits:
    """Return a grid of `shape`, zero but for a picture (height, width, bits) in its middle and its first channels."""
    height, width, depth = picture.shape
    if height > shape[0] or width > shape[1]:
        raise BadConfiguration(
            f"rollout: a picture of {height}x{width} cells doesn't fit a grid of {shape[0]}x{shape[1]}"
        )
    if depth > shape[2]:
        raise BadConfiguration(f"model.channels: {shape[2]}, but the picture has {depth} bits per cell")
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    grid = np.zeros(shape, dtype=np.uint8)
    grid[top : top + height, left : left + width, :depth] = picture
    return grid
