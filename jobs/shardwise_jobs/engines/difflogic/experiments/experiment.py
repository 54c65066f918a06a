"""From a manifest to an experiment: a preset with whatever differs from it, checked before anything is trained.

Every field may be right by itself and wrong with the others; who reads the message should not have to guess which.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic.alias_generators import to_camel

from shardwise.engine.errors import BadConfiguration
from shardwise_api.base import ApiModel
from shardwise_api.difflogic import DifflogicEngine

from ..model import wiring
from ..model.optimizer import Settings
from . import data, patterns
from .presets import PRESETS, Experiment, Model, Rollout

FIELD = "spec.engine.difflogic"
MOST_SEED = 2**63 - 1
"""The largest number that an API server keeps, and that a draw's key takes."""


def experiment_of(spec: DifflogicEngine, *, seed: int | None = None) -> Experiment:
    """Return what a manifest asks for.

    Args:
        spec: the manifest's engine block.
        seed: one of a sweep's; None takes the manifest's.

    Raises:
        BadConfiguration: fields don't fit each other; the message names one by which to mend it.
    """
    preset = PRESETS[spec.preset]
    pattern = tuple(spec.pattern) if spec.pattern else None
    chosen = spec.seed if seed is None else seed
    if not 0 <= chosen <= MOST_SEED:
        raise BadConfiguration(f"{FIELD}.{'seed' if seed is None else 'sweep.seeds'}: {chosen} is beyond 2**63 - 1")
    experiment = dataclasses.replace(
        preset,
        model=dataclasses.replace(preset.model, **_given(spec.model)),
        rollout=_rollout(preset.rollout, spec, pattern),
        optimizer=_optimizer(preset.optimizer, spec),
        batch_size=spec.samples,
        steps=spec.steps,
        seed=chosen,
        pattern=pattern,
    )
    _check_model(experiment.model)
    _check_rollout(experiment)
    return experiment


def _given(overrides: ApiModel) -> dict[str, Any]:
    """Return the fields that differ from the preset, lists as tuples."""
    given = {name: getattr(overrides, name) for name in type(overrides).model_fields}
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if value is not None
    }


def _optimizer(preset: Settings, spec: DifflogicEngine) -> Settings:
    try:
        return dataclasses.replace(preset, **_given(spec.optimizer))
    except BadConfiguration as error:
        name, _, said = str(error).partition(":")
        raise BadConfiguration(f"{FIELD}.optimizer.{to_camel(name)}:{said}") from error


def _rollout(preset: Rollout, spec: DifflogicEngine, pattern: tuple[str, ...] | None) -> Rollout:
    given = _given(spec.rollout)
    if pattern is not None:
        try:
            height, width, _ = patterns.silhouette(pattern).shape
        except BadConfiguration as error:
            raise BadConfiguration(f"{FIELD}.{error}") from error
        # A grid larger than the pattern has it in its middle.
        given = {"height": height, "width": width, **given}
    if given.get("fire_rate") == 1:
        # All cells in step: no masks are drawn.
        given["fire_rate"] = None
    return dataclasses.replace(preset, **given)


def _check_model(model: Model) -> None:
    try:
        wiring.perception(model.perceive_widths, shuffler=None)
    except BadConfiguration as error:
        raise BadConfiguration(f"{FIELD}.model.perceiveWidths: {_bare(error)}") from error
    inputs = model.channels * (1 + model.kernels * model.perceive_widths[-1])
    if model.update_widths[-1] != model.channels:
        raise BadConfiguration(
            f"{FIELD}.model.updateWidths: the last is {model.update_widths[-1]}, but a cell has {model.channels} "
            f"channels ({FIELD}.model.channels)"
        )
    try:
        wiring.update(model.update_widths, inputs=inputs, shuffler=None)
    except BadConfiguration as error:
        told = f"{model.channels} channels and {model.kernels} kernels make {inputs} inputs of the first layer"
        raise BadConfiguration(f"{FIELD}.model.updateWidths: {_bare(error)}; {told}") from error


def _check_rollout(experiment: Experiment) -> None:
    channels, rollout = experiment.model.channels, experiment.rollout
    if too_large := [channel for channel in rollout.loss_channels if channel >= channels]:
        raise BadConfiguration(
            f"{FIELD}.rollout.lossChannels: {too_large[0]}, but a cell has channels 0 to {channels - 1}"
        )
    if len(set(rollout.loss_channels)) != len(rollout.loss_channels):
        raise BadConfiguration(f"{FIELD}.rollout.lossChannels: duplicate channel")
    try:
        data.sample(experiment, step=0, number=0)
    except BadConfiguration as error:
        raise BadConfiguration(f"{FIELD}.{error}") from error


def _bare(error: BadConfiguration) -> str:
    return str(error).partition("widths: ")[2] or str(error)
