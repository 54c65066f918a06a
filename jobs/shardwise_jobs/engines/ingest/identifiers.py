"""Ids that follow from what a chunk is, so that a chunk written twice is one row and a link needs no look-up.

Parents and children are named by the same formula as rows: no shard has to ask another for an id.
"""

from __future__ import annotations

import hashlib
import uuid

from shardwise_api.ingest import Dedup

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "ingest.shardwise.dev")
_SEPARATOR = "\x1f"
_LOW_63_BITS = (1 << 63) - 1


def chunk_sha256(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def cpe_id(
    *, dataset_source: str, document: str, chunk_index: int, text: str, dedup: Dedup = Dedup.POSITION
) -> uuid.UUID:
    """Return a chunk's id. `document` is the request's document_id, or source_document where it has none."""
    name = chunk_sha256(text)
    if dedup is Dedup.POSITION:
        # Neither a number nor hex digits hold the separator: two different chunks never make one name.
        name = _SEPARATOR.join((document, str(chunk_index), name))
    return uuid.uuid5(uuid.uuid5(_NAMESPACE, dataset_source), name)


def faiss_id(cpe_id: uuid.UUID) -> int:
    """Return the id of a row's vector in the index: 63 bits, as FAISS's ids are signed."""
    return int.from_bytes(hashlib.sha256(cpe_id.bytes).digest()[:8], "big") & _LOW_63_BITS
