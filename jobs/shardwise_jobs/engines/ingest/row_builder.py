"""From a chunk with its codes and its vector to the row that is stored.

A row's quality figures are as the system has them that reads the tables. They say how much of an extraction (concept,
question, answer, negatives) a row has. Without one they are nearly the same for all rows; programs that sort by them
find the columns filled.
"""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from .chunk import Chunk
from .source import Entry
from .stores import Row
from .tmd.base import TmdAnswer

_BATCHES = uuid.uuid5(uuid.NAMESPACE_DNS, "batch.ingest.shardwise.dev")


def row_of(
    entry: Entry,
    *,
    answer: TmdAnswer,
    vector: NDArray[np.float32],
    embed_model: str,
    dataset: str,
    run: str,
    shard: int,
) -> Row:
    """Return the row of an entry that has a chunk; `vector` is the text's, of unit length."""
    chunk = entry.chunk
    assert chunk is not None
    assert entry.cpe_id is not None
    metrics = quality_metrics(chunk.text, vector=vector)
    return Row(
        cpe_id=entry.cpe_id,
        source_chunk=chunk.text,
        codes=answer.codes,
        tmd_backend=answer.backend,
        tmd_confidence=answer.confidence,
        embed_model=embed_model,
        concept_vec=vector,
        dataset_source=dataset,
        chunk_position=position_of(chunk),
        run_uid=run,
        shard=shard,
        batch_id=None if chunk.document_id is None else batch_uuid(chunk.document_id),
        confidence_score=confidence_score(metrics),
        quality_metrics=metrics,
        parent_cpe_ids=entry.links.parents,
        child_cpe_ids=entry.links.children,
    )


def position_of(chunk: Chunk) -> dict[str, str | int | None]:
    """Return where a chunk stands, as column chunk_position has it."""
    return {
        "article_title": chunk.article_title,
        "article_index": chunk.article_index,
        "chunk_index": chunk.chunk_index,
        "source": chunk.source_document,
    }


def batch_uuid(name: str) -> UUID:
    """Return a batch's id: the UUID that its name is, or one that follows from it, since the column takes no other."""
    try:
        return UUID(name)
    except ValueError:
        return uuid.uuid5(_BATCHES, name)


_FIELDS = 5
_FILLED = 1
"""Of concept, question, answer, soft and hard negatives: the concept, which is the text itself."""
_DIGITS = 6


def quality_metrics(text: str, *, vector: NDArray[np.float32]) -> dict[str, Any]:
    """Return the metrics of a text without an extraction; `vector` is the text's."""
    return {
        "cpesh_completeness": _FILLED / _FIELDS,
        "vector_norm": round(float(np.linalg.norm(vector.astype(np.float64))), _DIGITS),
        "vector_dimension": len(vector),
        "text_length": len(text),
        "concept_length": len(text),
        "soft_negatives_count": 0,
        "hard_negatives_count": 0,
        "total_negatives": 0,
    }


def confidence_score(metrics: dict[str, Any]) -> float:
    """Return 0 to 1: completeness, length of the vector, negatives, and how much shorter the concept is."""
    score: float = 0.4 * metrics["cpesh_completeness"] + 0.1 * min(metrics["vector_norm"] / 10, 1)
    score += 0.3 * min(metrics["total_negatives"] / 5, 1)
    ratio = metrics["concept_length"] / max(1, metrics["text_length"])
    if 0.1 <= ratio <= 0.5:
        score += 0.2
    elif 0.05 <= ratio <= 0.8:
        score += 0.1
    return round(min(score, 1.0), _DIGITS)
