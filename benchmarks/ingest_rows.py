"""Rows into PostgreSQL: one statement and one transaction each, as the original does it, or blocks as the product does.

All write the same columns into the same tables with the same indexes. The original hands a vector over as a Python
list, which becomes `ARRAY[…]` of as many words; as one literal in braces it is the best that rows one by one can do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import psycopg2
from numpy.typing import NDArray
from tests.support.rows import digests_of, new_run, record, row

from shardwise.engine.blocks import blocks
from shardwise_jobs.engines.ingest.embed.base import unit
from shardwise_jobs.engines.ingest.stores import Row, RowStore, VectorModel
from shardwise_jobs.engines.ingest.stores.rows import ENTRY_COLUMNS, VECTOR_COLUMNS, entry_values

from .figures import Json
from .ingest_case import Stopwatch, Stored
from .ingest_figures import ROWS_BLOCKS, ROWS_LISTS, ROWS_LITERALS
from .ingest_ways import BLOCK_SIZE

MODEL = VectorModel(name="benchmark:gtr-t5-base", dimension=768)
"""As wide as the model that the original uses; the numbers are drawn by lot."""
_ENTRY = f"INSERT INTO cpe_entry ({', '.join(ENTRY_COLUMNS)}) VALUES ({', '.join(['%s'] * len(ENTRY_COLUMNS))})"
_VECTOR = f"INSERT INTO cpe_vectors ({', '.join(VECTOR_COLUMNS)}) VALUES (%s, %s::real[], %s::real[], %s::real[], %s)"
_DIGITS = "%.9g"
"""Enough for a float32 to come back as it was."""


def rows(texts: Sequence[str]) -> list[Row]:
    """Return a row for each text."""
    return [
        row(
            number,
            source_chunk=text,
            embed_model=MODEL.name,
            concept_vec=unit(np.random.default_rng(number).standard_normal(MODEL.dimension).astype(np.float32)),
        )
        for number, text in enumerate(texts)
    ]


def as_lists(made: Sequence[Row], *, uri: str, store: RowStore) -> Json:
    """Write each row by itself, vectors as the original hands them over."""
    return _row_by_row(made, uri=uri, spoken=lambda vector: vector.tolist())


def as_literals(made: Sequence[Row], *, uri: str, store: RowStore) -> Json:
    """Write each row by itself, as well as that can be done."""
    return _row_by_row(made, uri=uri, spoken=_literal)


def in_blocks(made: Sequence[Row], *, uri: str, store: RowStore) -> Json:
    """Hand the rows to the product's store in blocks."""
    run = new_run()
    store.committed_blocks(run=run, shard=0)  # the connection is made
    watch = Stopwatch()
    for number, part in blocks(made, block_size=BLOCK_SIZE, first=0):
        store.commit_block(rows=part, record=record(run=run, block=number, chunks=len(part)))
    return watch.read()


WAYS: dict[str, Callable[..., Json]] = {ROWS_LISTS: as_lists, ROWS_LITERALS: as_literals, ROWS_BLOCKS: in_blocks}


def stored(made: Sequence[Row]) -> Stored:
    """Return what a store must hold after these rows, and nothing else, were written."""
    digest, vector_digest = digests_of(made)
    return Stored(rows=len(made), digest=digest, vector_digest=vector_digest)


def _row_by_row(made: Sequence[Row], *, uri: str, spoken: Callable[[NDArray[np.float32]], object]) -> Json:
    """Write an entry and its vectors, each in a transaction of its own."""
    with closing(psycopg2.connect(uri)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            # What a store fills in itself when none is given.
            created = {"created_at": datetime.now(UTC)}
            watch = Stopwatch()
            for one in made:
                values = dict(zip(ENTRY_COLUMNS, entry_values(one), strict=True)) | created
                cursor.execute(_ENTRY, [str(value) if isinstance(value, UUID) else value for value in values.values()])
                cursor.execute(
                    _VECTOR,
                    (
                        str(one.cpe_id),
                        *map(spoken, (one.fused_vec, one.concept_vec, one.codes.dense())),
                        one.fused_norm,
                    ),
                )
            return watch.read()


def _literal(vector: NDArray[np.float32]) -> str:
    return "{" + ",".join([_DIGITS % number for number in vector.tolist()]) + "}"
