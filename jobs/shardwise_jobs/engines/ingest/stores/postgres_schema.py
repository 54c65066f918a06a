"""The tables in PostgreSQL: those of the system that reads them too, and three of ours around them.

Each column's type stands once here; the tables, the staging table and the binary rows (copy_binary.py) follow from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shardwise_jobs.engines.ingest.codes import DENSE_WIDTH

from .rows import ENTRY_COLUMNS, VECTOR_COLUMNS

STAGING = "pg_temp.ingest_staging"

_ENTRY_TYPES = {
    "cpe_id": "uuid",
    "mission_text": "text",
    "source_chunk": "text",
    "concept_text": "text",
    "probe_question": "text",
    "expected_answer": "text",
    "domain_code": "smallint",
    "task_code": "smallint",
    "modifier_code": "smallint",
    "content_type": "content_type",
    "dataset_source": "text",
    "chunk_position": "jsonb",
    "relations_text": "jsonb",
    "echo_score": "real",
    "validation_status": "validation_status",
    "batch_id": "uuid",
    "created_at": "timestamptz",
    "tmd_bits": "smallint",
    "tmd_lane": "text",
    "lane_index": "smallint",
    "soft_negatives": "jsonb",
    "hard_negatives": "jsonb",
    "last_accessed_at": "timestamptz",
    "access_count": "integer",
    "confidence_score": "real",
    "quality_metrics": "jsonb",
    "parent_cpe_ids": "jsonb",
    "child_cpe_ids": "jsonb",
    "run_uid": "text",
    "shard": "integer",
    "chunk_sha256": "text",
    "faiss_id": "bigint",
    "tmd_backend": "text",
    "tmd_confidence": "real",
    "embed_model": "text",
}
_NULLABLE = frozenset(
    {
        "relations_text",
        "echo_score",
        "batch_id",
        "last_accessed_at",
        "confidence_score",
        "tmd_confidence",
    }
)
_SUFFIXES = {
    "cpe_id": "PRIMARY KEY",
    "faiss_id": "UNIQUE",
    "created_at": "DEFAULT now()",
    "validation_status": "DEFAULT 'pending'",
    "lane_index": "CHECK (lane_index BETWEEN 0 AND 32767)",
    "access_count": "DEFAULT 0",
    "quality_metrics": "DEFAULT '{}'",
    "parent_cpe_ids": "DEFAULT '[]'",
    "child_cpe_ids": "DEFAULT '[]'",
    "soft_negatives": "DEFAULT '[]'",
    "hard_negatives": "DEFAULT '[]'",
}
_VECTOR_TYPES = {"fused_vec": "real[]", "concept_vec": "real[]", "tmd_dense": "real[]", "fused_norm": "real"}
COLUMN_TYPES = {**_ENTRY_TYPES, **_VECTOR_TYPES}
_VECTORS = tuple(name for name, kind in _VECTOR_TYPES.items() if kind == "real[]")
STAGING_TYPES = {**_ENTRY_TYPES, "fused_vec": "real[]", "fused_norm": "real"}
"""The text's vector and the codes' are the parts of the fused one: they are sent once."""


def _uncompressed(table: str, columns: Iterable[str]) -> str:
    # The bits of such numbers don't compress; to find that out takes a third of the time of writing them.
    return f"ALTER TABLE {table} " + ", ".join(f"ALTER {name} SET STORAGE EXTERNAL" for name in columns)


HAS_STAGING = f"to_regclass('{STAGING}') IS NOT NULL"
CREATE_STAGING = (
    "CREATE TEMPORARY TABLE ingest_staging ("
    + ", ".join(f"{name} {kind}" for name, kind in STAGING_TYPES.items())
    + ") ON COMMIT DELETE ROWS; "
    + _uncompressed(STAGING, ["fused_vec"])
)
"""One for all of a connection's transactions: a new table for each would fill the catalogue."""
COPY_STAGING = f"COPY {STAGING} ({', '.join(STAGING_TYPES)}) FROM STDIN (FORMAT binary)"
INSERT_ENTRIES = (
    f"INSERT INTO cpe_entry ({', '.join(ENTRY_COLUMNS)}) SELECT "
    + ", ".join("coalesce(created_at, now())" if name == "created_at" else name for name in ENTRY_COLUMNS)
    + f" FROM {STAGING} ORDER BY cpe_id ON CONFLICT DO NOTHING"
)
"""Without naming cpe_id: of two writers of one new row at once, the second would trip over the unique faiss_id.

Should two rows ever have one faiss_id, the second has no entry, and its vector breaks the foreign key: an error all
the same.
"""


