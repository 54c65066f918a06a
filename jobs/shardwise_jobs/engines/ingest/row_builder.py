"""From a chunk with its codes and its vector to the row that is stored."""

from __future__ import annotations

import uuid
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from .chunk import Chunk
from .quality import confidence_score, quality_metrics
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
