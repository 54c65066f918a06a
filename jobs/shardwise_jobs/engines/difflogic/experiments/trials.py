"""Did it learn the rule, or only its training's grids? Larger grids, longer times, damage, and healing after it.

Source of the trials: the article of the original (arXiv 2506.04912), which shows them as pictures.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from ..model.automaton import Automaton
from ..model.gates import Bools, Ints
from ..model.rng import Stream, below
from . import data
from .data import Bits
from .evaluate import Draw, evaluate, fire_masks, wrong_cells
from .inference import Machine
from .presets import Experiment

LIFE_SIDE, LIFE_STEPS = 128, 300
SIDE = 64
"""Cells along a trial's checkerboard."""
DEAD_SIDE = 20
DAMAGED_SIDE, DAMAGED_STEPS = 10, 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial of a trained circuit."""

    name: str
    """Of a metric: letters only, words by capitals."""
    text: str
    """What was tried, for a person."""
    wrong: int
    total: int
    unit: str = "cells"
    """Of both numbers."""

    def __str__(self) -> str:
        if not self.wrong:
            return f"{self.text}: all {self.total:,} {self.unit} right"
        # Never rounded up to all right.
        share = math.floor(1e4 * (1 - self.wrong / self.total)) / 100
        return f"{self.text}: {self.wrong:,} of {self.total:,} {self.unit} wrong, {share:.2f} % right"


def trials(*, experiment: Experiment, automaton: Automaton, functions: Ints) -> list[Trial]:
    """Try a trained circuit with hard gates, always the same way.

    The first trial is that of `evaluate`. Further ones, of Game of Life: 300 steps on 128x128 cells. Of checkerboards:
    64x64 cells; the same with a dead square in the middle; with one that comes to life half-way; and where cells fire
    at random, 4000 steps in each of which a square somewhere is set to zero, then as long again as the first one took
    without. The last ones take some seconds.

    Args:
        experiment: what was learned.
        automaton: the experiment's, wired.
        functions: (gates,), numbers of the gates' functions.
    """
    machine = Machine(automaton=automaton, functions=functions)
    found = [_plain(experiment, automaton, functions)]
    if experiment.data == "GameOfLife" and experiment.rollout.fire_rate is None:
        found.append(_life(experiment, machine))
    if experiment.data == "Checkerboard":
        found += _checkerboards(experiment, machine)
    return found


def large(experiment: Experiment) -> Experiment:
    """Return a checkerboard's experiment on a trial's grid, with as many steps more as its side is longer."""
    rollout = experiment.rollout
    steps = -(-rollout.steps * SIDE // min(rollout.height, rollout.width))
    return dataclasses.replace(experiment, rollout=dataclasses.replace(rollout, height=SIDE, width=SIDE, steps=steps))


def _plain(experiment: Experiment, automaton: Automaton, functions: Ints) -> Trial:
    found = evaluate(experiment=experiment, automaton=automaton, functions=functions)
    rollout = experiment.rollout
    size = f"{rollout.height}x{rollout.width} cells, {rollout.steps} steps"
    text = {
        "GameOfLife": "every board of 3x3 cells",
        "Checkerboard": f"checkerboards from noise, {size}",
    }.get(experiment.data, f"the picture, {size}")
    return Trial(name="trained", text=text, wrong=found.wrong, total=found.total, unit=found.unit)


def _life(experiment: Experiment, machine: Machine) -> Trial:
    """Run beside Life from the same start, and compare after each step: what goes wrong once may vanish again."""
    rollout = dataclasses.replace(experiment.rollout, height=LIFE_SIDE, width=LIFE_SIDE)
    wide = dataclasses.replace(experiment, rollout=rollout)
    start, _ = data.sample(wide, step=Draw.TRIAL_START, number=0, stream=Stream.EVALUATION)
    expected, wrong = start[None], 0
    for _, grid in zip(range(LIFE_STEPS), machine.steps(start[None]), strict=False):
        expected = data.lived(expected, steps=1, periodic=experiment.model.periodic)
        wrong += int(wrong_cells(grid, expected, channels=rollout.loss_channels).sum())
    return Trial(
        name="large",
        text=f"Life on {LIFE_SIDE}x{LIFE_SIDE} cells, each of {LIFE_STEPS} steps",
        wrong=wrong,
        total=LIFE_STEPS * LIFE_SIDE * LIFE_SIDE,
    )


def _checkerboards(experiment: Experiment, machine: Machine) -> list[Trial]:
    wide = large(experiment)
    steps, channels = wide.rollout.steps, wide.rollout.loss_channels
    start, target = data.sample(wide, step=Draw.TRIAL_START, number=0, stream=Stream.EVALUATION)
    alive = _alive()
    fire = _fire(wide, steps=steps)
    size = f"checkerboard of {SIDE}x{SIDE} cells, {steps} steps"

    whole = _run(machine, start, fire)
    # A dead cell doesn't fire, and it starts at zero.
    dead = _run(machine, start * alive[..., None], fire & alive)
    half = steps // 2
    healing = _run(machine, start * alive[..., None], np.concatenate([fire[:half] & alive, fire[half:]]))
    found = [
        _compared("large", size, whole, target, channels),
        _compared("dead", f"{size}, a dead square of {DEAD_SIDE}x{DEAD_SIDE} in it", dead, target, channels, alive),
        _compared("healed", f"{size}, the square dead for the first {half} of them", healing, target, channels),
    ]
    if experiment.rollout.fire_rate is not None:
        damaged = _damaged(wide, machine, start)
        text = f"checkerboard of {SIDE}x{SIDE} cells, in each of {DAMAGED_STEPS} steps"
        text += f" a square of {DAMAGED_SIDE}x{DAMAGED_SIDE} somewhere set to zero"
        rested = _run(machine, damaged, _fire(wide, steps=steps, sample=1))
        found += [
            _compared("damaged", text, damaged, target, channels),
            _compared("rested", f"the same, and {steps} steps later", rested, target, channels),
        ]
    return found


def _compared(
    name: str, text: str, grid: Bits, target: Bits, channels: tuple[int, ...], counted: Bools | None = None
) -> Trial:
    wrong = wrong_cells(grid, target, channels=channels)
    counted = np.ones_like(wrong) if counted is None else counted
    return Trial(name=name, text=text, wrong=int((wrong & counted).sum()), total=int(counted.sum()))


def _run(machine: Machine, start: Bits, fire: Bools) -> Bits:
    """Return one grid (height, width, channels) after as many steps as `fire` (steps, height, width) has."""
    (final,) = machine.run(start[None], steps=len(fire), fire=fire[:, None])
    return np.asarray(final, dtype=np.uint8)


def _alive() -> Bools:
    alive = np.ones((SIDE, SIDE), dtype=np.bool_)
    first = (SIDE - DEAD_SIDE) // 2
    alive[first : first + DEAD_SIDE, first : first + DEAD_SIDE] = False
    return alive


def _fire(experiment: Experiment, *, steps: int, sample: int = 0) -> Bools:
    drawn = fire_masks(experiment, steps=steps, shape=(SIDE, SIDE), draw=Draw.TRIAL_FIRE, sample=sample)
    return np.ones((steps, SIDE, SIDE), dtype=np.bool_) if drawn is None else drawn


def _damaged(experiment: Experiment, machine: Machine, grid: Bits) -> Bits:
    """Return a grid after many steps, each of which begins with a square of it at zero."""
    places = below(
        SIDE - DAMAGED_SIDE + 1, 2 * DAMAGED_STEPS, seed=experiment.seed, stream=Stream.EVALUATION, step=Draw.DAMAGE
    )
    grid = grid.copy()
    for step, (top, left) in enumerate(places.reshape(-1, 2).tolist()):
        grid[top : top + DAMAGED_SIDE, left : left + DAMAGED_SIDE] = 0
        # Drawn step by step: all at once would take as much memory as a training.
        grid = _run(machine, grid, _fire(experiment, steps=1, sample=2 + step))
    return grid