def _insert_vectors() -> str:
    text = f"array_length(fused_vec, 1) - {DENSE_WIDTH}"
    parts = {"concept_vec": f"fused_vec[:{text}]", "tmd_dense": f"fused_vec[{text} + 1:]"}
    # An array becomes a vector by itself where the column is one: no type is named, so none need be visible.
    columns = [parts.get(name, name) for name in VECTOR_COLUMNS]
    return (
        f"INSERT INTO cpe_vectors ({', '.join(VECTOR_COLUMNS)}) SELECT {', '.join(columns)} "
        f"FROM {STAGING} ORDER BY cpe_id ON CONFLICT (cpe_id) DO NOTHING"
    )


INSERT_VECTORS = _insert_vectors()
"""Moves vectors from the staging table to their own."""
VECTOR_TYPE = (
    "SELECT quote_ident(nspname) || '.vector' FROM pg_catalog.pg_extension JOIN pg_catalog.pg_namespace "
    "ON pg_namespace.oid = extnamespace WHERE extname = 'vector' AND has_schema_privilege(pg_namespace.oid, 'USAGE')"
)
"""Finds pgvector's type with its schema, which a search_path of the store's own may not have; no row without it."""


def create(*, dimension: int, vector_type: str | None) -> Iterator[str]:
    """Yield the statements that make the tables. `vector_type` is pgvector's with its schema; without it `real[]`."""
    yield "CREATE TYPE content_type AS ENUM ('factual', 'math', 'instruction', 'narrative')"
    yield "CREATE TYPE validation_status AS ENUM ('passed', 'failed', 'pending')"
    entries = ", ".join(
        " ".join([name, kind, *([] if name in _NULLABLE else ["NOT NULL"]), _SUFFIXES.get(name, "")])
        for name, kind in _ENTRY_TYPES.items()
    )
    yield f"CREATE TABLE cpe_entry ({entries})"
    # A data set is read in order of cpe_id.
    yield "CREATE INDEX cpe_entry_dataset_source ON cpe_entry (dataset_source, cpe_id)"
    for column in ("lane_index", "content_type"):
        yield f"CREATE INDEX cpe_entry_{column} ON cpe_entry ({column})"
    for column in ("created_at", "confidence_score", "access_count", "last_accessed_at"):
        yield f"CREATE INDEX cpe_entry_{column} ON cpe_entry ({column} DESC)"
    for column in ("parent_cpe_ids", "child_cpe_ids"):
        yield f"CREATE INDEX cpe_entry_{column} ON cpe_entry USING gin ({column})"
    widths = {"fused_vec": dimension + DENSE_WIDTH, "concept_vec": dimension, "tmd_dense": DENSE_WIDTH}
    vectors = ", ".join(
        f"{name} real[] NOT NULL CHECK (array_length({name}, 1) = {width})"
        if vector_type is None
        else f"{name} {vector_type}({width}) NOT NULL"
        for name, width in widths.items()
    )
    yield (
        "CREATE TABLE cpe_vectors (cpe_id uuid PRIMARY KEY REFERENCES cpe_entry (cpe_id) ON DELETE CASCADE, "
        f"{vectors}, fused_norm real NOT NULL)"
    )
    yield _uncompressed("cpe_vectors", _VECTORS)
    yield (
        "CREATE TABLE ingest_batch (run_uid text NOT NULL, shard integer NOT NULL, batch_no bigint NOT NULL, "
        "state text NOT NULL, n_chunks integer NOT NULL, n_failed integer NOT NULL, n_inserted integer NOT NULL, "
        "failures jsonb NOT NULL, millis jsonb NOT NULL, finished_at timestamptz NOT NULL DEFAULT now(), "
        "PRIMARY KEY (run_uid, shard, batch_no))"
    )
    yield "CREATE TABLE ingest_run (run_uid text PRIMARY KEY, document text NOT NULL)"
    # Last: who finds it finds all of them.
    yield "CREATE TABLE ingest_meta (key text PRIMARY KEY, value text NOT NULL)"
