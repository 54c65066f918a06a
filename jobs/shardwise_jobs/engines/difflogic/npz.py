"""Reading npz files that somebody else wrote: no pickle, and an error that names the array."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadInput

Array = NDArray[Any]
_SINGLE = b"\x93NUMPY"
_SMALL = 256 << 20
_MOST_RATIO = 50
"""Files of ours are not compressed; those of others are at most about so well, where they are large."""


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
    if content.startswith(_SINGLE):
        raise BadInput(f"{where}: a single array, not an npz file")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            room = most_bytes = max(_SMALL, _MOST_RATIO * len(content))
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                room -= _checked_bytes(archive, entry)
                if room < 0:
                    raise ValueError(f"the arrays have more than {most_bytes} bytes, far more than the file")
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                with archive.open(entry) as stored:
                    arrays[name] = np.lib.format.read_array(stored, allow_pickle=False)
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        MemoryError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
    ) as error:
        place = f"{where}: {name}" if name else where
        raise BadInput(f"{place}: not a readable npz file ({error})") from error
    return arrays


def _checked_bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Return an array's size; raise ValueError when it is declared to have another than what is stored of it.

    numpy reserves what an array is declared to have before it reads any of it.
    """
    with archive.open(entry) as stored:
        declared = _declared_bytes(stored)
        behind = entry.file_size - stored.tell()
    if declared != behind:
        raise ValueError(f"declared to have {declared} bytes, there are {behind}")
    return declared


def _declared_bytes(stored: IO[bytes]) -> int:
    version = np.lib.format.read_magic(stored)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stored)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    if min(shape, default=0) < 0:
        raise ValueError(f"an array has shape {shape}")
    return math.prod(shape) * dtype.itemsize


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
