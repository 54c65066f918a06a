"""Is it solved? A whole trial that costs little, to be made every few optimiser steps of a training.

The loss of a batch doesn't tell: with soft gates it may be near nothing while the hard circuit is wrong, and a batch
of Game of Life holds 20 boards of 512.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np

from ..model.automaton import Automaton
from ..model.gates import Bools, Ints
from ..model.rng import Stream, uniforms
from . import data
from .data import Bits
from .inference import Machine
from .presets import Experiment

SAMPLES = 8
"""Rollouts of a trial, where what is drawn decides its end."""


class Draw(IntEnum):
    """What numbers of the evaluation's stream are for: the step they are drawn at."""

    START = 0
    FIRE = 1
    TRIAL_START = 2
    TRIAL_FIRE = 3
    DAMAGE = 4
    ANIMATION = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a trial found; `wrong` 0 is what solved means."""

    wrong: int
    total: int
    unit: str
    """Of both numbers: boards or cells."""


def evaluate(*, experiment: Experiment, automaton: Automaton, functions: Ints) -> Evaluation:
    """Try a circuit with hard gates: always on the same grids, which no training has seen.

    Game of Life: all 512 boards of 3x3 cells, each right or wrong as a whole. Checkerboards, and whatever fires at
    random: the cells of eight rollouts. Pictures: the cells of their one rollout. A cell is right when all channels
    that count for the loss are.

    Args:
        experiment: what was learned.
        automaton: the experiment's, wired.
        functions: (gates,), numbers of the gates' functions.

    Raises:
        BadConfiguration: the experiment's data don't fit its grid.
    """
    starts, targets, fire = _grids(experiment)
    machine = Machine(automaton=automaton, functions=functions)
    final = machine.run(starts, steps=experiment.rollout.steps, fire=fire)
    wrong = wrong_cells(final, targets, channels=experiment.rollout.loss_channels)
    if experiment.data == "GameOfLife":
        return Evaluation(wrong=int(wrong.any(axis=(1, 2)).sum()), total=len(starts), unit="boards")
    return Evaluation(wrong=int(wrong.sum()), total=wrong.size, unit="cells")


def wrong_cells(grids: Bits, targets: Bits, *, channels: tuple[int, ...]) -> Bools:
    """Return which cells (...) of grids (..., channels) differ from their targets in one of some channels."""
    counted = list(channels)
    wrong: Bools = (grids[..., counted] != targets[..., counted]).any(axis=-1)
    return wrong


def fire_masks(experiment: Experiment, *, steps: int, shape: tuple[int, int], draw: Draw, sample: int) -> Bools | None:
    """Return which cells fire, (steps, height, width), in one rollout of a trial; None: all do."""
    rate = experiment.rollout.fire_rate
    if rate is None:
        return None
    drawn = uniforms(
        steps * shape[0] * shape[1], seed=experiment.seed, stream=Stream.EVALUATION, sample=sample, step=draw
    )
    return (drawn <= rate).reshape(steps, *shape)


@lru_cache(maxsize=4)
def _grids(experiment: Experiment) -> tuple[Bits, Bits, Bools | None]:
    """Return a trial's starts and targets (n, height, width, channels), and who fires (steps, n, height, width)."""
    rollout, channels = experiment.rollout, experiment.model.channels
    if experiment.data == "GameOfLife":
        starts = np.zeros((data.BOARDS, data.BOARD, data.BOARD, channels), dtype=np.uint8)
        starts[..., 0] = data.boards()
        targets = data.lived(starts, steps=rollout.steps, periodic=experiment.model.periodic)
    else:
        once = experiment.data != "Checkerboard" and rollout.fire_rate is None
        pairs = [
            data.sample(experiment, step=Draw.START, number=number, stream=Stream.EVALUATION)
            for number in range(1 if once else SAMPLES)
        ]
        starts, targets = np.stack([start for start, _ in pairs]), np.stack([target for _, target in pairs])
    masks = [
        fire_masks(experiment, steps=rollout.steps, shape=starts.shape[1:3], draw=Draw.FIRE, sample=number)
        for number in range(len(starts))
    ]
    fired = [mask for mask in masks if mask is not None]
    return starts, targets, np.stack(fired, axis=1) if fired else None
