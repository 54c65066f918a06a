"""Reads weights from a safetensors file: a length, a JSON header, numbers. Nothing in such a file can be run."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadConfiguration

_LENGTH_BYTES = 8
_FLOAT_BYTES = 4


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the float32 tensors of a file by name; tensors of other types are left out.

    Raises:
        BadConfiguration: the file can't be read, or is none.
    """
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
        length = int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length].tobytes())
        data = content[_LENGTH_BYTES + length :]
        return {
            name: _tensor(data, shape=about["shape"], offsets=about["data_offsets"])
            for name, about in header.items()
            if name != "__metadata__" and about["dtype"] == "F32"
        }
    except OSError as error:
        raise BadConfiguration(f"weights {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadConfiguration(f"weights {path}: not a safetensors file: {error}") from error


def _tensor(data: NDArray[np.uint8], *, shape: list[int], offsets: list[int]) -> NDArray[np.float32]:
    begin, end = offsets
    if not 0 <= begin <= end <= len(data) or end - begin != _FLOAT_BYTES * prod(shape):
        raise ValueError(f"offsets {offsets} of shape {shape} are not within its {len(data)} bytes")
    return np.frombuffer(data[begin:end].tobytes(), dtype="<f4").reshape(shape)
