"""Rows for tests of stores and indexes: made of a number, so that any process makes the same ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.embed.base import unit
from shardwise_jobs.engines.ingest.finalize import result_digest, vectors_digest
from shardwise_jobs.engines.ingest.identifiers import cpe_id
from shardwise_jobs.engines.ingest.stores import BlockRecord, Row, RowKey, RowStore, StoredVector, VectorModel

MODEL = VectorModel(name="test:eight", dimension=8)
DATASET = "tests"


def row(number: int, **changes: Any) -> Row:
    """Return the row of a number."""
    text = changes.get("source_chunk", f"chunk {number} of the tests")
    made = Row(
        cpe_id=cpe_id(dataset_source=DATASET, document="doc", chunk_index=number, text=text),
        source_chunk=text,
        codes=Codes(number % 16, number % 32, number % 64),
        tmd_backend="test",
        tmd_confidence=0.5,
        embed_model=MODEL.name,
        concept_vec=unit(np.random.default_rng(number).standard_normal(MODEL.dimension).astype(np.float32)),
        dataset_source=DATASET,
        chunk_position={"chunk_index": number, "source": "doc"},
        run_uid="run",
        shard=0,
    )
    return replace(made, **changes)


def rows(numbers: Iterable[int]) -> list[Row]:
    """Return the rows of some numbers."""
    return [row(number) for number in numbers]


def new_run() -> str:
    """Return the uid of a run that nobody has used."""
    return str(uuid.uuid4())


def record(*, run: str, shard: int = 0, block: int = 0, chunks: int = 0, **changes: Any) -> BlockRecord:
    """Return a ledger row for a block."""
    return BlockRecord(run=run, shard=shard, block=block, chunks=chunks, **changes)


def digests_of(made: Sequence[Row]) -> tuple[str, str]:
    """Return the digests of a store that holds exactly these rows."""
    ordered = sorted(made, key=lambda one: one.cpe_id.bytes)
    keys = (
        RowKey(
            cpe_id=one.cpe_id,
            chunk_sha256=one.chunk_sha256,
            codes=one.codes,
            tmd_backend=one.tmd_backend,
            embed_model=one.embed_model,
        )
        for one in ordered
    )
    return result_digest(keys), vectors_digest(stored(ordered))


def digests(store: RowStore) -> tuple[str, str]:
    """Return the digests of all that a store holds."""
    return result_digest(store.row_keys()), vectors_digest(store.vectors())


def stored(made: Iterable[Row]) -> Iterator[StoredVector]:
    """Yield what a store would give an index of these rows."""
    for one in made:
        yield StoredVector(cpe_id=one.cpe_id, faiss_id=one.faiss_id, fused=one.fused_vec)
