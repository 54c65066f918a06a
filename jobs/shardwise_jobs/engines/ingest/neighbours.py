"""Which chunks of a document are neighbours: previous = parent, next = child.

Ids follow from the chunks, so links need no look-up in a store and come out the same in every shard, whichever chunks
it works on itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from .chunk import Chunk


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
