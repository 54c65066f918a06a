"""Two results are the same when their digests are, and each part of a row shows in it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.finalize import digest_lines, result_digest, vectors_digest
from shardwise_jobs.engines.ingest.stores import RowKey, StoredVector

KEY = RowKey(
    cpe_id=UUID(int=1), chunk_sha256="ab" * 32, codes=Codes(2, 5, 10), tmd_backend="embedded:1", embed_model="onnx:m"
)
VECTOR = StoredVector(cpe_id=UUID(int=1), faiss_id=7, fused=np.array([1.0, 0.5], dtype=np.float32))


def test_a_line_holds_id_text_codes_backend_and_model() -> None:
    assert list(digest_lines([KEY])) == [
        '["00000000-0000-0000-0000-000000000001","' + "ab" * 32 + '",[2,5,10],"embedded:1","onnx:m"]\n'
    ]


def test_the_digest_is_that_of_the_lines() -> None:
    keys = [KEY, replace(KEY, cpe_id=UUID(int=2))]
    text = "".join(digest_lines(keys))
    assert result_digest(keys) == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert result_digest([]) == f"sha256:{hashlib.sha256(b'').hexdigest()}"


@pytest.mark.parametrize(
    "change",
    [
        {"cpe_id": UUID(int=2)},
        {"chunk_sha256": "cd" * 32},
        {"codes": Codes(2, 5, 11)},
        {"tmd_backend": "ollama:tiny"},
        {"embed_model": "onnx:other"},
    ],
)
def test_every_part_shows(change: dict[str, Any]) -> None:
    assert result_digest([replace(KEY, **change)]) != result_digest([KEY])


def test_no_name_can_pass_for_two() -> None:
    pairs = (('a","b', "c"), ("a", 'b","c'))
    one, other = (replace(KEY, tmd_backend=backend, embed_model=model) for backend, model in pairs)
    assert result_digest([one]) != result_digest([other])


@pytest.mark.parametrize("second", [0, 1])
def test_rows_out_of_order_or_twice_have_no_digest(second: int) -> None:
    with pytest.raises(ValueError, match="out of order"):
        result_digest([KEY, replace(KEY, cpe_id=UUID(int=second))])


def test_one_bit_of_a_vector_shows() -> None:
    other = VECTOR.fused.copy()
    other[1] = np.nextafter(other[1], np.float32(1))
    assert vectors_digest([replace(VECTOR, fused=other)]) != vectors_digest([VECTOR])
    assert (
        vectors_digest([VECTOR]) == f"sha256:{hashlib.sha256(UUID(int=1).bytes + VECTOR.fused.tobytes()).hexdigest()}"
    )
