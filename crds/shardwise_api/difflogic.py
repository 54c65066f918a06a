"""The `engine.difflogic` block: cellular automata made of differentiable logic gates. No worker runs it yet."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .base import ApiModel
from .common import KubernetesObject


class Preset(StrEnum):
    """Known experiments."""

    GAME_OF_LIFE = "GameOfLife"
    CHECKERBOARD_SYNC = "CheckerboardSync"
    CHECKERBOARD_ASYNC = "CheckerboardAsync"
    LIZARD = "Lizard"
    COLOUR_G = "ColourG"
    GAME_OF_LIFE_SMALL = "GameOfLifeSmall"
    CHECKERBOARD_SMALL = "CheckerboardSmall"


class Dtype(StrEnum):
    """Precision of the computation."""

    F32 = "f32"
    F64 = "f64"


class Reduction(StrEnum):
    """How ranks add up gradients."""

    EXACT = "Exact"
    FAST = "Fast"


class Sweep(ApiModel):
    """One shard per seed: whether a training converges depends on its seed."""

    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=10_000)
    stop_on_first: bool = Field(default=True, description="The first seed that reaches hard error 0 ends the sweep.")


class DifflogicEngine(ApiModel):
    """Training of a logic-gate automaton, batch-parallel over MPI ranks."""

    preset: Preset
    steps: int = Field(ge=1)
    seed: int = Field(default=23, ge=0)
    dtype: Dtype = Dtype.F64
    reduction: Reduction = Field(default=Reduction.EXACT, description="Exact: the same bits with any number of ranks.")
    parallel_batch: bool = True
    checkpoint_every_steps: int = Field(default=50, ge=1)
    batch_size: int | None = Field(default=None, ge=1, description="Absent: the preset's.")
    model: KubernetesObject = Field(default_factory=dict, description="Overrides of the preset's circuit.")
    optimizer: KubernetesObject = Field(default_factory=dict, description="Overrides of the preset's optimiser.")
    rollout: KubernetesObject = Field(default_factory=dict, description="Overrides of the preset's rollout.")
    sweep: Sweep | None = None
