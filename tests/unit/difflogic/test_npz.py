"""npz files of others: what they declare is compared with what is there before any memory is reserved for it."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest

from shardwise.engine.errors import BadInput
from shardwise_jobs.engines.difflogic.npz import arrays_of, npz_bytes

_MIB = 1 << 20


def _npz(*, declared: int, zeros: int, descr: str = "|u1") -> bytes:
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': ({declared},), }}\n".encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("logits.npy", "w") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head)
        for _ in range(zeros // _MIB):
            file.write(bytes(_MIB))
        file.write(bytes(zeros % _MIB))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_npz(declared=10**11, zeros=100), r"declared to have 100000000000 bytes, there are 100"),
        (_npz(declared=1, zeros=100), r"declared to have 1 bytes, there are 100"),
        (_npz(declared=2**62, zeros=16, descr="<f8"), r"declared to have \d+ bytes, there are 16"),
        (_npz(declared=-1, zeros=0), r"an array has shape"),
        (
            _npz(declared=300 * _MIB, zeros=300 * _MIB),
            r"the arrays have more than 268435456 bytes, far more than the file",
        ),
    ],
    ids=["declared", "too little", "overflow", "negative", "bomb"],
)
def test_what_is_declared_costs_nothing(content: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=rf"x\.npz: logits: not a readable npz file \({reason}"):
            arrays_of(content, where="x.npz")
        assert tracemalloc.get_traced_memory()[1] < 16 * _MIB
    finally:
        tracemalloc.stop()


def test_files_of_ours_and_compressed_ones_are_read() -> None:
    arrays: dict[str, Any] = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.array("text"),
        "c": np.zeros((0, 3), dtype=np.int64),
    }
    compressed = io.BytesIO()
    np.savez_compressed(compressed, **arrays)
    for content in (npz_bytes(arrays), compressed.getvalue()):
        found = arrays_of(content, where="x.npz")
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
