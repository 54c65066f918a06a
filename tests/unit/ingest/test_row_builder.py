"""From a chunk to its row: what the reading system finds in which column."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from shardwise_jobs.engines.ingest.chunk import Chunk
from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.identifiers import Links
from shardwise_jobs.engines.ingest.row_builder import batch_uuid, confidence_score, quality_metrics, row_of
from shardwise_jobs.engines.ingest.source import Entry
from shardwise_jobs.engines.ingest.stores import Row
from shardwise_jobs.engines.ingest.tmd import TmdAnswer

_ID = uuid.uuid5(uuid.NAMESPACE_OID, "row")
_VECTOR = np.array([0.6, 0.8], dtype=np.float32)


def _row(**fields: Any) -> Row:
    chunk = Chunk(text="DNA replication copies genetic information.", **fields)
    return row_of(
        Entry(item=0, chunk=chunk, cpe_id=_ID, links=Links(parents=("p",), children=("c",))),
        answer=TmdAnswer(codes=Codes(15, 14, 9), confidence=0.5, backend="b"),
        vector=_VECTOR,
        embed_model="m",
        dataset="d",
        run="r",
        shard=3,
    )


def test_a_row_has_what_the_chunk_the_answer_and_the_run_say() -> None:
    row = _row(source_document="bio.txt", article_title="DNA", article_index=2, chunk_index=7)
    assert (row.cpe_id, row.codes, row.tmd_backend, row.tmd_confidence) == (_ID, Codes(15, 14, 9), "b", 0.5)
    assert (row.embed_model, row.dataset_source, row.run_uid, row.shard) == ("m", "d", "r", 3)
    assert row.chunk_position == {"article_title": "DNA", "article_index": 2, "chunk_index": 7, "source": "bio.txt"}
    assert (row.parent_cpe_ids, row.child_cpe_ids) == (("p",), ("c",))
    assert row.concept_vec is _VECTOR


def test_the_documents_id_is_the_batchs_and_one_that_is_no_uuid_becomes_one() -> None:
    given = str(uuid.uuid5(uuid.NAMESPACE_OID, "document"))
    assert _row(document_id=given).batch_id == uuid.UUID(given)
    assert _row(document_id="batch-7").batch_id == batch_uuid("batch-7") != batch_uuid("batch-8")
    assert _row().batch_id is None


def test_the_quality_of_a_row_without_an_extraction_is_as_the_service_says_it() -> None:
    text = "DNA replication copies genetic information."
    metrics = quality_metrics(text, vector=_VECTOR)
    assert metrics == {
        "cpesh_completeness": 0.2,
        "vector_norm": 1.0,
        "vector_dimension": 2,
        "text_length": 43,
        "concept_length": 43,
        "soft_negatives_count": 0,
        "hard_negatives_count": 0,
        "total_negatives": 0,
    }
    assert confidence_score(metrics) == pytest.approx(0.09)


@pytest.mark.parametrize(("ratio", "more"), [(0.3, 0.2), (0.7, 0.1), (0.07, 0.1), (0.01, 0), (0.9, 0)])
def test_a_concept_that_is_a_part_of_the_text_counts(ratio: float, more: float) -> None:
    metrics = {**quality_metrics("x" * 100, vector=_VECTOR), "concept_length": 100 * ratio}
    assert confidence_score(metrics) == pytest.approx(0.09 + more)
