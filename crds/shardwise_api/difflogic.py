"""The `engine.difflogic` block: cellular automata made of differentiable logic gates, trained by ranks or by seeds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from .base import ApiModel, Rule

MAX_BATCH = 4096
"""So many samples an exact sum holds."""
Width = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0)]


class Preset(StrEnum):
    """Known experiments."""

    GAME_OF_LIFE = "GameOfLife"
    CHECKERBOARD_SYNC = "CheckerboardSync"
    CHECKERBOARD_ASYNC = "CheckerboardAsync"
    LIZARD = "Lizard"
    COLOUR_G = "ColourG"
    GAME_OF_LIFE_SMALL = "GameOfLifeSmall"
    CHECKERBOARD_SMALL = "CheckerboardSmall"


BATCH_SIZES = {
    Preset.GAME_OF_LIFE: 20,
    Preset.CHECKERBOARD_SYNC: 2,
    Preset.CHECKERBOARD_ASYNC: 1,
    Preset.LIZARD: 1,
    Preset.COLOUR_G: 1,
    Preset.GAME_OF_LIFE_SMALL: 20,
    Preset.CHECKERBOARD_SMALL: 2,
}
"""Samples of a batch. Here, and not with the presets' other numbers, because an API server judges ranks by it."""


class Dtype(StrEnum):
    """Precision of the computation."""

    F32 = "f32"
    F64 = "f64"


class Reduction(StrEnum):
    """How ranks add up gradients."""

    EXACT = "Exact"
    FAST = "Fast"


class ClipMode(StrEnum):
    """What of a gradient is held within the limit."""

    VALUE = "Value"
    GLOBAL_NORM = "GlobalNorm"


class Sweep(ApiModel):
    """One shard per seed: whether a training converges depends on its seed."""

    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=256)
    stop_on_first: bool = Field(
        default=True,
        description="The first seed that reaches hard error 0 ends the sweep; which one that is depends on the time "
        "each takes. false: all seeds are trained, and the one that needed the fewest steps wins.",
    )

    rules: ClassVar = (
        Rule(
            expression="self.seeds.all(s, self.seeds.exists_one(t, t == s))",
            message="duplicate seed",
            field="seeds",
        ),
    )


class ModelOverrides(ApiModel):
    """What differs from the preset's circuit."""

    channels: Width | None = Field(default=None, description="Bits of a cell.")
    kernels: Width | None = Field(default=None, description="Perception circuits that read each channel.")
    perceive_widths: list[Width] | None = Field(
        default=None, min_length=1, max_length=64, description="Gates per layer of a perception circuit; first up to 8."
    )
    update_widths: list[Width] | None = Field(
        default=None, min_length=1, max_length=64, description="Gates per layer of the update circuit; last = channels."
    )
    periodic: bool | None = Field(default=None, description="true: the grid is a torus; false: zeros lie around it.")
    permute: bool | None = Field(default=None, description="Whether gates are wired in a random order.")


class OptimizerOverrides(ApiModel):
    """What differs from the preset's AdamW."""

    lr: Positive | None = None
    clip: Positive | None = None
    clip_mode: ClipMode | None = None
    b1: float | None = Field(default=None, ge=0, lt=1)
    b2: float | None = Field(default=None, ge=0, lt=1)
    eps: Positive | None = None
    weight_decay: float | None = Field(default=None, ge=0)


class RolloutOverrides(ApiModel):
    """What differs from the preset's grid and time."""

    height: int | None = Field(default=None, ge=1, le=1024)
    width: int | None = Field(default=None, ge=1, le=1024)
    steps: int | None = Field(default=None, ge=1, le=10_000, description="Steps of the automaton.")
    fire_rate: float | None = Field(
        default=None, gt=0, le=1, description="Chance of a cell to take its new state; 1: all do, in step."
    )
    loss_channels: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1, max_length=4096)


class DifflogicEngine(ApiModel):
    """Training of a logic-gate automaton, batch-parallel over MPI ranks (one per shard) or one seed per shard."""

    preset: Preset
    steps: int = Field(ge=1, le=10_000_000, description="Optimiser steps at most.")
    seed: int = Field(default=23, ge=0, description="Of wiring and data.")
    dtype: Dtype = Dtype.F64
    reduction: Reduction = Field(default=Reduction.EXACT, description="Exact: the same bits with any number of ranks.")
    parallel_batch: bool = Field(
        default=True, description="A rank computes its samples side by side; false: one after another, for debugging."
    )
    accumulate_chunk: int | None = Field(
        default=None, ge=1, le=MAX_BATCH, description="Samples that are computed before they are added up; absent: all."
    )
    max_samples_in_flight: int | None = Field(
        default=None, ge=1, le=MAX_BATCH, description="Absent: as many as a worker has cores, and its memory holds."
    )
    checkpoint_every_steps: int = Field(default=50, ge=1)
    evaluate_every_steps: int = Field(
        default=25, ge=1, description="How often the trained circuit is tried whole: all 512 boards of Game of Life."
    )
    stop_when_solved: bool = Field(
        default=False, description="End as soon as a trial finds no error; a sweep's seeds always do."
    )
    batch_size: int | None = Field(default=None, ge=1, le=MAX_BATCH, description="Absent: the preset's.")
    pattern: list[Annotated[str, Field(max_length=256)]] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="With preset Lizard: what grows instead of it, rows of '.' and '#' of one length.",
    )
    model: ModelOverrides = Field(default_factory=ModelOverrides)
    optimizer: OptimizerOverrides = Field(default_factory=OptimizerOverrides)
    rollout: RolloutOverrides = Field(default_factory=RolloutOverrides)
    sweep: Sweep | None = None

    rules: ClassVar = (
        Rule(
            expression="!has(self.pattern) || self.preset == 'Lizard'",
            message="only preset Lizard grows a pattern",
            field="pattern",
        ),
        Rule(
            expression="!has(self.pattern) || self.pattern.all(row, row.matches('^[.#]{1,256}$') "
            "&& row.size() == self.pattern[0].size())",
            message="rows of '.' and '#', all of one length",
            field="pattern",
        ),
    )

    @property
    def samples(self) -> int:
        """Samples of a batch."""
        return self.batch_size or BATCH_SIZES[self.preset]
