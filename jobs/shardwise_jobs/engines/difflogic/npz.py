"""Reading npz files that somebody else wrote: no pickle, and an error that names the array."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardwise_jobs.errors import BadInput

Array = NDArray[Any]


def read_arrays(path: Path) -> dict[str, Array]:
    """Return all arrays of a file.

    Raises:
        BadInput: it is not there, is no npz, is broken, or holds what only pickle could read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    return arrays_of(content, where=str(path))


def arrays_of(content: bytes, *, where: str) -> dict[str, Array]:
    """Return all arrays of a file's content; `where` names it in errors. Raises BadInput as `read_arrays`."""
    arrays = {}
    name = ""
    try:
        opened = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise BadInput(f"{where}: a single array, not an npz file")
        with opened as stored:
            for name in stored.files:
                arrays[name] = stored[name]
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
    ) as error:
        place = f"{where}: {name}" if name else where
        raise BadInput(f"{place}: not a readable npz file ({error})") from error
    return arrays


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Return the content of an npz file; the same arrays make the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
            # No time of writing: a file's digest speaks of its content.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    return stream.getvalue()


def text_of(array: Array, *, name: str) -> str:
    """Return the text that an array holds: one string, one byte string, or UTF-8 as numbers.

    Raises:
        BadInput: it holds none.
    """
    try:
        if array.dtype == np.uint8 and array.ndim == 1:
            return array.tobytes().decode("utf-8")
        if array.size == 1 and array.dtype.kind == "U":
            return str(array.item())
        if array.size == 1 and array.dtype.kind == "S":
            return bytes(array.item()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: not UTF-8 ({error})") from error
    raise BadInput(f"{name}: {array.dtype} of shape {array.shape}, expected one text")
