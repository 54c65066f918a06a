"""What two runs with the same result have in common: a digest over rows, and one over the numbers of their vectors.

Rows come in order of their ids, so neither shards nor restarts nor the order of writing show. Vectors have a digest of
their own: their last bits depend on the kind of processor, codes and texts do not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

from .stores.base import RowKey, StoredVector


def digest_lines(keys: Iterable[RowKey]) -> Iterator[str]:
    """Yield the lines that a result's digest is made of, one JSON list per row.

    Raises:
        ValueError: the rows are not in order of cpe_id, or one is there twice.
    """
    rows = ResultDigest()
    for key in keys:
        yield rows.add(key)


class ResultDigest:
    """`sha256:…` over rows that come one by one."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._last = b""

    def add(self, key: RowKey) -> str:
        """Add a row and return its line. Raises as `digest_lines`."""
        if key.cpe_id.bytes <= self._last:
            raise ValueError(f"row {key.cpe_id} is out of order")
        self._last = key.cpe_id.bytes
        codes = key.codes
        fields = [
            str(key.cpe_id),
            key.chunk_sha256,
            [codes.domain, codes.task, codes.modifier],
            key.tmd_backend,
            key.embed_model,
        ]
        line = json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"
        self._digest.update(line.encode("utf-8"))
        return line

    def __str__(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


class VectorsDigest:
    """`sha256:…` over ids and fused vectors (little-endian float32); holds between processors of one kind."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, vector: StoredVector) -> None:
        """Add a vector."""
        self._digest.update(vector.cpe_id.bytes)
        self._digest.update(vector.fused.astype("<f4", copy=False).tobytes())

    def __str__(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


def result_digest(keys: Iterable[RowKey]) -> str:
    """Return the digest of rows. Raises as `digest_lines`."""
    digest = ResultDigest()
    for key in keys:
        digest.add(key)
    return str(digest)


def vectors_digest(vectors: Iterable[StoredVector]) -> str:
    """Return the digest of vectors."""
    digest = VectorsDigest()
    for vector in vectors:
        digest.add(vector)
    return str(digest)
