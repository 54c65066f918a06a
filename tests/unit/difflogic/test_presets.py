"""Presets are the table of the specification."""

from __future__ import annotations

import dataclasses

import pytest

from shardwise_api.difflogic import Preset
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS
from shardwise_jobs.engines.difflogic.model.optimizer import Settings

# lr, batch, optimiser steps, rollout, channels, grid, periodic, fire rate, kernels, update input, loss channels, gates,
# evaluations per cell and step.
TABLE = {
    Preset.GAME_OF_LIFE: (0.05, 20, 3000, 1, 1, (3, 3), True, None, 16, 17, (0,), 2543, 2543),
    Preset.CHECKERBOARD_SYNC: (0.05, 2, 500, 20, 8, (16, 16), False, None, 16, 264, (0,), 3040, 4608),
    Preset.CHECKERBOARD_ASYNC: (0.05, 1, 800, 50, 8, (14, 14), False, 0.6, 16, 264, (0,), 4064, 5632),
    Preset.LIZARD: (0.06, 1, 3500, 12, 128, (20, 20), True, None, 4, 640, (0,), 4540, 12160),
    Preset.COLOUR_G: (0.06, 1, 3000, 15, 64, (16, 16), False, None, 4, 576, (0, 1, 2), 4600, 8128),
    Preset.GAME_OF_LIFE_SMALL: (0.05, 20, 3000, 1, 1, (3, 3), True, None, 8, 9, (0,), 183, 183),
    Preset.CHECKERBOARD_SMALL: (0.05, 2, 500, 20, 8, (16, 16), False, None, 16, 264, (0,), 1496, 3064),
}
LAYERS = {
    Preset.GAME_OF_LIFE: ((8, 4, 2, 1), (*[128] * 17, 64, 32, 16, 8, 4, 2, 1)),
    Preset.CHECKERBOARD_SYNC: ((8, 4, 2), (*[256] * 10, 128, 64, 32, 16, 8, 8)),
    Preset.CHECKERBOARD_ASYNC: ((8, 4, 2), (*[256] * 14, 128, 64, 32, 16, 8, 8)),
    Preset.LIZARD: ((8, 4, 2, 1), (*[512] * 8, 256, 128)),
    Preset.COLOUR_G: ((8, 4, 2), (*[512] * 8, 256, 128, 64)),
    Preset.GAME_OF_LIFE_SMALL: ((8, 4, 2, 1), (16, 16, 16, 8, 4, 2, 1)),
    Preset.CHECKERBOARD_SMALL: ((8, 4, 2), (256, 256, 256, 256, 128, 64, 32, 16, 8)),
}


def test_every_preset_of_the_contract_is_there() -> None:
    assert set(PRESETS) == set(Preset) == set(TABLE) == set(LAYERS)


@pytest.mark.parametrize("preset", Preset)
def test_a_preset_is_its_column_of_the_table(preset: Preset) -> None:
    experiment = PRESETS[preset]
    model, rollout = experiment.model, experiment.rollout
    wired = model.wired(seed=experiment.seed)
    assert (
        experiment.optimizer.lr,
        experiment.batch_size,
        experiment.steps,
        rollout.steps,
        model.channels,
        (rollout.height, rollout.width),
        model.periodic,
        rollout.fire_rate,
        model.kernels,
        wired.features,
        rollout.loss_channels,
        wired.gates,
        wired.evaluations,
    ) == TABLE[preset]
    assert (wired.perceive_widths, wired.update_widths) == LAYERS[preset]
    assert experiment.optimizer == Settings(
        lr=experiment.optimizer.lr, clip=100, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.01
    )
    assert experiment.seed == 23


def test_a_fingerprint_tells_experiments_apart_but_not_how_long_they_go_on() -> None:
    base = PRESETS[Preset.GAME_OF_LIFE]
    others = [
        dataclasses.replace(base, seed=24),
        dataclasses.replace(base, optimizer=Settings(lr=0.06)),
        dataclasses.replace(base, model=dataclasses.replace(base.model, permute=False)),
        *(PRESETS[preset] for preset in Preset if preset is not Preset.GAME_OF_LIFE),
    ]
    prints = [base.fingerprint(dtype="f64"), base.fingerprint(dtype="f32")]
    prints += [other.fingerprint(dtype="f64") for other in others]
    assert len(set(prints)) == len(prints)
    assert dataclasses.replace(base, steps=6000).fingerprint(dtype="f64") == prints[0]
