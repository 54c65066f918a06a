"""Where a training stands, as a file: whole or absent, and refused when it is another experiment's or broken.

Random numbers have no state but seed and step, so that logits, moments and the step are all that a training needs to go
on; its losses so far, the last verdict, the wires and the experiment are there for who looks at it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardwise.engine.errors import BadInput

from ..model.automaton import Automaton
from ..model.gates import F64, GATES
from ..model.optimizer import State
from ..npz import Array, arrays_of, npz_bytes, text_of

FILE = "checkpoint.npz"
FORMAT = "shardwise-difflogic-checkpoint-1"
HISTORY_COLUMNS = ("step", "softLoss", "hardLoss", "hardAccuracy")
_REQUIRED = ("format", "experiment", "step", "logits", "m", "v", "history", "verdict", "checksum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a trial of the whole hard circuit found."""

    step: int
    wrong: int
    total: int
    unit: str
    """What was counted."""

    @property
    def solved(self) -> bool:
        """Whether it found no error."""
        return self.wrong == 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A training's state, its losses so far (rows, 4: `HISTORY_COLUMNS`) and its last verdict."""

    state: State
    history: F64
    verdict: Verdict | None = None


def digest_of(*, logits: F64, step: int) -> str:
    """Return SHA-256 over the logits (float64, little-endian, flat order) and the step (eight bytes, little-endian)."""
    content = np.ascontiguousarray(logits, dtype="<f8").tobytes() + step.to_bytes(8, "little")
    return hashlib.sha256(content).hexdigest()


def to_bytes(checkpoint: Checkpoint, *, experiment: Mapping[str, Any], automaton: Automaton) -> bytes:
    """Return a checkpoint as a file's content; `experiment` is the document of what is trained."""
    state, verdict = checkpoint.state, checkpoint.verdict
    told = None if verdict is None else [verdict.step, verdict.wrong, verdict.total, verdict.unit]
    arrays: dict[str, Array] = {
        "format": np.array(FORMAT),
        "experiment": _text(experiment),
        "step": np.array(state.step, dtype=np.int64),
        "logits": state.logits,
        "m": state.m,
        "v": state.v,
        "history": checkpoint.history,
        "verdict": _text(told),
        **dict(_wires(automaton)),
    }
    arrays["checksum"] = np.array(_checksum(arrays))
    return npz_bytes(arrays)


def from_bytes(content: bytes, *, name: str, experiment: Mapping[str, Any], automaton: Automaton) -> Checkpoint:
    """Return what a file's content holds; `name` is the file's, for errors.

    Raises:
        BadInput: it is broken, or of another experiment; the message names the fields that differ.
    """
    checkpoint, told, arrays = opened(content, name=name)
    if differences := list(_differences(told, experiment)):
        raise BadInput(
            f"{name}: a checkpoint of another experiment: {'; '.join(differences[:4])}; to begin anew, take another "
            "output folder or remove the file"
        )
    for key, wires in _wires(automaton):
        if key not in arrays or not np.array_equal(arrays[key], wires):
            raise BadInput(f"{name}: {key}: not the wires that this version draws from the seed")
    for key in ("logits", "m", "v"):
        if arrays[key].shape != (automaton.gates, GATES):
            raise BadInput(f"{name}: {key}: shape {arrays[key].shape}, expected ({automaton.gates}, {GATES})")
    return checkpoint


def opened(content: bytes, *, name: str) -> tuple[Checkpoint, dict[str, Any], dict[str, Array]]:
    """Return any experiment's checkpoint, the document of its experiment, and all its arrays.

    Raises:
        BadInput: it is no checkpoint, or broken.
    """
    arrays = arrays_of(content, where=name)
    if missing := sorted(set(_REQUIRED) - arrays.keys()):
        raise BadInput(f"{name}: no checkpoint, {', '.join(missing)} missing")
    told = text_of(arrays["format"], name=f"{name}: format")
    if told != FORMAT:
        raise BadInput(f"{name}: a checkpoint of format {told!r}, expected {FORMAT!r}")
    if text_of(arrays["checksum"], name=f"{name}: checksum") != _checksum(arrays):
        raise BadInput(f"{name}: broken, its checksum is another")
    for key in ("logits", "m", "v", "history"):
        if arrays[key].dtype != np.float64 or arrays[key].ndim != 2:
            raise BadInput(f"{name}: {key}: {arrays[key].dtype} of shape {arrays[key].shape}, expected f64 (n, m)")
        if not np.isfinite(arrays[key]).all():
            raise BadInput(f"{name}: {key}: not finite")
    experiment, verdict = _json(arrays, "experiment", name=name), _json(arrays, "verdict", name=name)
    try:
        checkpoint = Checkpoint(
            state=State(logits=arrays["logits"], m=arrays["m"], v=arrays["v"], step=int(arrays["step"])),
            history=arrays["history"].reshape(-1, len(HISTORY_COLUMNS)),
            verdict=None
            if verdict is None
            else Verdict(step=verdict[0], wrong=verdict[1], total=verdict[2], unit=verdict[3]),
        )
    except (TypeError, ValueError, LookupError) as error:
        raise BadInput(f"{name}: no checkpoint ({error})") from error
    return checkpoint, experiment, arrays


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, within: str = "") -> Iterator[str]:
    for key in sorted(theirs.keys() | ours.keys()):
        there, here = theirs.get(key), ours.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            yield from _differences(there, here, within=f"{within}{key}.")
        elif there != here:
            yield f"{within}{key} is {_short(there)} there and {_short(here)} here"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _wires(automaton: Automaton) -> Iterator[tuple[str, Array]]:
    for circuit, layers in (("perceive", automaton.perceive_wires), ("update", automaton.update_wires)):
        for index, wires in enumerate(layers):
            yield f"{circuit}_wires_{index}", wires


def _text(value: object) -> Array:
    # As bytes: an array of text takes four per letter.
    return np.frombuffer(json.dumps(value, sort_keys=True).encode(), dtype=np.uint8)


def _json(arrays: Mapping[str, Array], key: str, *, name: str) -> Any:
    try:
        return json.loads(text_of(arrays[key], name=f"{name}: {key}"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name}: {key}: not JSON ({error})") from error


def _checksum(arrays: Mapping[str, Array]) -> str:
    """Return SHA-256 over names and contents; the archive's own CRC guards each array, this one the set."""
    total = hashlib.sha256()
    for name in sorted(arrays.keys() - {"checksum"}):
        array = arrays[name]
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
