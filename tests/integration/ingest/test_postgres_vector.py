"""Where pgvector is installed in the database, vectors have its type, and the very same bits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shardwise_jobs.engines.ingest.stores import open_store
from shardwise_jobs.engines.ingest.stores.base import StoreMismatch
from tests.support import postgres_server
from tests.support.postgres_server import PostgresServer
from tests.support.require import missing
from tests.support.rows import MODEL, digests, digests_of, new_run, record, rows


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    try:
        with postgres_server.running_with_vector() as server:
            yield server
    except postgres_server.ServerMissing as error:
        missing(f"a PostgreSQL with pgvector ({error})", "It comes from a package index.")


def test_vectors_are_of_its_type_and_other_programs_can_compare_them(server: PostgresServer) -> None:
    uri, run, made = server.new_database(), new_run(), rows(range(40))
    server.execute("CREATE EXTENSION vector", uri=uri)
    store = open_store(uri)
    store.prepare(model=MODEL)
    assert store.commit_block(rows=made, record=record(run=run, chunks=40)) == 40
    assert store.commit_block(rows=made, record=record(run=run, chunks=40)) is None
    assert digests(store) == digests_of(made)
    assert [one.concept_vec.tobytes() for one in store.rows()] == [
        one.concept_vec.tobytes() for one in sorted(made, key=lambda one: one.cpe_id.bytes)
    ]
    store.close()
    types = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid='cpe_vectors'::regclass AND attname IN ('fused_vec', 'concept_vec', 'tmd_dense')"
    )
    assert dict(server.execute(types, uri=uri)) == {  # type: ignore[arg-type]
        "fused_vec": "vector(24)",
        "concept_vec": "vector(8)",
        "tmd_dense": "vector(16)",
    }
    parts = [
        "subvector(fused_vec, 1, 8) = concept_vec",
        "subvector(fused_vec, 9, 16) = tmd_dense",
        f"tmd_dense::real[] = ARRAY{made[7].codes.dense().tolist()}::real[]",
    ]
    (found,) = server.execute(f"SELECT {', '.join(parts)} FROM cpe_vectors WHERE cpe_id='{made[7].cpe_id}'", uri=uri)
    assert found == (True, True, True)
    nearest = (
        "SELECT other.cpe_id::text FROM cpe_vectors one, cpe_vectors other "
        f"WHERE one.cpe_id='{made[7].cpe_id}' ORDER BY one.fused_vec <=> other.fused_vec LIMIT 1"
    )
    assert server.execute(nearest, uri=uri) == [(str(made[7].cpe_id),)]


def test_a_store_that_was_made_before_the_extension_keeps_its_arrays(server: PostgresServer) -> None:
    uri, made = server.new_database(), rows(range(6))
    first = open_store(uri)
    first.prepare(model=MODEL)
    server.execute("CREATE EXTENSION vector", uri=uri)
    second = open_store(uri)
    second.prepare(model=MODEL)
    for store, part in ((first, made[:3]), (second, made[3:])):
        assert store.commit_block(rows=part, record=record(run=new_run(), chunks=3)) == 3
    assert digests(second) == digests_of(made)
    first.close()
    second.close()


@pytest.mark.parametrize("place", ["public", '"Its own"'])
def test_a_schema_of_ones_own_beside_another_programs_tables_needs_no_path_to_the_extension(
    server: PostgresServer, place: str
) -> None:
    uri, made = server.new_database(), rows(range(6))
    server.execute(f"CREATE SCHEMA IF NOT EXISTS {place}; CREATE EXTENSION vector SCHEMA {place}", uri=uri)
    server.execute("CREATE TABLE cpe_entry (theirs text); CREATE SCHEMA mine", uri=uri)
    refused = open_store(uri)
    with pytest.raises(StoreMismatch, match=r"\?options=-csearch_path%3Dname"):
        refused.prepare(model=MODEL)
    refused.close()
    # The way out that the error names.
    store = open_store(f"{uri}?options=-csearch_path%3Dmine")
    store.prepare(model=MODEL)
    assert store.commit_block(rows=made, record=record(run=new_run(), chunks=6)) == 6
    assert digests(store) == digests_of(made)
    store.close()
    kind = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid='mine.cpe_vectors'::regclass"
    ((found,),) = server.execute(f"{kind} AND attname='fused_vec'", uri=uri)
    assert str(found).endswith("vector(24)")


def test_without_the_right_to_the_extensions_schema_vectors_are_arrays(server: PostgresServer) -> None:
    uri, made = server.new_database(), rows(range(6))
    server.execute("CREATE SCHEMA closed; CREATE EXTENSION vector SCHEMA closed", uri=uri)
    name = uri.rpartition("/")[2]
    server.execute(
        f"CREATE ROLE writer_{name} LOGIN PASSWORD 'w'; GRANT CREATE ON SCHEMA public TO writer_{name}", uri=uri
    )
    store = open_store(f"postgresql://writer_{name}:w@127.0.0.1:{server.port}/{name}")
    store.prepare(model=MODEL)
    assert store.commit_block(rows=made, record=record(run=new_run(), chunks=6)) == 6
    assert digests(store) == digests_of(made)
    store.close()
