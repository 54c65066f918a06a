"""From a question to rows: the question's vector, its neighbours in the index, and what the store knows of them."""

from __future__ import annotations

from dataclasses import dataclass

from shardwise.engine.errors import BadConfiguration

from .codes import Codes
from .embed.base import Embedder
from .index import VectorIndex
from .stores.base import RowStore
from .stores.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A row and how near it is, -1 to 1."""

    score: float
    row: Row


def search(
    text: str, *, index: VectorIndex, store: RowStore, embedder: Embedder, k: int = 10, codes: Codes | None = None
) -> list[Answer]:
    """Return the `k` rows nearest to a text, best first. For `codes` see `VectorIndex.search`.

    Raises:
        BadConfiguration: the index is of another model than the embedder, or has rows that the store lacks.
    """
    if index.manifest.model != embedder.name:
        raise BadConfiguration(f"index: it is of {index.manifest.model}, the text would be embedded by {embedder.name}")
    hits = index.search(embedder.embed([text])[0], k=k, codes=codes)
    rows = store.found(faiss_ids=[hit.faiss_id for hit in hits])
    missing = [hit.faiss_id for hit in hits if hit.faiss_id not in rows]
    if missing:
        raise BadConfiguration(f"index: {len(missing)} of {len(hits)} hits are no rows of this store")
    return [Answer(score=hit.score, row=rows[hit.faiss_id]) for hit in hits]
