"""On PostgreSQL: one transaction per request, and a database that goes and comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shardwise_jobs.engines.ingest.stores import Counts, VectorModel, open_store
from tests.support.ingest_service import ingest_service, texts_of
from tests.support.ingestion import DATASET, chunks, digest_of
from tests.support.listening import ServerDidNotStart
from tests.support.ollama.process import OllamaProcess
from tests.support.ollama.script import Fault
from tests.support.postgres_server import PostgresServer
from tests.support.rows import digests

TEN = chunks(10)


def dsn_of(uri: str) -> str:
    """Return a URI as the original's variable has it."""
    parts = urlsplit(uri)
    named = {"host": parts.hostname, "port": parts.port, "dbname": parts.path[1:], "user": parts.username}
    return " ".join(f"{name}={value}" for name, value in {**named, "password": parts.password}.items())


def counts(uri: str) -> Counts:
    with closing(open_store(uri, read_only=True)) as store:
        return store.counts()


@pytest.mark.parametrize("form", ["keywords", "uri"])
def test_rows_go_to_the_database_of_pg_dsn_and_the_password_nowhere(
    postgres: PostgresServer, model: Path, tmp_path: Path, form: str
) -> None:
    uri = postgres.new_database()
    dsn = dsn_of(uri) if form == "keywords" else uri
    with ingest_service(model=model, folder=tmp_path, PG_DSN=dsn) as service:
        assert service.ingest(*TEN, dataset_source=DATASET)["successful"] == 10
        assert service.get("/")["store"].startswith(f"postgresql store 127.0.0.1:{postgres.port}/t")
        password = urlsplit(uri).password
        assert password is not None
        assert password not in service.server.log() + service.http.get("/").text
    assert counts(uri) == Counts(entries=10, vectors=10)
    assert not (tmp_path / "chunks.db").exists()


def test_a_database_that_is_down_is_503_and_nobody_is_asked_until_it_is_back(
    postgres: PostgresServer, model: Path, llm: OllamaProcess, tmp_path: Path
) -> None:
    uri = postgres.new_database()
    with ingest_service("--endpoint", llm.url, model=model, folder=tmp_path, PG_DSN=uri) as service:
        assert service.ingest(TEN[0], dataset_source=DATASET)["successful"] == 1
        with ExitStack() as down:
            postgres.stop()
            down.callback(postgres.start)
            refused = service.ingest(*TEN, dataset_source=DATASET, status=503)
            health = service.get("/health")
        assert refused["detail"].startswith(f"postgresql store 127.0.0.1:{postgres.port}/")
        assert (health["status"], health["postgresql"]) == ("degraded", False)
        assert "the store can't be used: postgresql store" in health["issues"][0]
        assert llm.counters()["done"] == 1
        assert service.ingest(*TEN, dataset_source=DATASET)["successful"] == 10
        assert service.get("/health")["status"] == "healthy"
        # What was refused was not worked, so it is not counted.
        assert service.get("/stats")["total_chunks_processed"] == 11
        assert "Traceback" not in service.server.log()
    assert counts(uri) == Counts(entries=10, vectors=10)


def test_a_service_starts_before_its_database(postgres: PostgresServer, model: Path, tmp_path: Path) -> None:
    uri = postgres.new_database()
    with ExitStack() as down:
        postgres.stop()
        down.callback(postgres.start)
        with ingest_service(model=model, folder=tmp_path, PG_DSN=uri) as service:
            assert "the store can't be reached yet" in service.server.log()
            service.ingest(*TEN, status=503)
            service.get("/stats", status=503)
            down.close()
            assert service.ingest(*TEN)["successful"] == 10
            assert service.get("/stats")["total_chunks_processed"] == 10


def test_a_request_is_written_whole_or_not_at_all(
    postgres: PostgresServer, model: Path, llm: OllamaProcess, tmp_path: Path
) -> None:
    uri = postgres.new_database()
    with (
        ingest_service("--endpoint", llm.url, model=model, folder=tmp_path, PG_DSN=uri) as service,
        ThreadPoolExecutor(1) as aside,
    ):
        llm.settings(hold=True)
        under_way = aside.submit(service.ingest, *TEN, dataset_source=DATASET, status=503)
        llm.wait(held=10)
        # All that is missing is the write: the tables are gone by then.
        postgres.execute("ALTER TABLE cpe_vectors RENAME TO aside", uri=uri)
        llm.settings(hold=False)
        llm.release()
        assert "cpe_vectors" in under_way.result()["detail"]
        postgres.execute("ALTER TABLE aside RENAME TO cpe_vectors", uri=uri)
        assert counts(uri) == Counts(entries=0, vectors=0)
        assert service.ingest(*TEN, dataset_source=DATASET)["successful"] == 10
        # The answers were kept.
        assert llm.counters()["done"] == 10
    with closing(open_store(uri, read_only=True)) as store:
        assert digests(store)[0] == digest_of(TEN)


def test_two_services_on_one_database_share_rows_and_counts(
    postgres: PostgresServer, model: Path, tmp_path: Path
) -> None:
    uri = postgres.new_database()
    with (
        ingest_service(model=model, folder=tmp_path, PG_DSN=uri) as one,
        ingest_service(model=model, folder=tmp_path, PG_DSN=uri) as other,
        ThreadPoolExecutor(8) as pool,
    ):
        requests = [pool.submit(each.ingest, *TEN[at:]) for at in range(4) for each in (one, other)]
        assert all(request.result()["failed"] == 0 for request in requests)
    assert counts(uri) == Counts(entries=10, vectors=10)
    with ingest_service(model=model, folder=tmp_path, PG_DSN=uri) as third:
        assert third.get("/stats")["total_chunks_processed"] == 2 * (10 + 9 + 8 + 7)


def test_a_store_of_another_model_ends_the_start(model: Path, tmp_path: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path / 'chunks.db'}")) as store:
        store.prepare(model=VectorModel(name="test:other", dimension=4))
    with (
        pytest.raises(ServerDidNotStart, match=r"error: sqlite store chunks.db: its vectors are of test:other"),
        ingest_service(model=model, folder=tmp_path),
    ):
        pass


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="body", text="\x00\x01garbage", times=None),
        Fault(kind="status", status=400, text="\x00garbage", times=None),
        Fault(kind="status", status=400, text="\ud800garbage", times=None),
        Fault(kind="words", text="\x00\x01garbage", times=None),
    ],
)
def test_whatever_bytes_a_server_answers_with_cost_one_chunk_and_not_its_request(
    postgres: PostgresServer, model: Path, llm: OllamaProcess, tmp_path: Path, kind: str, fault: Fault
) -> None:
    uri = postgres.new_database() if kind == "postgresql" else f"sqlite:///{tmp_path / 'chunks.db'}"
    options = ("--endpoint", llm.url, "--retries", "0", "--store", uri)
    with ingest_service(*options, model=model, folder=tmp_path) as service:
        llm.script(replace(fault, contains=TEN[3]["text"]))
        answer = service.ingest(*TEN, dataset_source=DATASET)
        assert texts_of(answer, success=False) == [TEN[3]["text"]]
        assert "garbage" in answer["results"][3]["error"]
        assert answer["results"][3]["error"].isprintable()
    with closing(open_store(uri, read_only=True)) as store:
        (block,) = store.ledger(run="service")
    assert [item for item, _ in block.failures] == [3]
    assert counts(uri) == Counts(entries=9, vectors=9)
