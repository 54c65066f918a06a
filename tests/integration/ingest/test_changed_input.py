"""An input that is another one than `prepare` saw is refused: no chunk is lost, and no row gets another text's id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from shardwise_api.wire import ExitCode
from shardwise_jobs.engines.ingest.index import INDEX_FILE
from shardwise_jobs.engines.ingest.stores import Counts, open_store
from tests.support.ingestion import Ingestion, chunk, chunks
from tests.support.rows import record
from tests.support.web import serving_files
from tests.support.worker import Ended

CHANGED = "spec.source.files.uris: the input has changed since this run was prepared"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The URL of the folder `web`, whose files have no size that could be asked for."""
    folder = tmp_path / "web"
    folder.mkdir()
    with serving_files(folder) as url:
        yield url


def _as_lines(made: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(each) + "\n" for each in made)


def _refused(ended: Ended) -> bool:
    assert ended.code == ExitCode.BAD_CONFIGURATION, ended
    assert ended.failure.reason == "InvalidInput"
    return ended.failure.message.startswith(CHANGED)


@pytest.mark.parametrize("now", [chunks(7), [chunk(n, source_document="other") for n in range(10)], chunks(13)])
def test_an_input_of_the_web_that_changed_after_prepare_is_refused(
    model: Path, tmp_path: Path, web: str, now: list[dict[str, Any]]
) -> None:
    lines = tmp_path / "web" / "chunks.jsonl"
    lines.write_text(_as_lines(chunks(10)))
    source = f"spec.source.files={{uris: ['{web}/chunks.jsonl'], format: jsonl}}"
    run = Ingestion(folder=tmp_path / "run", model=model, changes=(source,))
    assert run.prepare().code == 0
    lines.write_text(_as_lines(now))
    assert _refused(run.work(0))
    assert _refused(run.work(1))
    assert run.counts() == Counts(entries=0, vectors=0)


def test_an_edit_that_leaves_the_size_as_it_was_is_refused_and_undone_the_run_goes_on(
    model: Path, tmp_path: Path
) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(10))
    assert run.prepare().code == 0
    before = run.request.read_text()
    run.request.write_text(before.replace("Chunk 3 ", "Chunk 4 "))
    assert run.request.stat().st_size == len(before)
    assert _refused(run.work())
    run.request.write_text(before)
    assert run.run()["rows"] == 10


def test_codes_that_change_are_a_change_too(model: Path, tmp_path: Path) -> None:
    made = [chunk(n, domain_code=1, task_code=1, modifier_code=1) for n in range(4)]
    run = Ingestion(folder=tmp_path, model=model, chunks=made)
    assert run.prepare().code == 0
    run.request.write_text(run.request.read_text().replace('"domain_code": 1', '"domain_code": 2'))
    assert _refused(run.work())


def test_a_ledger_with_fewer_chunks_than_the_input_is_no_result(model: Path, tmp_path: Path) -> None:
    run = Ingestion(folder=tmp_path, model=model, chunks=chunks(20))
    assert run.prepare().code == 0
    assert run.work(0).code == 0
    with closing(open_store(run.store)) as store:
        # As a worker left them that took its input to end there.
        store.commit_block(rows=[], record=record(run=run.pods.uid, shard=1, block=0, chunks=5, failed=0))
        store.commit_block(rows=[], record=record(run=run.pods.uid, shard=1, block=1, chunks=2, failed=0))
    ended = run.finalize()
    assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "InvalidInput")
    assert "block 0 of shard 1 has 5 chunks in the ledger, 8 in the input" in ended.failure.message
    assert not (run.output / INDEX_FILE).exists()
