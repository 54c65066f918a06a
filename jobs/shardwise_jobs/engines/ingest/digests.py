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
    last = b""
    for key in keys:
        if key.cpe_id.bytes <= last:
            raise ValueError(f"row {key.cpe_id} is out of order")
        last = key.cpe_id.bytes
        codes = key.codes
        fields = [
            str(key.cpe_id),
            key.chunk_sha256,
            [codes.domain, codes.task, codes.modifier],
            key.tmd_backend,
            key.embed_model,
        ]
        yield json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"


def result_digest(keys: Iterable[RowKey]) -> str:
    """Return `sha256:…` over rows. Raises as `digest_lines`."""
    digest = hashlib.sha256()
    for line in digest_lines(keys):
        digest.update(line.encode("utf-8"))
    return f"sha256:{digest.hexdigest()}"


def vectors_digest(vectors: Iterable[StoredVector]) -> str:
    """Return `sha256:…` over ids and fused vectors (little-endian float32); holds between processors of one kind."""
    digest = hashlib.sha256()
    for vector in vectors:
        digest.update(vector.cpe_id.bytes)
        digest.update(vector.fused.astype("<f4", copy=False).tobytes())
    return f"sha256:{digest.hexdigest()}"
