"""Runs whose LLM fails, in every way there is: what passes leaves no trace, and what stays is told apart.

`Unavailable` is the shard's, to be tried again; what the model says of one text costs that chunk alone.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from shardwise_api.wire import ExitCode, ItemCounts
from shardwise_jobs.engines.ingest.stores import Counts, open_store
from tests.support.ingestion import Ingestion, chunks, digest_of
from tests.support.ollama.process import OllamaProcess
from tests.support.ollama.script import Fault, Kind

EMBEDDED = "embedded-v1:onnx:tiny@1"
OLLAMA = "ollama-v1:tinyllama:1.1b"
PASSING = (
    *[Fault(kind="status", status=status) for status in (429, 500, 502, 503, 504)],
    Fault(kind="drop"),
    Fault(kind="cut"),
    Fault(kind="slow", milliseconds=50),
    Fault(kind="hold"),
    Fault(kind="drip"),
    Fault(kind="words", text="I am only a model."),
    Fault(kind="words", text='{"domain":16,"task":0,"modifier":0}'),
    Fault(kind="words", text='{"domain":15,"task":1', truncated=True),
    Fault(kind="words", text=""),
    Fault(kind="body", text="<html>a gateway's page</html>"),
    Fault(kind="body", text='{"response": "1,2,3", "done": false}'),
)


def test_every_fault_that_passes_leaves_no_trace(model: Path, llm: OllamaProcess, tmp_path: Path) -> None:
    assert {fault.kind for fault in PASSING} == set(get_args(Kind))
    made = chunks(len(PASSING) + 4)
    run = Ingestion(folder=tmp_path, model=model, chunks=made, url=llm.url, changes=("spec.tmd.timeoutSeconds=5",))
    assert run.prepare().code == 0
    # One for each chunk, in whatever order those come.
    for number, fault in enumerate(PASSING):
        llm.script(replace(fault, contains=f"Chunk {number} "))
    summary = run.run()
    assert sorted(filter(None, (call["fault"] for call in llm.calls()))) == sorted(fault.kind for fault in PASSING)
    assert (summary["digest"], summary["failed"]) == (digest_of(made), 0)


def test_an_unusable_answer_fails_the_run_with_the_items_reason_and_leaves_its_block_to_do(
    model: Path, llm: OllamaProcess, tmp_path: Path
) -> None:
    made = chunks(20)
    run = Ingestion(
        folder=tmp_path, model=model, chunks=made, url=llm.url, changes=("spec.sharding.shards=1", "spec.blockSize=4")
    )
    assert run.prepare().code == 0
    llm.script(Fault(kind="words", text="I am only a model.", contains="Chunk 9 ", times=None))
    ended = run.work()
    assert ended.code == ExitCode.BAD_CONFIGURATION
    assert ended.failure.reason == "TooManyFailedItems"
    assert "item 9: tmd: tinyllama:1.1b: the answer holds neither" in ended.failure.message
    assert run.blocks() == {(0, 0), (0, 1)}
    # With the model mended the same run goes on.
    llm.reset()
    assert run.run()["digest"] == digest_of(made)


def test_a_failure_that_is_tolerated_is_counted_listed_and_no_row(
    model: Path, llm: OllamaProcess, tmp_path: Path
) -> None:
    made = chunks(20)
    run = Ingestion(
        folder=tmp_path, model=model, chunks=made, url=llm.url, changes=("spec.items.maxFailedFraction=0.1",)
    )
    assert run.prepare().code == 0
    llm.script(Fault(kind="words", text='{"domain":16,"task":0,"modifier":0}', contains="Chunk 9 ", times=None))
    summary = run.run()
    assert (summary["rows"], summary["ntotal"], summary["failed"], summary["inserted"]) == (19, 19, 1, 19)
    assert summary["failures"][0]["item"] == 9
    assert "domain 16 is not within 0 to 15" in summary["failures"][0]["reason"]
    assert summary["digest"] == digest_of(each for number, each in enumerate(made) if number != 9)


@pytest.mark.parametrize(
    ("fault", "code", "reason", "said"),
    [
        (Fault(kind="status", status=503, times=None), ExitCode.FAILED, "Unavailable", "answered 503"),
        (Fault(kind="drop", times=None), ExitCode.FAILED, "Unavailable", "the connection broke"),
        (Fault(kind="status", status=401, times=None), ExitCode.BAD_CONFIGURATION, "InvalidSpec", "answered 401"),
        (Fault(kind="hold", times=None), ExitCode.FAILED, "Unavailable", "no answer within 1 s (2 tries)"),
    ],
    ids=["busy", "gone", "refusing", "slow"],
)
def test_an_llm_that_is_out_fails_the_shard_and_no_chunk(
    model: Path, llm: OllamaProcess, tmp_path: Path, fault: Fault, code: int, reason: str, said: str
) -> None:
    run = Ingestion(
        folder=tmp_path,
        model=model,
        chunks=chunks(8),
        url=llm.url,
        changes=("spec.sharding.shards=1", "spec.items.maxFailedFraction=1", "spec.tmd.timeoutSeconds=1"),
    )
    assert run.prepare().code == 0
    llm.script(fault)
    ended = run.work()
    assert (ended.code, ended.failure.reason) == (code, reason)
    assert said in ended.failure.message
    assert ended.failure.message.startswith("spec.tmd")
    assert run.blocks() == set()
    assert run.counts() == Counts(entries=0, vectors=0)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_text_that_the_server_refuses_has_failed_and_the_others_are_rows(
    model: Path, llm: OllamaProcess, tmp_path: Path, status: int
) -> None:
    run = Ingestion(
        folder=tmp_path, model=model, chunks=chunks(6), url=llm.url, changes=("spec.items.maxFailedFraction=0.2",)
    )
    assert run.prepare().code == 0
    llm.script(Fault(kind="status", status=status, contains="Chunk 3 ", times=None, text="not this one"))
    summary = run.run()
    assert (summary["rows"], summary["failed"], summary["failures"][0]["item"]) == (5, 1, 3)
    assert f"answered {status}: not this one" in summary["failures"][0]["reason"]


def test_failures_that_are_too_many_only_when_all_shards_are_added_up_end_the_run_and_say_what_to_do(
    model: Path, llm: OllamaProcess, tmp_path: Path
) -> None:
    changes = ("spec.sharding.shards=2", "spec.items.maxFailedFraction=0.1")
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(20), url=llm.url, changes=changes)
    assert run.prepare().code == 0
    for number in (4, 6, 9):
        llm.script(Fault(kind="words", text="no", contains=f"Chunk {number} ", times=None))
    # Two of shard 0 and one of shard 1: each is within the run's limit.
    assert [run.work(shard).code for shard in (0, 1)] == [0, 0]
    ended = run.finalize()
    assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "TooManyFailedItems")
    assert ended.failure.message.startswith(
        "3 of 20 items failed, spec.items.maxFailedFraction 0.1 allows 2; the rows of all others stay, and a run of "
        "another name works the failed ones alone: item 4: tmd: tinyllama:1.1b: "
    )
    assert run.counts() == Counts(entries=17, vectors=17)
    # What it says works.
    llm.reset()
    again = Ingestion(folder=tmp_path / "again", model=model, chunks=chunks(20), url=llm.url, store=run.store)
    summary = again.run()
    assert (summary["inserted"], summary["deduplicated"], summary["digest"]) == (3, 17, digest_of(chunks(20)))


def test_chunks_that_get_no_codes_have_embedded_ones_when_that_is_asked_for_and_their_rows_say_so(
    model: Path, llm: OllamaProcess, tmp_path: Path
) -> None:
    run = Ingestion(
        folder=tmp_path, model=model, chunks=chunks(20), url=llm.url, changes=("spec.tmd.onTmdFailure=Embedded",)
    )
    assert run.prepare().code == 0
    llm.script(
        Fault(kind="words", text="99,99,99", contains="Chunk 9 ", times=None),
        Fault(kind="status", status=400, contains="Chunk 12 ", times=None),
    )
    result = run.pods.result()
    assert (result.items, result.failures) == (ItemCounts(done=20), [])
    assert result.summary["tmdBackends"] == {EMBEDDED: 2, OLLAMA: 18}
    with closing(open_store(run.store)) as store:
        embedded = {row.source_chunk.split()[1]: row for row in store.rows() if row.tmd_backend == EMBEDDED}
        others = [row.tmd_confidence for row in store.rows() if row.tmd_backend == OLLAMA]
    assert embedded.keys() == {"9", "12"}
    assert all(row.tmd_confidence is not None for row in embedded.values())
    assert others == [None] * 18
    alone = Ingestion(folder=tmp_path / "alone", model=model, chunks=chunks(20))
    alone.run()
    with closing(open_store(alone.store)) as store:
        wanted = {row.source_chunk.split()[1]: (row.codes, row.tmd_confidence) for row in store.rows()}
    assert {number: (row.codes, row.tmd_confidence) for number, row in embedded.items()} == {
        number: wanted[number] for number in embedded
    }


def test_an_llm_that_is_out_is_no_reason_for_embedded_codes(model: Path, llm: OllamaProcess, tmp_path: Path) -> None:
    run = Ingestion(
        folder=tmp_path, model=model, chunks=chunks(8), url=llm.url, changes=("spec.tmd.onTmdFailure=Embedded",)
    )
    assert run.prepare().code == 0
    llm.script(Fault(kind="status", status=503, times=None))
    ended = run.work()
    assert (ended.code, ended.failure.reason) == (ExitCode.FAILED, "Unavailable")
    assert run.counts() == Counts(entries=0, vectors=0)
    llm.reset()
    assert run.run()["digest"] == digest_of(chunks(8))


def test_whether_codes_may_be_embedded_ones_is_settled_with_the_run(
    model: Path, llm: OllamaProcess, tmp_path: Path
) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(4), url=llm.url)
    assert run.prepare().code == 0
    run.pods.manifest["spec"]["tmd"]["onTmdFailure"] = "Embedded"
    said = run.prepare().failure.message
    assert "spec.tmd: 'ollama tinyllama:1.1b' then, 'ollama tinyllama:1.1b else embedded' now" in said
