"""The known experiments as data: the five of the original, and two small ones that tests train.

Source: Miotti, Niklasson, Randazzo, Mordvintsev, "Differentiable Logic Cellular Automata" (arXiv 2506.04912) with its
notebook. Where article and notebook differ, the notebook's values are here: Game of Life has 17 layers of 128 gates.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from shardwise_api.difflogic import BATCH_SIZES, Preset

from ..model import wiring
from ..model.automaton import Automaton
from ..model.optimizer import Settings
from ..model.rng import FIRE_RATE, Shuffler


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The circuits' sizes."""

    channels: int
    kernels: int
    perceive_widths: tuple[int, ...]
    update_widths: tuple[int, ...]
    periodic: bool
    permute: bool = True
    """Whether gates are wired in a random order."""

    def wired(self, *, seed: int) -> Automaton:
        """Draw the wires. Raises BadConfiguration when widths don't fit."""
        shuffler = Shuffler(seed) if self.permute else None
        perceive = wiring.perception(self.perceive_widths, shuffler=shuffler)
        inputs = self.channels * (1 + self.kernels * self.perceive_widths[-1])
        return Automaton(
            channels=self.channels,
            kernels=self.kernels,
            periodic=self.periodic,
            perceive_wires=perceive,
            update_wires=wiring.update(self.update_widths, inputs=inputs, shuffler=shuffler),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How the automaton runs, and what of its last state counts."""

    height: int
    width: int
    steps: int
    fire_rate: float | None = None
    """Chance of a cell to take its new state; None: all do."""
    loss_channels: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """All that decides the bits of a training, but for its dtype, its reduction and the number of its steps."""

    data: str
    """Which data it learns: GameOfLife, Checkerboard, Lizard, ColourG."""
    model: Model
    rollout: Rollout
    optimizer: Settings
    batch_size: int
    steps: int
    """Optimiser steps: the original's, or those that a manifest asks for."""
    seed: int = field(default=23)
    pattern: tuple[str, ...] | None = None
    """Rows of '.' and '#' that grow instead of the lizard."""

    def document(self, *, dtype: str, reduction: str = "Exact") -> dict[str, Any]:
        """Return, as plain JSON values, all that decides the bits of a state; its number of steps may grow."""
        told: dict[str, Any] = {**json.loads(json.dumps(asdict(self))), "dtype": dtype, "reduction": reduction}
        del told["steps"]
        return told

    def fingerprint(self, *, dtype: str, reduction: str = "Exact") -> str:
        """Return what tells this training from any other, SHA-256 over its document."""
        document = self.document(dtype=dtype, reduction=reduction)
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


_LIFE = (*[128] * 17, 64, 32, 16, 8, 4, 2, 1)


def _life(preset: Preset, *, kernels: int, update_widths: tuple[int, ...]) -> Experiment:
    return Experiment(
        data="GameOfLife",
        model=Model(
            channels=1, kernels=kernels, perceive_widths=(8, 4, 2, 1), update_widths=update_widths, periodic=True
        ),
        rollout=Rollout(height=3, width=3, steps=1),
        optimizer=Settings(lr=0.05),
        batch_size=BATCH_SIZES[preset],
        steps=3000,
    )


def _checkerboard(
    preset: Preset,
    *,
    update_widths: tuple[int, ...],
    side: int = 16,
    rollout: int = 20,
    fire_rate: float | None = None,
    steps: int = 500,
) -> Experiment:
    return Experiment(
        data="Checkerboard",
        model=Model(channels=8, kernels=16, perceive_widths=(8, 4, 2), update_widths=update_widths, periodic=False),
        rollout=Rollout(height=side, width=side, steps=rollout, fire_rate=fire_rate),
        optimizer=Settings(lr=0.05),
        batch_size=BATCH_SIZES[preset],
        steps=steps,
    )


PRESETS = {
    Preset.GAME_OF_LIFE: _life(Preset.GAME_OF_LIFE, kernels=16, update_widths=_LIFE),
    Preset.CHECKERBOARD_SYNC: _checkerboard(
        Preset.CHECKERBOARD_SYNC, update_widths=(*[256] * 10, 128, 64, 32, 16, 8, 8)
    ),
    Preset.CHECKERBOARD_ASYNC: _checkerboard(
        Preset.CHECKERBOARD_ASYNC,
        update_widths=(*[256] * 14, 128, 64, 32, 16, 8, 8),
        side=14,
        rollout=50,
        fire_rate=FIRE_RATE,
        steps=800,
    ),
    Preset.LIZARD: Experiment(
        data="Lizard",
        model=Model(
            channels=128,
            kernels=4,
            perceive_widths=(8, 4, 2, 1),
            update_widths=(*[512] * 8, 256, 128),
            periodic=True,
        ),
        rollout=Rollout(height=20, width=20, steps=12),
        optimizer=Settings(lr=0.06),
        batch_size=BATCH_SIZES[Preset.LIZARD],
        steps=3500,
    ),
    Preset.COLOUR_G: Experiment(
        data="ColourG",
        model=Model(
            channels=64,
            kernels=4,
            perceive_widths=(8, 4, 2),
            update_widths=(*[512] * 8, 256, 128, 64),
            periodic=False,
        ),
        rollout=Rollout(height=16, width=16, steps=15, loss_channels=(0, 1, 2)),
        optimizer=Settings(lr=0.06),
        batch_size=BATCH_SIZES[Preset.COLOUR_G],
        steps=3000,
    ),
    Preset.GAME_OF_LIFE_SMALL: _life(Preset.GAME_OF_LIFE_SMALL, kernels=8, update_widths=(16, 16, 16, 8, 4, 2, 1)),
    Preset.CHECKERBOARD_SMALL: _checkerboard(Preset.CHECKERBOARD_SMALL, update_widths=(*[256] * 4, 128, 64, 32, 16, 8)),
}
"""By the name a manifest gives them."""
