"""A row: everything that is kept of one chunk, and how it is laid out as columns of either store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from shardwise_jobs.engines.ingest import identifiers
from shardwise_jobs.engines.ingest.codes import Codes


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One chunk with its codes and its vector. What follows from other fields is no field."""

    cpe_id: UUID
    source_chunk: str
    """The chunk's text."""
    codes: Codes
    tmd_backend: str
    """Who gave the codes, with the model and without its address: it goes into the result's digest."""
    tmd_confidence: float | None
    embed_model: str
    concept_vec: NDArray[np.float32]
    """The text's vector, of unit length."""
    dataset_source: str
    chunk_position: Mapping[str, Any]
    """article_title, article_index, chunk_index, source."""
    run_uid: str
    shard: int
    concept_text: str | None = None
    """The text, unless an extraction found a shorter one."""
    mission_text: str = ""
    probe_question: str = ""
    expected_answer: str = ""
    content_type: str = "factual"
    """factual, math, instruction or narrative."""
    relations_text: Any = None
    echo_score: float | None = None
    validation_status: str = "pending"
    """passed, failed or pending."""
    batch_id: UUID | None = None
    soft_negatives: Sequence[str] = ()
    hard_negatives: Sequence[str] = ()
    confidence_score: float | None = None
    quality_metrics: Mapping[str, Any] = field(default_factory=dict)
    parent_cpe_ids: Sequence[str] = ()
    child_cpe_ids: Sequence[str] = ()
    created_at: datetime | None = None
    """The store's clock gives it when the row is written."""
    last_accessed_at: datetime | None = None
    access_count: int = 0

    @cached_property
    def faiss_id(self) -> int:
        """The id of the vector in an index."""
        return identifiers.faiss_id(self.cpe_id)

    @cached_property
    def chunk_sha256(self) -> str:
        """SHA-256 of the text, in hex."""
        return identifiers.chunk_sha256(self.source_chunk)

    @cached_property
    def fused_vec(self) -> NDArray[np.float32]:
        """The text's vector, then the codes' 16 numbers."""
        return fuse(self.concept_vec, codes=self.codes)

    @cached_property
    def fused_norm(self) -> float:
        """The length of the fused vector."""
        return float(np.linalg.norm(self.fused_vec.astype(np.float64)))


def fuse(vector: NDArray[np.float32], *, codes: Codes, tmd_weight: float = 1.0) -> NDArray[np.float32]:
    """Return a text's vector followed by its codes' numbers, those times `tmd_weight`."""
    return np.concatenate([vector, codes.dense() * np.float32(tmd_weight)]).astype(np.float32, copy=False)


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return rows by cpe_id, each id once (the first of it): two writers then lock in one order."""
    first: dict[UUID, Row] = {}
    for row in rows:
        first.setdefault(row.cpe_id, row)
    return [first[cpe_id] for cpe_id in sorted(first, key=lambda cpe_id: cpe_id.bytes)]


def dump(value: object) -> str:
    """Return compact JSON text; a number that JSON has no word for is a ValueError."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


ENTRY_COLUMNS = (
    "cpe_id",
    "mission_text",
    "source_chunk",
    "concept_text",
    "probe_question",
    "expected_answer",
    "domain_code",
    "task_code",
    "modifier_code",
    "content_type",
    "dataset_source",
    "chunk_position",
    "relations_text",
    "echo_score",
    "validation_status",
    "batch_id",
    "created_at",
    "tmd_bits",
    "tmd_lane",
    "lane_index",
    "soft_negatives",
    "hard_negatives",
    "last_accessed_at",
    "access_count",
    "confidence_score",
    "quality_metrics",
    "parent_cpe_ids",
    "child_cpe_ids",
    "run_uid",
    "shard",
    "chunk_sha256",
    "faiss_id",
    "tmd_backend",
    "tmd_confidence",
    "embed_model",
)
VECTOR_COLUMNS = ("cpe_id", "fused_vec", "concept_vec", "tmd_dense", "fused_norm")


def entry_values(row: Row) -> tuple[Any, ...]:
    """Return a row's values in the order of ENTRY_COLUMNS; JSON columns as text."""
    codes = row.codes
    return (
        row.cpe_id,
        row.mission_text,
        row.source_chunk,
        row.source_chunk if row.concept_text is None else row.concept_text,
        row.probe_question,
        row.expected_answer,
        codes.domain,
        codes.task,
        codes.modifier,
        row.content_type,
        row.dataset_source,
        dump(row.chunk_position),
        None if row.relations_text is None else dump(row.relations_text),
        row.echo_score,
        row.validation_status,
        row.batch_id,
        row.created_at,
        codes.compact(),
        codes.lane,
        codes.lane_index,
        dump(list(row.soft_negatives)),
        dump(list(row.hard_negatives)),
        row.last_accessed_at,
        row.access_count,
        row.confidence_score,
        dump(dict(row.quality_metrics)),
        dump(list(row.parent_cpe_ids)),
        dump(list(row.child_cpe_ids)),
        row.run_uid,
        row.shard,
        row.chunk_sha256,
        row.faiss_id,
        row.tmd_backend,
        row.tmd_confidence,
        row.embed_model,
    )


def row_from_values(values: Mapping[str, Any], *, concept_vec: NDArray[np.float32]) -> Row:
    """Return the row of a store's columns by name; JSON columns as text, ids and times as they are."""
    return Row(
        cpe_id=values["cpe_id"],
        source_chunk=values["source_chunk"],
        codes=Codes(values["domain_code"], values["task_code"], values["modifier_code"]),
        tmd_backend=values["tmd_backend"],
        tmd_confidence=values["tmd_confidence"],
        embed_model=values["embed_model"],
        concept_vec=concept_vec,
        dataset_source=values["dataset_source"],
        chunk_position=json.loads(values["chunk_position"]),
        run_uid=values["run_uid"],
        shard=values["shard"],
        concept_text=values["concept_text"],
        mission_text=values["mission_text"],
        probe_question=values["probe_question"],
        expected_answer=values["expected_answer"],
        content_type=values["content_type"],
        relations_text=None if values["relations_text"] is None else json.loads(values["relations_text"]),
        echo_score=values["echo_score"],
        validation_status=values["validation_status"],
        batch_id=values["batch_id"],
        soft_negatives=json.loads(values["soft_negatives"]),
        hard_negatives=json.loads(values["hard_negatives"]),
        confidence_score=values["confidence_score"],
        quality_metrics=json.loads(values["quality_metrics"]),
        parent_cpe_ids=json.loads(values["parent_cpe_ids"]),
        child_cpe_ids=json.loads(values["child_cpe_ids"]),
        created_at=values["created_at"],
        last_accessed_at=values["last_accessed_at"],
        access_count=values["access_count"],
    )
