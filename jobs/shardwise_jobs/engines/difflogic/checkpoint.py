"""Where a training stands, as a file: whole or absent, and refused when it is another experiment's or broken.

Random numbers have no state but seed and step, so that logits, moments and the step are all there is to keep.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from shardwise_jobs.errors import BadInput
from shardwise_jobs.files import atomic_write

from .gates import F64, GATES
from .npz import Array, npz_bytes, read_arrays, text_of
from .optimizer import State

FORMAT = "shardwise-difflogic-checkpoint-1"


def digest_of(*, logits: F64, step: int) -> str:
    """Return SHA-256 over the logits (float64, little-endian, flat order) and the step (eight bytes, little-endian)."""
    content = np.ascontiguousarray(logits, dtype="<f8").tobytes() + step.to_bytes(8, "little")
    return hashlib.sha256(content).hexdigest()


def save(path: Path, *, state: State, fingerprint: str) -> None:
    """Write a checkpoint; a reader sees the old one or the new one."""
    arrays: dict[str, Array] = {
        "format": np.array(FORMAT),
        "fingerprint": np.array(fingerprint),
        "step": np.array(state.step, dtype=np.int64),
        "logits": state.logits,
        "m": state.m,
        "v": state.v,
    }
    arrays["checksum"] = np.array(_checksum(arrays))
    atomic_write(path, npz_bytes(arrays))


def load(path: Path, *, fingerprint: str, gates: int) -> State:
    """Return the state a checkpoint holds.

    Raises:
        BadInput: it is missing, broken, or of another experiment.
    """
    arrays = read_arrays(path)
    missing = {"format", "fingerprint", "step", "logits", "m", "v", "checksum"} - arrays.keys()
    if missing:
        raise BadInput(f"{path}: no checkpoint, {', '.join(sorted(missing))} missing")
    told = text_of(arrays["format"], name=f"{path}: format")
    if told != FORMAT:
        raise BadInput(f"{path}: a checkpoint of format {told!r}, expected {FORMAT!r}")
    if text_of(arrays["checksum"], name=f"{path}: checksum") != _checksum(arrays):
        raise BadInput(f"{path}: broken, its checksum is another")
    if text_of(arrays["fingerprint"], name=f"{path}: fingerprint") != fingerprint:
        raise BadInput(f"{path}: a checkpoint of another experiment (model, data, seed, optimiser or dtype differ)")
    for name in ("logits", "m", "v"):
        if arrays[name].shape != (gates, GATES) or arrays[name].dtype != np.float64:
            raise BadInput(
                f"{path}: {name}: {arrays[name].dtype} of shape {arrays[name].shape}, expected f64 ({gates}, 16)"
            )
        if not np.isfinite(arrays[name]).all():
            raise BadInput(f"{path}: {name}: not finite")
    return State(logits=arrays["logits"], m=arrays["m"], v=arrays["v"], step=int(arrays["step"]))


def _checksum(arrays: dict[str, Array]) -> str:
    """Return SHA-256 over names and contents; the archive's own CRC guards each array, this one the set."""
    total = hashlib.sha256()
    for name in sorted(arrays.keys() - {"checksum"}):
        array = arrays[name]
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
