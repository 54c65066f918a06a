"""A trained automaton at work, as a GIF: Life beside the real one, checkerboards out of noise, pictures that grow.

Few colours and whole pixels, so that a film stays small, and the same circuit makes the same bytes.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..experiments import data
from ..experiments.data import Bits
from ..experiments.evaluate import Draw, fire_masks, wrong_cells
from ..experiments.inference import Machine
from ..experiments.patterns import COLOURS
from ..experiments.presets import Experiment
from ..experiments.trials import SIDE, large
from ..model.automaton import Automaton
from ..model.gates import Ints
from ..model.rng import Stream

PIXELS = 256
"""Along the side of a grid, about."""
LIFE_FRAMES = 90
FRAMES = 80
"""At most, of what is no Life: longer rollouts are shown every second, third, … step."""
HELD = 15
"""Frames that the end stays."""
MILLISECONDS = 100
SLOWLY = 250
"""Milliseconds, of a film of few frames."""
_BACK, _OFF, _ON, _MISSING, _WRONG, _TEXT = 0, 1, 2, 3, 4, 5
_TINTS = 6
"""From here the eight colours of `COLOURS`."""
_PALETTE = (
    (255, 255, 255),
    (233, 238, 243),
    (36, 41, 47),
    (244, 169, 169),
    (209, 73, 91),
    (36, 41, 47),
    *((40 + 200 * r, 40 + 200 * g, 40 + 200 * b) for r, g, b in COLOURS.values()),
)
_MARGIN, _HEAD = 8, 24
MOST_CELLS = 320
"""Along the side of a grid: of a larger one its middle is shown."""
Frame = NDArray[np.uint8]


def film(*, experiment: Experiment, automaton: Automaton, functions: Ints) -> bytes:
    """Return a GIF of a trained circuit, running with hard gates.

    Game of Life: 64x64 cells, the circuit at the left, the real one at the right; cells that differ are red.
    Checkerboards: 64x64 cells from noise; pictures: their own grid. Cells that are not what they shall be are reddish.

    Args:
        experiment: what was learned.
        automaton: the experiment's, wired.
        functions: (gates,), numbers of the gates' functions.
    """
    machine = Machine(automaton=automaton, functions=functions)
    if experiment.data == "GameOfLife":
        return _gif(list(_life(experiment, machine)), held=0)
    shown = large(experiment) if experiment.data == "Checkerboard" else experiment
    return _gif(list(_growing(shown, machine)), held=HELD)


def _life(experiment: Experiment, machine: Machine) -> Iterator[Frame]:
    wide = dataclasses.replace(
        experiment, rollout=dataclasses.replace(experiment.rollout, height=SIDE, width=SIDE, fire_rate=None)
    )
    start, _ = data.sample(wide, step=Draw.ANIMATION, number=0, stream=Stream.EVALUATION)
    real = start[None]
    yield _side_by_side(real, real, step=0)
    for step, grid in zip(range(1, LIFE_FRAMES), machine.steps(start[None]), strict=False):
        real = data.lived(real, steps=1, periodic=experiment.model.periodic)
        yield _side_by_side(grid, real, step=step)


def _side_by_side(grid: Bits, real: Bits, *, step: int) -> Frame:
    ours, theirs = grid[0, ..., 0], real[0, ..., 0]
    differ = int((ours != theirs).sum())
    told = "the same" if not differ else "1 cell differs" if differ == 1 else f"{differ:,} cells differ"
    return _frame(
        [_marked(ours, theirs), np.where(theirs, _ON, _OFF)], [f"circuit, step {step}: {told}", "Conway's Game of Life"]
    )


def _growing(experiment: Experiment, machine: Machine) -> Iterator[Frame]:
    rollout = experiment.rollout
    shape = (rollout.height, rollout.width)
    grid, target = data.sample(experiment, step=Draw.ANIMATION, number=0, stream=Stream.EVALUATION)
    fire = fire_masks(experiment, steps=rollout.steps, shape=shape, draw=Draw.ANIMATION, sample=1)
    every = -(-rollout.steps // FRAMES)
    for step in range(rollout.steps + 1):
        if step:
            mask = None if fire is None else fire[step - 1][None, None]
            (grid,) = machine.run(grid[None], steps=1, fire=mask)
        if step % every == 0 or step == rollout.steps:
            wrong = int(wrong_cells(grid, target, channels=rollout.loss_channels).sum())
            told = f"step {step}: " + (f"{wrong:,} of {shape[0] * shape[1]:,} cells wrong" if wrong else "all right")
            yield _frame([_drawn(grid, target, rollout.loss_channels)], [told])


def _drawn(grid: Bits, target: Bits, channels: Sequence[int]) -> Frame:
    """Return a grid's channels that count as colours: of three a mixture, else the first."""
    if len(channels) == 3:
        weights = {bits: number for number, bits in enumerate(COLOURS.values())}
        mixed = [[weights[tuple(cell)] for cell in row] for row in grid[..., list(channels)].tolist()]
        return np.array(mixed, dtype=np.uint8) + np.uint8(_TINTS)
    return _marked(grid[..., channels[0]], target[..., channels[0]])


def _marked(grid: Bits, target: Bits) -> Frame:
    """Return bits as colours, those that differ from the target in red: strong where one is set that should not be."""
    plain = np.where(grid, _ON, _OFF)
    return np.where(grid == target, plain, np.where(grid, _WRONG, _MISSING)).astype(np.uint8)


def _frame(grids: Sequence[Frame], texts: Sequence[str]) -> Frame:
    """Return grids side by side, each below its text, as numbers of colours."""
    shown = [_middle(grid.astype(np.uint8)) for grid in grids]
    scale = max(1, PIXELS // max(shown[0].shape))
    tiles = [np.kron(grid, np.ones((scale, scale), dtype=np.uint8)) for grid in shown]
    height, width = tiles[0].shape
    # A small grid's text may need more room than the grid.
    pitch = max(width, PIXELS) + _MARGIN
    canvas = np.full((_HEAD + height + _MARGIN, _MARGIN + pitch * len(tiles)), _BACK, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        left = _MARGIN + pitch * number
        canvas[_HEAD : _HEAD + height, left : left + width] = tile
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    # No smooth edges: they would need colours of their own.
    pen.fontmode = "1"
    for number, text in enumerate(texts):
        pen.text((_MARGIN + pitch * number, 6), text, fill=_TEXT, font=ImageFont.load_default())
    return np.asarray(image)


def _middle(grid: Frame) -> Frame:
    top, left = (max(0, (side - MOST_CELLS) // 2) for side in grid.shape)
    return grid[top : top + MOST_CELLS, left : left + MOST_CELLS]


def _gif(frames: Sequence[Frame], *, held: int) -> bytes:
    flat = [value for colour in _PALETTE for value in colour]
    images = []
    for frame in frames:
        image = Image.fromarray(frame)
        image.putpalette(flat)
        images.append(image)
    durations = [MILLISECONDS if len(images) > FRAMES // 2 else SLOWLY] * len(images)
    durations[0] += 5 * MILLISECONDS
    durations[-1] += held * MILLISECONDS
    out = io.BytesIO()
    images[0].save(
        out, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False
    )
    return out.getvalue()
