"""A manifest's fields make an experiment, or an error that names the one to mend."""

from __future__ import annotations

from typing import Any

import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise_api.difflogic import BATCH_SIZES, ClipMode, DifflogicEngine, Preset
from shardwise_jobs.engines.difflogic.experiments.experiment import experiment_of
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS

LIZARD = {"preset": "Lizard", "model": {"channels": 4, "kernels": 1, "updateWidths": [8, 4]}}


def engine(**fields: Any) -> DifflogicEngine:
    return DifflogicEngine.model_validate({"preset": "GameOfLifeSmall", "steps": 5, **fields})


@pytest.mark.parametrize("preset", Preset)
def test_a_preset_without_overrides_is_that_preset(preset: Preset) -> None:
    built = experiment_of(engine(preset=preset, steps=PRESETS[preset].steps))
    assert built == PRESETS[preset]
    assert built.batch_size == BATCH_SIZES[preset]


def test_overrides_replace_what_they_name_and_nothing_else() -> None:
    built = experiment_of(
        engine(
            preset="CheckerboardSmall",
            seed=7,
            batchSize=3,
            model={"kernels": 8, "updateWidths": [136, 68, 34, 17, 9, 8], "permute": False, "periodic": True},
            optimizer={"lr": 0.01, "clip": 5, "clipMode": "GlobalNorm", "b2": 0.5, "weightDecay": 0},
            rollout={"height": 9, "steps": 4, "fireRate": 0.5, "lossChannels": [0, 3]},
        )
    )
    preset = PRESETS[Preset.CHECKERBOARD_SMALL]
    assert (built.seed, built.batch_size, built.steps, built.data) == (7, 3, 5, "Checkerboard")
    assert (built.model.channels, built.model.perceive_widths) == (preset.model.channels, preset.model.perceive_widths)
    assert (built.model.kernels, built.model.permute, built.model.periodic) == (8, False, True)
    assert (built.rollout.height, built.rollout.width, built.rollout.steps) == (9, preset.rollout.width, 4)
    assert (built.rollout.fire_rate, built.rollout.loss_channels) == (0.5, (0, 3))
    settings = built.optimizer
    assert (settings.lr, settings.clip, settings.clip_mode) == (0.01, 5, ClipMode.GLOBAL_NORM)
    assert (settings.b1, settings.b2, settings.weight_decay, settings.eps) == (0.9, 0.5, 0, 1e-8)


def test_a_fire_rate_of_1_is_in_step() -> None:
    assert experiment_of(engine(preset="CheckerboardAsync", rollout={"fireRate": 1})).rollout.fire_rate is None


def test_a_sweeps_seed_replaces_the_manifests() -> None:
    assert experiment_of(engine(seed=5, sweep={"seeds": [8, 9]}), seed=9).seed == 9


def test_a_pattern_brings_its_grid_and_a_larger_grid_has_it_in_the_middle() -> None:
    rows = ["..##", "####", ".#.."]
    built = experiment_of(engine(**LIZARD, pattern=rows))
    assert (built.rollout.height, built.rollout.width, built.pattern) == (3, 4, tuple(rows))
    wider = experiment_of(engine(**LIZARD, pattern=rows, rollout={"width": 9}))
    assert (wider.rollout.height, wider.rollout.width) == (3, 9)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model": {"updateWidths": [8, 4, 2, 2]}}, "model.updateWidths: the last is 2, but a cell has 1 channels"),
        ({"model": {"channels": 2}}, "model.updateWidths: the last is 1, but a cell has 2 channels"),
        ({"model": {"updateWidths": [2, 1]}}, "model.updateWidths: 2 gates can't read 9 inputs"),
        ({"model": {"kernels": 300}}, "1 channels and 300 kernels make 301 inputs"),
        ({"model": {"updateWidths": [4096, 2048, 1024, 1]}}, "model.updateWidths: 9 inputs make 36 pairs"),
        ({"model": {"perceiveWidths": [9, 4, 2, 1]}}, "model.perceiveWidths: the first is 9, and a cell has 8"),
        ({"model": {"perceiveWidths": [8, 2]}}, "model.perceiveWidths: 2 gates can't read 8 inputs"),
        ({"rollout": {"lossChannels": [0, 1]}}, "rollout.lossChannels: 1, but a cell has channels 0 to 0"),
        ({"rollout": {"lossChannels": [0, 0]}}, "rollout.lossChannels: duplicate channel"),
        ({"seed": 2**63}, f"seed: {2**63} is beyond"),
        ({"optimizer": {"lr": float("inf")}}, "optimizer.lr: inf"),
        ({**LIZARD, "pattern": ["##", "##"], "rollout": {"height": 1}}, "rollout: a picture of 2x2 cells doesn't fit"),
        ({**LIZARD, "rollout": {"height": 5}}, "rollout: a picture of 20x20 cells doesn't fit a grid of 5x20"),
        (
            {
                "preset": "ColourG",
                "model": {"channels": 2, "updateWidths": [16, 8, 4, 2]},
                "rollout": {"lossChannels": [0]},
            },
            "model.channels: 2, but the picture has 3 bits per cell",
        ),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        experiment_of(engine(**fields))
    assert str(refused.value).startswith("spec.engine.difflogic.")
    assert named in str(refused.value)


def test_a_sweeps_seed_too_large_is_named_as_such() -> None:
    with pytest.raises(BadConfiguration, match=r"spec\.engine\.difflogic\.sweep\.seeds: "):
        experiment_of(engine(), seed=2**63)
