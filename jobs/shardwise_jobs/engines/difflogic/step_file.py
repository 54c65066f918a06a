"""The arrays of `shardwise difflogic step`: read with care, since other programs write them to compare results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.engine.errors import BadConfiguration, BadInput

from .model.automaton import Automaton
from .model.gates import F64, GATES, Bools, Ints
from .model.optimizer import Settings
from .npz import Array, read_arrays, text_of

_NUMBERS = ("clip", "lr", "b1", "b2", "eps", "weight_decay")
_KEYS = {"periodic", "num_steps", "loss_channels", "n_perceive", "n_update", *_NUMBERS}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepInput:
    """One training step's givens."""

    automaton: Automaton
    logits: F64
    """Flat (gates, 16)."""
    settings: Settings
    x: F64
    """(batch, height, width, channels)."""
    y: F64
    fire: Bools | None
    """(batch, steps, height, width)."""
    loss_channels: Ints
    steps: int


def read_step(path: Path) -> StepInput:
    """Read a step's givens.

    Raises:
        BadInput: an array is missing, unknown, of a wrong shape or kind, or holds what makes no sense; the message
            names file and array.
    """
    arrays = read_arrays(path)
    try:
        return _parsed(arrays)
    except BadConfiguration as error:
        raise BadInput(f"{path}: {error}") from error


def _parsed(arrays: dict[str, Array]) -> StepInput:
    meta = _meta(_array(arrays, "meta"))
    perceive = [f"perceive_{{}}_{index}" for index in range(meta["n_perceive"])]
    update = [f"update_{{}}_{index}" for index in range(meta["n_update"])]
    known = {"meta", "x", "y", "fire"}
    known |= {name.format(kind) for name in (*perceive, *update) for kind in ("logits", "wires")}
    if unknown := sorted(arrays.keys() - known):
        raise BadInput(f"{unknown[0]}: unknown array (n_perceive {len(perceive)}, n_update {len(update)})")

    x = _floats(arrays, "x", dimensions=4)
    y = _floats(arrays, "y", dimensions=4)
    if 0 in x.shape:
        raise BadInput(f"x: shape {x.shape}, expected (batch, height, width, channels), none of them 0")
    if y.shape != x.shape:
        raise BadInput(f"y: shape {y.shape}, expected that of x, {x.shape}")
    channels = meta["loss_channels"]
    if not channels or not all(0 <= channel < x.shape[3] for channel in channels) or len(set(channels)) < len(channels):
        raise BadInput(f"meta: loss_channels: {channels}, expected different numbers below {x.shape[3]}")

    perceive_logits = [_floats(arrays, name.format("logits"), dimensions=3) for name in perceive]
    update_logits = [_floats(arrays, name.format("logits"), dimensions=2) for name in update]
    kernels = perceive_logits[0].shape[0]
    automaton = Automaton(
        channels=x.shape[3],
        kernels=kernels,
        periodic=meta["periodic"],
        perceive_wires=tuple(_wires(arrays, name.format("wires")) for name in perceive),
        update_wires=tuple(_wires(arrays, name.format("wires")) for name in update),
    )
    for name, logits, width in zip(perceive, perceive_logits, automaton.perceive_widths, strict=True):
        _check_shape(name.format("logits"), logits, (kernels, width, GATES))
    for name, logits, width in zip(update, update_logits, automaton.update_widths, strict=True):
        _check_shape(name.format("logits"), logits, (width, GATES))
    return StepInput(
        automaton=automaton,
        logits=automaton.flat(perceive_logits, update_logits),
        settings=Settings(**{name: meta[name] for name in _NUMBERS}),
        x=x,
        y=y,
        fire=_fire(arrays, (x.shape[0], meta["num_steps"], *x.shape[1:3])) if "fire" in arrays else None,
        loss_channels=np.array(channels, dtype=np.int64),
        steps=meta["num_steps"],
    )


def _meta(array: Array) -> dict[str, Any]:
    try:
        meta = json.loads(text_of(array, name="meta"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"meta: not JSON ({error})") from error
    if not isinstance(meta, dict):
        raise BadInput("meta: not a JSON object")
    if unknown := sorted(meta.keys() - _KEYS):
        raise BadInput(f"meta: unknown key {unknown[0]!r} (known: {', '.join(sorted(_KEYS))})")
    if missing := sorted(_KEYS - meta.keys()):
        raise BadInput(f"meta: {', '.join(missing)} missing")
    if not isinstance(meta["periodic"], bool):
        raise BadInput(f"meta: periodic: {meta['periodic']!r}, expected true or false")
    for key in ("num_steps", "n_perceive", "n_update"):
        if not _is_whole(meta[key]) or not 1 <= meta[key] <= 100_000:
            raise BadInput(f"meta: {key}: {meta[key]!r}, expected a whole number of 1 or more")
    for key in _NUMBERS:
        if not isinstance(meta[key], int | float) or isinstance(meta[key], bool):
            raise BadInput(f"meta: {key}: {meta[key]!r}, expected a number")
    channels = meta["loss_channels"]
    if not isinstance(channels, list) or not all(_is_whole(channel) for channel in channels):
        raise BadInput(f"meta: loss_channels: {channels!r}, expected a list of whole numbers")
    return meta


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _array(arrays: dict[str, Array], name: str) -> Array:
    if name not in arrays:
        raise BadInput(f"{name}: missing")
    return arrays[name]


def _floats(arrays: dict[str, Array], name: str, *, dimensions: int) -> F64:
    array = _array(arrays, name)
    if array.dtype.kind not in "fiub":
        raise BadInput(f"{name}: {array.dtype}, expected numbers")
    if array.ndim != dimensions:
        raise BadInput(f"{name}: shape {array.shape}, expected {dimensions} dimensions")
    floats = array.astype(np.float64)
    if not np.isfinite(floats).all():
        raise BadInput(f"{name}: holds NaN or infinity")
    return floats


def _wires(arrays: dict[str, Array], name: str) -> Ints:
    array = _array(arrays, name)
    if array.dtype.kind not in "iu":
        raise BadInput(f"{name}: {array.dtype}, expected whole numbers")
    return array.astype(np.int64)


def _fire(arrays: dict[str, Array], shape: tuple[int, ...]) -> Bools:
    array = arrays["fire"]
    _check_shape("fire", array, shape)
    if array.dtype.kind not in "fiub" or not np.isin(array, (0, 1)).all():
        raise BadInput("fire: expected 0 and 1, or true and false")
    return array.astype(np.bool_)


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise BadInput(f"{name}: shape {array.shape}, expected {shape}")
