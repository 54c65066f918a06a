"""With an LLM: asked in parallel and never twice, and each of its failures is a failed chunk, never codes 0, 0, 0."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.finalize import result_digest
from shardwise_jobs.engines.ingest.stores import Counts, open_store
from shardwise_jobs.engines.ingest.stores.rows import entry_values
from shardwise_jobs.engines.ingest.tmd.parser import prompt_for
from tests.support.ingest_service import IngestService, Json, ingest_service, rows_of, texts_of
from tests.support.ingestion import DATASET, Ingestion, chunks, digest_of
from tests.support.ollama import words
from tests.support.ollama.process import OllamaProcess
from tests.support.ollama.script import Fault

TEN = chunks(10)
Start = Callable[..., IngestService]


@pytest.fixture
def start(model: Path, tmp_path: Path, llm: OllamaProcess, request: pytest.FixtureRequest) -> Start:
    """Start a service that asks the LLM."""

    def started(*options: str, **variables: str) -> IngestService:
        named = {"LNSP_LLM_ENDPOINT": llm.url, **variables}
        manager = ingest_service(*options, model=model, folder=tmp_path, **named)
        running = manager.__enter__()
        request.addfinalizer(lambda: manager.__exit__(None, None, None))
        return running

    return started


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def sent(aside: ThreadPoolExecutor, service: IngestService, *chunks: Json) -> Future[Json]:
    """Send chunks without waiting for the answer."""
    return aside.submit(service.ingest, *chunks, dataset_source=DATASET)


def digest(service: IngestService) -> str:
    """Return the digest of all rows."""
    with closing(open_store(service.store, read_only=True)) as store:
        return result_digest(store.row_keys())


def test_ten_workers_ask_at_once_and_more_wait(start: Start, llm: OllamaProcess, aside: ThreadPoolExecutor) -> None:
    service = start()
    llm.settings(hold=True)
    answer = sent(aside, service, *chunks(12))
    llm.wait(held=10)
    llm.settings(hold=False)
    llm.release()
    assert (answer.result()["successful"], llm.counters()["most_in_flight"]) == (12, 10)
    assert answer.result()["results"][0]["backends"]["tmd"] == f"ollama:{llm.url}"
    assert answer.result()["results"][0]["timings_ms"]["tmd_ms"] > 0


@pytest.mark.parametrize("settings", [{"LNSP_ENABLE_PARALLEL": "off"}, {"LNSP_MAX_PARALLEL_WORKERS": "1"}])
def test_without_parallel_calls_one_question_comes_after_the_other(
    start: Start, llm: OllamaProcess, settings: dict[str, str]
) -> None:
    service = start(**settings)
    assert service.ingest(*TEN, dataset_source=DATASET)["successful"] == 10
    assert (llm.counters()["most_in_flight"], llm.counters()["done"]) == (1, 10)
    assert digest(service) == digest_of(TEN)


def test_calls_of_several_requests_share_the_workers(
    start: Start, llm: OllamaProcess, aside: ThreadPoolExecutor
) -> None:
    service = start("--workers", "4")
    llm.settings(hold=True)
    answers = [sent(aside, service, *TEN[at : at + 2]) for at in range(0, 10, 2)]
    llm.wait(held=4)
    llm.settings(hold=False)
    llm.release()
    assert [answer.result()["successful"] for answer in answers] == [2] * 5
    assert llm.counters()["most_in_flight"] == 4
    assert digest(service) == digest_of(TEN)
    assert service.get("/stats")["total_chunks_processed"] == 10


def test_the_same_request_from_several_at_once_is_stored_once(
    start: Start, llm: OllamaProcess, aside: ThreadPoolExecutor
) -> None:
    service = start("--workers", "40")
    llm.settings(hold=True, parallel=40)
    answers = [sent(aside, service, *TEN) for _ in range(4)]
    llm.wait(held=40)
    llm.settings(hold=False)
    llm.release()
    assert [answer.result()["successful"] for answer in answers] == [10] * 4
    assert len(rows_of(service.store)) == 10


def test_of_two_that_write_one_row_both_are_told_the_first_ones(
    start: Start, llm: OllamaProcess, aside: ThreadPoolExecutor
) -> None:
    service = start()
    llm.settings(hold=True)
    slow = sent(aside, service, TEN[0])
    llm.wait(held=1)
    quick = service.ingest({**TEN[0], "domain_code": 1, "task_code": 2, "modifier_code": 3}, dataset_source=DATASET)
    llm.release()
    assert slow.result()["results"][0]["tmd_codes"] == quick["results"][0]["tmd_codes"]
    assert slow.result()["results"][0]["backends"]["tmd"] == "client-provided"
    assert [row.codes for row in rows_of(service.store)] == [Codes(1, 2, 3)]


def test_what_is_a_row_already_is_not_asked_for_again_also_after_a_restart(start: Start, llm: OllamaProcess) -> None:
    service = start()
    first = service.ingest(*TEN, {"text": " "}, dataset_source=DATASET)
    assert service.server.stop() == 0
    again = start()
    second = again.ingest(*TEN, dataset_source=DATASET)
    assert llm.counters()["done"] == 10
    assert [one["tmd_codes"] for one in second["results"]] == [one["tmd_codes"] for one in first["results"][:10]]
    assert second["results"][0]["backends"]["tmd"] == f"ollama:{llm.url}"
    assert again.get("/stats") == {
        "total_chunks_processed": 21,
        "successfully_ingested": 20,
        "failed": 1,
        "success_rate": 95.24,
    }


@pytest.mark.parametrize("batched", ["true", "false"])
def test_rows_are_those_of_a_run_over_the_same_request(
    start: Start, llm: OllamaProcess, model: Path, tmp_path: Path, batched: str
) -> None:
    service = start(LNSP_ENABLE_BATCH_EMBEDDINGS=batched)
    service.ingest(*TEN, dataset_source=DATASET)
    run = Ingestion(folder=tmp_path / "run", model=model, chunks=TEN, url=llm.url)
    assert run.run()["digest"] == digest(service)
    assert run.counts() == Counts(entries=10, vectors=10)
    for ours, theirs in zip(rows_of(service.store), rows_of(run.store), strict=True):
        assert ours.fused_vec.tobytes() == theirs.fused_vec.tobytes()
        where = replace(theirs, run_uid=ours.run_uid, shard=ours.shard, batch_id=ours.batch_id)
        assert entry_values(ours) == entry_values(replace(where, created_at=ours.created_at))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(kind="status", status=503, text="busy", times=None), "answered 503: busy (2 tries)"),
        (Fault(kind="status", status=404, text="no such model", times=None), "answered 404: no such model"),
        (Fault(kind="drop", times=None), "the connection broke"),
        (Fault(kind="words", text="99, 1, 1", times=None), "domain 99 is not within 0 to 15"),
        (Fault(kind="words", text="I don't know", times=None), "neither a JSON object nor three numbers"),
        (Fault(kind="body", text="<html>", times=None), "no JSON object"),
    ],
)
def test_whatever_the_llm_does_to_a_chunk_it_fails_alone_and_is_not_stored(
    start: Start, llm: OllamaProcess, fault: Fault, reason: str
) -> None:
    service = start("--retries", "1")
    fault.contains = TEN[3]["text"]
    llm.script(fault)
    answer = service.ingest(*TEN, dataset_source=DATASET)
    assert texts_of(answer, success=False) == [TEN[3]["text"]]
    assert answer["results"][3]["error"].startswith("tmd: ")
    assert reason in answer["results"][3]["error"]
    assert service.get("/stats") == {
        "total_chunks_processed": 10,
        "successfully_ingested": 9,
        "failed": 1,
        "success_rate": 90.0,
    }
    assert digest(service) == digest_of(TEN[:3] + TEN[4:])
    # Mended, the same request asks for that chunk alone.
    llm.reset()
    assert service.ingest(*TEN, dataset_source=DATASET)["failed"] == 0
    assert llm.counters()["done"] == 1
    assert digest(service) == digest_of(TEN)


def test_without_its_llm_the_service_starts_fails_chunks_and_takes_those_that_bring_codes(
    start: Start,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    service = start("--retries", "0", LNSP_LLM_ENDPOINT=url)
    given = {"text": "given", "domain_code": 0, "task_code": 0, "modifier_code": 0}
    answer = service.ingest({"text": "asked"}, given)
    assert "no connection" in answer["results"][0]["error"]
    assert (answer["results"][0]["tmd_codes"], answer["results"][1]["success"]) == ({}, True)
    assert [(row.source_chunk, row.codes) for row in rows_of(service.store)] == [("given", Codes(0, 0, 0))]
    health = service.get("/health")
    assert (health["status"], health["tmd_router_api"], health["llm_endpoint"]) == ("healthy", False, url)
    assert url in health["issues"][0]
    assert "the LLM can't be asked" in service.server.log()


def test_a_busy_llm_is_healthy_and_one_that_lacks_the_model_is_not(
    start: Start, llm: OllamaProcess, aside: ThreadPoolExecutor
) -> None:
    service = start("--workers", "2")
    llm.settings(hold=True)
    answer = sent(aside, service, *TEN[:4])
    llm.wait(held=2)
    assert service.get("/health")["tmd_router_api"] is True
    llm.settings(hold=False)
    llm.release()
    assert answer.result()["successful"] == 4
    lacking = start("--llm", "nobody:1b")
    assert "has no model 'nobody:1b'" in lacking.get("/health")["issues"][0]


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({"LNSP_TMD_LLM_MODEL": "tinyllama:1.1b", "LNSP_LLM_MODEL": "llama3.1:8b"}, "tinyllama:1.1b"),
        ({"LNSP_LLM_MODEL": "llama3.1:8b"}, "llama3.1:8b"),
        ({"LNSP_LLM_PROVIDER": "local_llama"}, "tinyllama:1.1b"),
    ],
)
def test_an_endpoint_needs_no_scheme_and_the_tmd_model_goes_first(
    start: Start, llm: OllamaProcess, variables: dict[str, str], asked: str
) -> None:
    service = start(LNSP_LLM_ENDPOINT=llm.url.removeprefix("http://") + "/", **variables)
    info = service.get("/")
    assert (info["tmd_backend"], info["llm_endpoint"], info["tmd_name"]) == ("ollama", llm.url, f"ollama-v1:{asked}")
    service.ingest(TEN[0])
    assert llm.calls()[0]["model"] in (asked, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_end_that_are_under_way(
    start: Start, llm: OllamaProcess, aside: ThreadPoolExecutor, number: signal.Signals
) -> None:
    service = start()
    llm.settings(hold=True)
    answer = sent(aside, service, *TEN)
    llm.wait(held=10)
    service.end(number)
    _wait_until_nobody_listens(service)
    llm.settings(hold=False)
    llm.release()
    assert answer.result()["successful"] == 10
    assert service.server.process.wait(timeout=30) == 0
    assert "Traceback" not in service.server.log()
    assert digest(service) == digest_of(TEN)


@pytest.mark.slow
def test_a_request_that_outlasts_the_end_is_503_and_has_written_nothing(
    start: Start, llm: OllamaProcess, aside: ThreadPoolExecutor
) -> None:
    service = start()
    llm.settings(hold=True)
    answer = aside.submit(service.ingest, *TEN, status=503)
    llm.wait(held=10)
    service.end(signal.SIGTERM)
    assert answer.result()["detail"] == "The service ended before this request did; send it again"
    assert service.server.process.wait(timeout=30) == 0
    assert "Traceback" not in service.server.log()
    assert rows_of(service.store) == []


def _wait_until_nobody_listens(service: IngestService) -> None:
    with suppress(httpx.TransportError):
        while True:
            httpx.get(f"{service.url}/")


def test_a_client_that_has_left_finds_its_rows_when_it_comes_back(start: Start, llm: OllamaProcess) -> None:
    service = start()
    llm.settings(hold=True)
    with pytest.raises(httpx.ReadTimeout):
        service.http.post("/ingest", json={"chunks": TEN, "dataset_source": DATASET}, timeout=1)
    llm.settings(hold=False)
    llm.release()
    assert service.ingest(*TEN, dataset_source=DATASET)["successful"] == 10
    assert digest(service) == digest_of(TEN)


def test_codes_are_the_llms(start: Start) -> None:
    answer = start().ingest(*TEN, dataset_source=DATASET)
    for chunk, result in zip(TEN, answer["results"], strict=True):
        wanted = dict(zip(("domain", "task", "modifier"), words.codes(prompt_for(chunk["text"])), strict=True))
        assert result["tmd_codes"] == wanted
