"""Ids that follow from what a chunk is, so that a chunk written twice is one row and a link needs no look-up.

Parents and children are named by the same formula as rows: no shard has to ask another for an id, and the links between
the chunks of a document (previous = parent, next = child) come out the same in every shard.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shardwise_api.ingest import Dedup

from .chunk import Chunk

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a chunk stands."""

    document: str
    chunk_index: int
    cpe_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Ids of the chunks around a chunk, nearest first."""

    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()


def links_of(places: Sequence[Place | None]) -> list[Links]:
    """Return the links of each place, which is one per chunk of an input in its order; None is a chunk that failed.

    Within a document the order is that of `chunk_index`, and of the input where indexes are equal. Chunks that are the
    same row count once, where they come first.
    """
    documents: dict[str, list[tuple[int, UUID]]] = {}
    for place in places:
        if place is not None:
            documents.setdefault(place.document, []).append((place.chunk_index, place.cpe_id))
    found: dict[tuple[str, UUID], Links] = {}
    for document, members in documents.items():
        members.sort(key=lambda member: member[0])
        order = list(dict.fromkeys(cpe_id for _, cpe_id in members))
        for position, cpe_id in enumerate(order):
            found[document, cpe_id] = Links(
                parents=tuple(map(str, order[max(0, position - 1) : position])),
                children=tuple(map(str, order[position + 1 : position + 2])),
            )
    return [Links() if place is None else found[place.document, place.cpe_id] for place in places]


def linked(chunk: Chunk, neighbours: Links) -> Links:
    """Return the links to write: the chunk's own when its sender gave either list, else its neighbours."""
    if chunk.parent_cpe_ids is None and chunk.child_cpe_ids is None:
        return neighbours
    return Links(parents=tuple(chunk.parent_cpe_ids or ()), children=tuple(chunk.child_cpe_ids or ()))
