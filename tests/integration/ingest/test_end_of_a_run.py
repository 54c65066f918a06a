"""The end of a run tells the truth: of chunks that share a row, of codes that were there, of rows that others write."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import faiss
import pytest

from shardwise.engine.files import OutputFolder
from shardwise.engine.progress import ProgressSender
from shardwise.engine.stop import StopFlag
from shardwise.engine.worker import Context
from shardwise_api.runs import IngestRunSpec
from shardwise_api.wire import ExitCode, RunDocument, Step
from shardwise_jobs.engines.ingest.finalize import RowsMissing, finalize, result_digest, vectors_digest
from shardwise_jobs.engines.ingest.index import INDEX_FILE
from shardwise_jobs.engines.ingest.source import ChunkFiles
from shardwise_jobs.engines.ingest.stores import Counts, RowStore, VectorModel, open_store
from shardwise_jobs.engines.ingest.stores.sqlite import SqliteStore
from tests.support.ingestion import DATASET, Ingestion, chunk, chunks
from tests.support.ollama.process import OllamaProcess
from tests.support.ollama.script import Fault
from tests.support.rows import new_run, record, row

WAYS = pytest.mark.parametrize(
    "sharding",
    ["{shards: 1}", "{shards: 3}", "{strategy: Chunked, shards: 4}"],
    ids=["one", "robin", "chunked"],
)
ALIKE = ("spec.dedup=content", "spec.tmd={backend: client}", "spec.items.maxFailedFraction=0.5")
"""One row for chunks alike; those without codes have failed, and half of them may."""
CODES = {"domain_code": 1, "task_code": 2, "modifier_code": 3}


# Chunks that share a row


def _nine_alike(first: int = 0) -> list[dict[str, Any]]:
    return [chunk(first, chunk_index=number) for number in range(9)]


@WAYS
def test_chunks_alike_whose_row_was_never_made_have_failed_all_of_them(
    model: Path, tmp_path: Path, sharding: str
) -> None:
    changes = (*ALIKE, "spec.blockSize=2", f"spec.sharding={sharding}")
    run = Ingestion(folder=tmp_path, model=model, chunks=[*_nine_alike(), chunk(1, **CODES)], changes=changes)
    assert run.prepare().code == 0
    for shard in range(run.manifest["spec"]["sharding"]["shards"]):
        assert run.work(shard).code == 0
    ended = run.finalize()
    assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "TooManyFailedItems"), ended
    assert ended.failure.message.startswith("9 of 10 items failed")
    assert "item 1: the same chunk as item 0: tmd: the chunk has no codes" in ended.failure.message
    assert run.counts() == Counts(entries=1, vectors=1)


@WAYS
def test_within_the_limit_they_are_counted_as_failed_and_those_of_a_row_as_done(
    model: Path, tmp_path: Path, sharding: str
) -> None:
    # Nine without a row; then nine of one row, made by the last of them, which brings its codes.
    made = [*_nine_alike(), *_nine_alike(1), chunk(1, chunk_index=9, **CODES), {"text": ""}]
    changes = (*ALIKE, "spec.blockSize=2", f"spec.sharding={sharding}")
    result = Ingestion(folder=tmp_path, model=model, chunks=made, changes=changes).pods.result()
    metrics = {metric.name: metric.value for metric in result.metrics}
    assert (result.items.done, result.items.failed) == (10, 10)
    assert (metrics["inserted"], metrics["deduplicated"], metrics["failed"], metrics["rows"]) == (1, 9, 10, 1)
    assert [failure.item for failure in result.failures] == [0, 1, 2, 3, 4]
    assert result.warnings == []


def test_chunks_alike_whose_row_another_run_made_are_done(model: Path, tmp_path: Path) -> None:
    first = Ingestion(folder=tmp_path / "1", model=model, chunks=[chunk(0, **CODES)], changes=ALIKE)
    first.run()
    made = [*_nine_alike(), chunk(1)]
    second = Ingestion(folder=tmp_path / "2", model=model, chunks=made, changes=ALIKE, store=first.store)
    summary = second.run()
    assert (summary["failed"], summary["deduplicated"], summary["rows"]) == (1, 9, 1)


def test_chunks_alike_whose_row_a_failed_shard_was_to_make_have_failed(model: Path, tmp_path: Path) -> None:
    # Of two shards by turns the first has item 0, which writes the row of items 1, 3, 5 and 7 of the second too.
    changes = (
        "spec.dedup=content",
        "spec.blockSize=2",
        "spec.retry.maxFailedShards=1",
        "spec.items.maxFailedFraction=0.5",
    )
    run = Ingestion(folder=tmp_path, model=model, chunks=[*_nine_alike(), chunk(1)], changes=changes)
    assert run.prepare().code == 0
    assert run.work(1).code == 0
    assert run.finalize().code == 0
    summary = run.summary()
    assert (summary["chunks"], summary["failed"], summary["deduplicated"], summary["rows"]) == (5, 4, 0, 1)
    assert summary["failures"][0] == {"item": 1, "reason": "the same chunk as item 0, which is no row"}


# Codes that were there


def test_rows_that_are_all_of_another_backend_are_said(model: Path, llm: OllamaProcess, tmp_path: Path) -> None:
    first = Ingestion(folder=tmp_path / "1", model=model, chunks=chunks(10), url=llm.url)
    first.run()
    second = Ingestion(folder=tmp_path / "2", model=model, chunks=chunks(10), store=first.store)
    (warning,) = second.pods.result().warnings
    assert warning.startswith("10 chunks were rows already and keep the codes they had; this run asked ")
    assert "embedded-v1:onnx:tiny@1" in warning
    assert warning.endswith("are now: 10 by ollama-v1:tinyllama:1.1b")


def test_rows_of_another_llm_are_said(model: Path, llm: OllamaProcess, tmp_path: Path) -> None:
    first = Ingestion(folder=tmp_path / "1", model=model, chunks=chunks(6), url=llm.url)
    first.run()
    with closing(sqlite3.connect(first.folder / "chunks.db")) as database, database:
        database.execute("UPDATE cpe_entry SET tmd_backend='ollama-v1:other:2b'")
    second = Ingestion(folder=tmp_path / "2", model=model, chunks=chunks(6), url=llm.url, store=first.store)
    (warning,) = second.pods.result().warnings
    assert "this run asked client-provided, ollama-v1:tinyllama:1.1b, the codes" in warning
    assert warning.endswith("are now: 6 by ollama-v1:other:2b")


def test_rows_of_this_backend_of_its_stand_in_and_of_chunks_that_bring_codes_are_no_news(
    model: Path, llm: OllamaProcess, tmp_path: Path
) -> None:
    llm.script(Fault(kind="status", status=400, contains="Chunk 2 ", times=None))
    made = [chunk(0), chunk(1, **CODES), chunk(2)]
    changes = ("spec.tmd.onTmdFailure=Embedded",)
    first = Ingestion(folder=tmp_path / "1", model=model, chunks=made, url=llm.url, changes=changes)
    assert len(first.run()["tmdBackends"]) == 3
    second = Ingestion(folder=tmp_path / "2", model=model, chunks=made, url=llm.url, changes=changes, store=first.store)
    result = second.pods.result()
    assert len(result.summary["tmdBackends"]) == 3
    assert result.warnings == []


# Rows that others write


def _others(store: RowStore, numbers: Iterator[int], *, rows: int) -> None:
    made = [row(next(numbers), embed_model="onnx:tiny@1") for _ in range(rows)]
    store.commit_block(rows=made, record=record(run=new_run(), chunks=rows))


@pytest.mark.parametrize("kind", ["Flat", "IVF"])
def test_a_run_ends_well_while_somebody_else_writes_and_all_it_says_is_of_the_same_rows(
    model: Path, tmp_path: Path, uri: str, kind: str
) -> None:
    run = Ingestion(
        folder=tmp_path / "run", model=model, chunks=chunks(20), store=uri, changes=(f"spec.index.kind={kind}",)
    )
    assert run.prepare().code == 0
    assert run.work(0).code == 0
    assert run.work(1).code == 0
    numbers = count(1000)
    with closing(open_store(uri)) as store:
        # Enough to be under way with for a while.
        _others(store, numbers, rows=2000)
        process = run.pods.start(Step.FINALIZE)
        while _is_running(process):
            _others(store, numbers, rows=5)
        ended = run.pods.end(process)
        assert ended.code == 0, ended
        summary = run.summary()
        written: Any = faiss.read_index(str(run.output / INDEX_FILE))
        ids = set(faiss.vector_to_array(written.id_map).tolist()) if kind == "Flat" else _ids_of_lists(written)
        assert 2020 <= len(ids) == summary["rows"] == summary["ntotal"] == sum(summary["tmdBackends"].values())
        found = [(key, vector) for key, vector in store.keyed_vectors(dataset=DATASET) if vector.faiss_id in ids]
    assert summary["digest"] == result_digest(key for key, _ in found)
    assert summary["vectorDigest"] == vectors_digest(vector for _, vector in found)


def _is_running(process: subprocess.Popen[str]) -> bool:
    return process.poll() is None


def _ids_of_lists(index: Any) -> set[int]:
    lists = index.invlists
    return {
        int(each)
        for number in range(index.nlist)
        for each in faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).tolist()
    }


def test_rows_that_come_during_a_pass_are_in_it_whole_or_not_at_all(uri: str) -> None:
    numbers = count()
    with closing(open_store(uri)) as store, closing(open_store(uri)) as other:
        store.prepare(model=VectorModel(name="onnx:tiny@1", dimension=8))
        _others(store, numbers, rows=1200)
        before = {key.cpe_id for key in store.row_keys()}
        found: list[UUID] = []
        for key, vector in store.keyed_vectors(dataset=DATASET):
            if not len(found) % 300:
                _others(other, numbers, rows=50)
            assert key.cpe_id == vector.cpe_id
            found.append(key.cpe_id)
        assert before < set(found)
        assert found == sorted(set(found), key=lambda each: each.bytes)


def _remove_one(store: Path) -> None:
    with closing(sqlite3.connect(store)) as database, database:
        for table in ("cpe_vectors", "cpe_entry"):
            database.execute(f"DELETE FROM {table} WHERE cpe_id=(SELECT max(cpe_id) FROM {table})")


def test_a_row_that_was_removed_is_missed(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(20))
    run.run()
    _remove_one(tmp_path / "chunks.db")
    ended = run.finalize()
    assert (ended.code, ended.failure.reason) == (ExitCode.FAILED, "RowsMissing")
    assert "has 19 rows and 19 vectors, this run alone wrote 20" in ended.failure.message


class _Removing(SqliteStore):
    """Somebody removes a row as soon as all were counted."""

    def counts(self, *, dataset: str | None = None) -> Counts:
        found = super().counts(dataset=dataset)
        _remove_one(self._path)
        return found


def test_a_row_that_is_removed_after_all_were_counted_is_missed(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(20))
    run.run()
    document = RunDocument.model_validate_json((tmp_path / "run.json").read_text())
    context = Context(
        document=document,
        output=OutputFolder((tmp_path / "again").as_uri()),
        stop=StopFlag(),
        progress=ProgressSender(target=None, run=document.uid, shard=0),
    )
    spec = IngestRunSpec.model_validate(document.spec)
    source = ChunkFiles(spec.source.files, dataset=spec.dataset_source, dedup=spec.dedup)
    with (
        closing(_Removing(tmp_path / "chunks.db")) as store,
        pytest.raises(RowsMissing, match="had 20 rows a moment ago"),
    ):
        finalize(context=context, spec=spec, source=source, store=store)
    assert not (tmp_path / "again" / INDEX_FILE).exists()
