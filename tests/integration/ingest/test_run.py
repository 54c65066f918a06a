"""Runs from end to end: the worker's three steps as processes, an LLM's protocol, and both stores."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from shardwise_api.wire import Environment, ExitCode, Step
from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.index import INDEX_FILE, MANIFEST_FILE
from shardwise_jobs.engines.ingest.stores import Counts, open_store
from tests.support import tiny_model
from tests.support.ingestion import Ingestion, chunk, chunks, digest_of
from tests.support.kube import eventually
from tests.support.ollama.process import OllamaProcess
from tests.support.ollama.script import Fault
from tests.support.postgres_server import PostgresServer
from tests.support.worker import terminate

WAYS = {
    "one shard": ("spec.sharding.shards=1", "spec.blockSize=100", "spec.workers=1"),
    "round robin": ("spec.sharding.shards=3", "spec.blockSize=7", "spec.workers=10"),
    "chunked": ("spec.sharding={strategy: Chunked, shards: 2}", "spec.blockSize=1", "spec.store.poolSize=1"),
    "dynamic": ("spec.sharding={strategy: Dynamic, shards: 4, parallelism: 2}", "spec.blockSize=5"),
}


@pytest.mark.slow
def test_the_result_is_the_same_however_the_work_is_cut_and_wherever_it_is_stored(
    model: Path, llm: OllamaProcess, postgres: PostgresServer, tmp_path: Path
) -> None:
    made, found = chunks(40), set()
    for number, changes in enumerate(WAYS.values()):
        store = postgres.new_database() if number % 2 else ""
        run = Ingestion(
            folder=tmp_path / str(number), model=model, chunks=made, url=llm.url, store=store, changes=changes
        )
        summary = run.run()
        found.add((summary["digest"], summary["vectorDigest"], (run.output / INDEX_FILE).read_bytes()))
        assert run.counts() == Counts(entries=40, vectors=40)
        assert (summary["rows"], summary["ntotal"], summary["inserted"], summary["failed"]) == (40, 40, 40, 0)
    assert len(found) == 1
    assert next(iter(found))[0] == digest_of(made)


def test_a_finished_run_that_starts_again_is_already_complete(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(10))
    digest = run.run()["digest"]
    ended = run.prepare()
    assert json.loads(ended.message)["alreadyComplete"]
    assert run.finalize().code == 0
    assert run.summary()["digest"] == digest


def test_a_run_of_another_name_finds_the_rows_and_asks_nobody(model: Path, llm: OllamaProcess, tmp_path: Path) -> None:
    first = Ingestion(folder=tmp_path / "first", model=model, chunks=chunks(20), url=llm.url)
    digest = first.run()["digest"]
    asked = llm.counters()["calls"]
    again = Ingestion(
        folder=tmp_path / "again",
        model=model,
        chunks=chunks(20),
        url=llm.url,
        store=first.store,
        changes=("spec.sharding.shards=3",),
    )
    summary = again.run()
    assert (summary["inserted"], summary["deduplicated"], summary["digest"]) == (0, 20, digest)
    assert again.counts() == Counts(entries=20, vectors=20)
    assert llm.counters()["calls"] - asked == 1  # prepare has the model loaded


def test_rows_of_another_backend_stay_and_the_run_says_so(model: Path, llm: OllamaProcess, tmp_path: Path) -> None:
    Ingestion(folder=tmp_path / "first", model=model, chunks=chunks(10), url=llm.url).run()
    store = f"sqlite:///{tmp_path / 'first' / 'chunks.db'}"
    second = Ingestion(folder=tmp_path / "second", model=model, chunks=chunks(15), store=store)
    result = second.pods.result()
    assert result.summary["tmdBackends"] == {"embedded-v1:onnx:tiny@1": 5, "ollama-v1:tinyllama:1.1b": 10}
    assert "10 chunks were rows already and keep the codes they had" in result.warnings[0]


@pytest.mark.parametrize(("dedup", "rows"), [("position", 12), ("content", 10)])
@pytest.mark.parametrize("shards", [1, 3])
def test_equal_chunks_are_one_row_by_place_or_by_text(
    model: Path, tmp_path: Path, dedup: str, rows: int, shards: int
) -> None:
    # Of one text at three places, and of one chunk twice; their own codes differ, and the first one's win.
    made = [chunk(n, domain_code=n, task_code=n, modifier_code=n) for n in range(10)]
    made += [{**made[3], "source_document": other, "domain_code": 9} for other in ("x", "y")]
    made += [{**made[5], "domain_code": 8}]
    changes = (f"spec.dedup={dedup}", f"spec.sharding.shards={shards}", "spec.tmd={backend: client}")
    run = Ingestion(folder=tmp_path, model=model, chunks=made, changes=changes)
    summary = run.run()
    assert (summary["rows"], summary["deduplicated"]) == (rows, 13 - rows)
    with closing(open_store(run.store)) as store:
        codes = sorted(key.codes for key in store.row_keys())
    others = [Codes(9, 3, 3)] * (rows - 10)
    assert codes == sorted([*(Codes(n, n, n) for n in range(10)), *others])


def test_the_weight_of_codes_is_the_indexs_and_changes_no_row(model: Path, tmp_path: Path) -> None:
    plain = Ingestion(folder=tmp_path / "1", model=model, chunks=chunks(10)).run()
    light = Ingestion(
        folder=tmp_path / "2", model=model, chunks=chunks(10), changes=("spec.index.tmdWeight=0.25",)
    ).run()
    assert light["digest"] == plain["digest"]
    assert light["vectorDigest"] == plain["vectorDigest"]
    assert light["index_manifest"] != plain["index_manifest"]
    manifests = [json.loads((tmp_path / name / "output" / MANIFEST_FILE).read_text()) for name in "12"]
    assert [manifest["tmd_weight"] for manifest in manifests] == [1.0, 0.25]


def test_an_index_of_inverted_lists_is_built_when_asked_for(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(90), changes=("spec.index.kind=IVF",))
    assert run.run()["ntotal"] == 90
    manifest = json.loads((run.output / MANIFEST_FILE).read_text())
    assert (manifest["kind"], manifest["nlist"], manifest["dataset"]) == ("IVF", 2, "tests")


# Before the work


BAD_CHUNKS: dict[str, tuple[Any, str]] = {
    "empty": (chunk(1, text=""), "request.json: chunk 1: text: "),
    "blank": (chunk(1, text=" \n"), "request.json: chunk 1: text: is blank"),
    "nul": (chunk(1, text="a\0b"), "request.json: chunk 1: text: holds a NUL character at 1"),
    "big": (chunk(1, text="x" * 1_000_000), "request.json: chunk 1: text: 1000000 bytes are too many"),
    "surrogate": (chunk(1, text="a\ud800"), "request.json: chunk 1: text: holds half a surrogate pair at 1"),
    "codes": (chunk(1, domain_code=16, task_code=0, modifier_code=0), "request.json: chunk 1: domain_code: "),
    "no object": (7, "request.json: chunk 1: not a JSON object but int"),
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_chunk_that_cannot_be_ingested_is_known_before_anything_is_written(
    model: Path, tmp_path: Path, name: str
) -> None:
    bad, said = BAD_CHUNKS[name]
    run = Ingestion(folder=tmp_path, model=model, chunks=[chunk(0), bad, chunk(2)])
    ended = run.prepare()
    assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "TooManyFailedItems")
    assert said in ended.failure.message
    assert not (tmp_path / "chunks.db").exists()


def test_bad_chunks_within_the_limit_are_counted_and_the_others_are_rows(model: Path, tmp_path: Path) -> None:
    made = [chunk(0), *(bad for bad, _ in BAD_CHUNKS.values()), chunk(2)]
    run = Ingestion(folder=tmp_path, model=model, chunks=made, changes=("spec.items.maxFailedFraction=0.8",))
    summary = run.run()
    assert (summary["rows"], summary["failed"]) == (2, len(BAD_CHUNKS))
    assert [failure["item"] for failure in summary["failures"]] == list(range(1, 8))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "spec.source.files.uris: request.json: not JSON"),
        (b'{"chunks": [{"text": "\xff"}]}', "spec.source.files.uris: request.json: not UTF-8: byte 0xff"),
        (b"[]", "spec.source.files.uris: request.json: not a JSON object but list"),
        (b'{"chunks": []}', "spec.source.files.uris: request.json: chunks: at least 1 is needed"),
        (b'{"chunks": [{}]}', "spec.source.files.uris: no chunk that can be ingested (1 found; first: "),
    ],
)
def test_a_file_that_is_no_request_is_bad_input(model: Path, tmp_path: Path, content: bytes, said: str) -> None:
    run = Ingestion(folder=tmp_path, model=model)
    run.request.write_bytes(content)
    ended = run.prepare()
    assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "InvalidInput")
    assert ended.failure.message.startswith(said)


def test_a_missing_file_names_field_and_path(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model)
    run.request.unlink()
    assert run.prepare().failure.message.startswith(f"spec.source.files.uris: {run.request}: No such file")


def test_a_run_that_goes_on_with_other_settings_is_refused_with_both(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(4))
    assert run.prepare().code == 0
    run.pods.manifest["spec"]["blockSize"] = 3
    assert "spec.blockSize: 8 then, 3 now" in run.prepare().failure.message


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_store_with_vectors_of_another_model_is_refused(
    model: Path, postgres: PostgresServer, tmp_path: Path, kind: str
) -> None:
    store = postgres.new_database() if kind == "postgresql" else ""
    first = Ingestion(folder=tmp_path / "1", model=model, chunks=chunks(4), store=store)
    first.run()
    other = tiny_model.make(tmp_path / "other", seed=2)
    second = Ingestion(folder=tmp_path / "2", model=other, chunks=chunks(4), store=first.store)
    ended = second.prepare()
    assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "StoreMismatch")
    assert "vectors are of onnx:tiny@1 (8 numbers), not of onnx:tiny@2" in ended.failure.message


def test_a_model_that_changes_within_a_run_is_refused(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(4))
    assert run.prepare().code == 0
    run.pods.environment = {
        **run.pods.environment,
        "SHARDWISE_MODEL": str(tiny_model.make(tmp_path / "other", seed=2)),
    }
    ended = run.work()
    assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "StoreMismatch")
    assert run.counts() == Counts(entries=0, vectors=0)


def test_an_llm_without_the_model_is_known_before_the_work(model: Path, llm: OllamaProcess, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(4), url=llm.url, changes=("spec.tmd.model=other",))
    ended = run.prepare()
    assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "InvalidSpec")
    assert "has no model 'other'; it has tinyllama:1.1b" in ended.failure.message
    assert not (tmp_path / "chunks.db").exists()


def test_an_llm_that_is_down_is_unavailable(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(4), url="http://127.0.0.1:9")
    ended = run.prepare()
    assert (ended.code, ended.failure.reason) == (ExitCode.FAILED, "Unavailable")
    assert "no connection" in ended.failure.message


def test_a_dry_run_writes_nothing(model: Path, postgres: PostgresServer, tmp_path: Path) -> None:
    dry = {Environment.DRY_RUN.value: "1"}
    sqlite = Ingestion(folder=tmp_path / "1", model=model, chunks=chunks(4), environment=dry)
    ended = sqlite.prepare()
    assert (ended.code, json.loads(ended.message)["itemsTotal"]) == (0, 4)
    assert not (tmp_path / "1" / "chunks.db").exists()
    assert not sqlite.output.exists()
    uri = postgres.new_database()
    ended = Ingestion(folder=tmp_path / "2", model=model, chunks=chunks(4), environment=dry, store=uri).prepare()
    assert ended.code == 0, ended
    assert postgres.execute("SELECT count(*) FROM pg_tables WHERE schemaname='public'", uri=uri) == [(0,)]


def test_a_store_by_secret_that_is_not_there_is_said(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(4), environment={"SHARDWISE_STORE_URI": ""})
    assert "spec.store.secretRef: there are no Secrets here" in run.prepare().failure.message


# While it works


def test_sigterm_ends_between_blocks_and_another_pod_goes_on(
    model: Path, llm: OllamaProcess, postgres: PostgresServer, tmp_path: Path
) -> None:
    uri = postgres.new_database()
    run = Ingestion(
        folder=tmp_path,
        model=model,
        chunks=chunks(40),
        url=llm.url,
        store=uri,
        changes=("spec.sharding.shards=1", "spec.blockSize=4"),
    )
    assert run.prepare().code == 0
    llm.settings(hold=True)
    pod = run.pods.start(Step.WORK)
    # The first block's answers come, the others' are held.
    llm.wait(held=4)
    llm.release(4)
    llm.wait(calls_at_least=8, held=4)
    terminate(pod)
    # It waits for the block that is under way, and gives the next ones up.
    llm.release(4)
    ended = run.pods.end(pod)
    assert (ended.code, ended.failure.reason) == (ExitCode.TERMINATED, "Interrupted")
    committed = run.blocks()
    assert committed in ({(0, 0)}, {(0, 0), (0, 1)})
    llm.settings(hold=False)
    llm.release()
    llm.wait(in_flight=0, connections=0)
    eventually(lambda: _connections(postgres, uri) == 0, what="its connections are closed")
    assert run.run()["digest"] == digest_of(chunks(40))


def test_a_full_disk_fails_the_shard_and_half_writes_nothing(model: Path, tmp_path: Path) -> None:
    made = [chunk(n, metadata={"padding": "x" * 1000}, text=f"Chunk {n} " + "x" * 4000) for n in range(60)]
    changes = ("spec.sharding.shards=1", "spec.blockSize=4")
    whole = Ingestion(folder=tmp_path / "whole", model=model, chunks=made, changes=changes)
    digest = whole.run()["digest"]
    run = Ingestion(folder=tmp_path / "full", model=model, chunks=made, changes=changes)
    assert run.prepare().code == 0
    # No file may grow beyond this: as a full disk does it, but for this one process.
    run.pods.prefix = ("prlimit", "--fsize=400000")
    ended = run.work()
    assert (ended.code, ended.failure.reason) == (ExitCode.FAILED, "StoreError"), ended
    run.pods.prefix = ()
    committed = len(run.blocks())
    assert 0 < committed < 15
    assert run.counts() == Counts(entries=4 * committed, vectors=4 * committed)
    assert run.run()["digest"] == digest


@pytest.mark.slow
def test_a_block_whose_answers_do_not_come_is_given_up_after_sigterm(
    model: Path, llm: OllamaProcess, postgres: PostgresServer, tmp_path: Path
) -> None:
    uri = postgres.new_database()
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(20), url=llm.url, store=uri)
    assert run.prepare().code == 0
    llm.reset()
    llm.settings(hold=True)
    pod = run.pods.start(Step.WORK)
    llm.wait(held=4)
    terminate(pod)
    ended = run.pods.end(pod)
    assert (ended.code, ended.failure.reason) == (ExitCode.TERMINATED, "Interrupted")
    assert "stopped within a block" in ended.failure.message
    assert run.blocks() == set()
    assert llm.wait(in_flight=0, connections=0)["abandoned"] == 4
    eventually(lambda: _connections(postgres, uri) == 0, what="its connections are closed")


def _connections(postgres: PostgresServer, uri: str) -> int:
    name = uri.rsplit("/", 1)[-1]
    ((found,),) = postgres.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname='{name}'")
    assert isinstance(found, int)
    return found


def test_the_next_blocks_are_asked_for_while_one_waits_for_its_last_answer(
    model: Path, llm: OllamaProcess, tmp_path: Path
) -> None:
    run = Ingestion(
        folder=tmp_path,
        model=model,
        chunks=chunks(12),
        url=llm.url,
        changes=("spec.sharding.shards=1", "spec.blockSize=4", "spec.workers=4"),
    )
    assert run.prepare().code == 0
    llm.script(Fault(kind="hold", contains="Chunk 0 ", times=1))
    pod = run.pods.start(Step.WORK)
    # All others, of the blocks after it too: none of the four workers but the one is kept.
    llm.wait(done=12, held=1)
    assert run.blocks() == set()
    llm.release()
    assert run.pods.end(pod).code == 0
    assert run.blocks() == {(0, 0), (0, 1), (0, 2)}
