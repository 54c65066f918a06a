"""Both row stores keep the same promises: the embedded file and a real PostgreSQL, one suite over the two."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from shardwise_api.wire import ExitCode
from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.stores import Counts, Row, RowStore, StoreError, VectorModel, open_store
from shardwise_jobs.engines.ingest.stores.base import NeverPrepared, StoreMismatch
from tests.support.rows import DATASET, MODEL, digests, digests_of, new_run, record, row, rows


@dataclass(frozen=True)
class Home:
    """Where a store lives; it may be opened several times, from several processes."""

    uri: str

    def open(self, *, attempts: int = 10) -> RowStore:
        return open_store(self.uri, timeout_seconds=30, attempts=attempts)


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "sqlite":
        return Home(uri=f"sqlite:///{tmp_path / 'rows.db'}")
    return Home(uri=request.getfixturevalue("postgres").new_database())


@pytest.fixture
def store(home: Home) -> Iterator[RowStore]:
    opened = home.open()
    opened.prepare(model=MODEL)
    yield opened
    opened.close()


def _same(found: Row, wanted: Row) -> bool:
    for each in fields(Row):
        ours, theirs = getattr(wanted, each.name), getattr(found, each.name)
        if each.name == "concept_vec":
            assert np.array_equal(ours, theirs)
        elif each.name in ("soft_negatives", "hard_negatives", "parent_cpe_ids", "child_cpe_ids"):
            assert list(ours) == list(theirs)
        else:
            assert ours == theirs, each.name
    return True


FULL = row(
    7,
    source_chunk="Text with “quotes”, a tab\t, a line\n, a backslash \\N and 日本 😀",
    codes=Codes(15, 31, 63),
    tmd_backend="ollama:tiny",
    tmd_confidence=0.25,
    concept_text="Text",
    mission_text="why",
    probe_question="what?",
    expected_answer="this",
    content_type="math",
    relations_text=[{"subject": "a", "object": "b"}],
    echo_score=0.5,
    validation_status="passed",
    batch_id=UUID(int=5),
    soft_negatives=("soft",),
    hard_negatives=("hard", "harder"),
    confidence_score=0.125,
    quality_metrics={"text_length": 43},
    parent_cpe_ids=(str(UUID(int=1)),),
    child_cpe_ids=(str(UUID(int=2)), str(UUID(int=3))),
    created_at=datetime(2026, 11, 21, 23, 0, 0, 123456, tzinfo=UTC),
    last_accessed_at=datetime(1999, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    access_count=3,
    shard=2,
)


def test_a_row_comes_back_as_it_was_written_with_every_bit_of_its_vector(store: RowStore) -> None:
    odd = np.array([1e-45, -0.0, 1.1754944e-38, 0.1, -1 / 3, 3.4028235e38, 1e-7, 0.5], dtype=np.float32)
    full = replace(FULL, concept_vec=odd)
    assert store.commit_block(rows=[full], record=record(run=new_run(), chunks=1)) == 1
    (found,) = store.rows()
    assert _same(found, full)
    assert found.concept_vec.tobytes() == odd.tobytes()
    (vector,) = store.vectors()
    assert vector.fused.tobytes() == full.fused_vec.tobytes()
    assert (vector.cpe_id, vector.faiss_id) == (full.cpe_id, full.faiss_id)


def test_the_store_gives_a_row_its_time(store: RowStore) -> None:
    store.commit_block(rows=[row(1)], record=record(run=new_run(), chunks=1))
    (found,) = store.rows()
    assert found.created_at is not None
    assert abs((datetime.now(UTC) - found.created_at).total_seconds()) < 3600


def test_rows_come_in_order_of_their_ids_over_many_pages(store: RowStore) -> None:
    made = rows(range(1203))
    for block in range(3):
        store.commit_block(rows=made[block::3], record=record(run=new_run(), block=block, chunks=401))
    ids = sorted(one.cpe_id.bytes for one in made)
    assert [key.cpe_id.bytes for key in store.row_keys()] == ids
    assert [vector.cpe_id.bytes for vector in store.vectors()] == ids
    assert [found.cpe_id.bytes for found in store.rows()] == ids
    assert digests(store) == digests_of(made)


def test_a_data_set_is_read_without_the_others(store: RowStore) -> None:
    mine, other = row(1), row(2, dataset_source="other", source_chunk="theirs")
    store.commit_block(rows=[mine, other], record=record(run=new_run(), chunks=2))
    assert [key.cpe_id for key in store.row_keys(dataset=DATASET)] == [mine.cpe_id]
    assert [found.cpe_id for found in store.rows(dataset="other")] == [other.cpe_id]
    assert store.counts(dataset="other") == Counts(entries=1, vectors=1)
    assert store.counts(dataset="nobody's") == Counts(entries=0, vectors=0)
    assert store.counts() == Counts(entries=2, vectors=2)


def test_rows_are_found_by_the_ids_of_their_vectors(store: RowStore) -> None:
    made = rows(range(5))
    store.commit_block(rows=made, record=record(run=new_run(), chunks=5))
    found = store.found(faiss_ids=[made[3].faiss_id, made[1].faiss_id, 12345])
    assert {key: value.cpe_id for key, value in found.items()} == {
        made[number].faiss_id: made[number].cpe_id for number in (1, 3)
    }
    assert store.found(faiss_ids=[]) == {}


def test_a_store_says_which_of_many_ids_are_rows(store: RowStore) -> None:
    made = rows(range(1_203))
    store.commit_block(rows=made[::2], record=record(run=new_run(), chunks=602))
    assert store.known(cpe_ids=[one.cpe_id for one in made]) == {one.cpe_id for one in made[::2]}
    assert store.known(cpe_ids=[made[1].cpe_id]) == store.known(cpe_ids=[]) == set()


def test_a_block_handed_in_twice_is_there_once(store: RowStore) -> None:
    made, row_of_ledger = rows(range(4)), record(run=new_run(), shard=2, block=3, chunks=4)
    assert store.commit_block(rows=made, record=row_of_ledger) == 4
    assert store.commit_block(rows=made, record=row_of_ledger) is None
    assert store.commit_block(rows=rows(range(9)), record=row_of_ledger) is None
    assert store.counts() == Counts(entries=4, vectors=4)
    assert list(store.ledger(run=row_of_ledger.run)) == [replace(row_of_ledger, inserted=4)]


def test_chunks_that_are_rows_already_are_counted_as_duplicates(store: RowStore) -> None:
    run = new_run()
    assert store.commit_block(rows=[row(1), row(2), row(1)], record=record(run=run, chunks=3)) == 2
    assert store.commit_block(rows=rows((2, 3)), record=record(run=run, block=1, chunks=3, failed=1)) == 1
    assert store.commit_block(rows=rows((1, 2, 3)), record=record(run=new_run(), chunks=3)) == 0
    assert [one.deduplicated for one in store.ledger(run=run)] == [1, 1]
    assert store.counts() == Counts(entries=3, vectors=3)


def test_of_two_rows_with_one_id_the_first_stays(store: RowStore) -> None:
    first, second = row(1, tmd_backend="first"), row(1, tmd_backend="second")
    store.commit_block(rows=[first, second], record=record(run=new_run(), chunks=2))
    store.commit_block(rows=[second], record=record(run=new_run(), chunks=1))
    assert [key.tmd_backend for key in store.row_keys()] == ["first"]


def test_an_empty_block_has_its_ledger_row_too(store: RowStore) -> None:
    run = new_run()
    assert store.commit_block(rows=[], record=record(run=run, chunks=2, failed=2)) == 0
    assert store.committed_blocks(run=run, shard=0) == {0}


def test_the_ledger_gives_back_its_rows_by_shard_then_block(store: RowStore) -> None:
    run = new_run()
    made = [
        record(
            run=run,
            shard=shard,
            block=block,
            chunks=5,
            failed=2,
            failures=((12, "it's “odd”\n"), (13, "")),
            millis={"tmd": 1.5, "embed": 2.0},
        )
        for shard in (0, 2, 10)
        for block in (0, 1, 9, 10)
    ]
    for one in reversed(made):
        assert store.commit_block(rows=[], record=one) == 0
    store.commit_block(rows=[], record=record(run=new_run()))
    assert list(store.ledger(run=run)) == made
    assert list(store.ledger(run=run, shard=2)) == made[4:8]
    assert list(store.ledger(run=new_run())) == []
    assert store.committed_blocks(run=run, shard=10) == {0, 1, 9, 10}
    assert store.committed_blocks(run=run, shard=1) == frozenset()


def test_a_reason_that_no_database_takes_does_not_cost_the_block(store: RowStore) -> None:
    run = new_run()
    said = ((0, "NUL \0, half a pair \ud800, bell \a"), (1, "naïve “日本語” 😀\n\tend"))
    assert store.commit_block(rows=[row(1)], record=record(run=run, chunks=3, failed=2, failures=said)) == 1
    (found,) = store.ledger(run=run)
    assert found.failures == ((0, "NUL \ufffd, half a pair \ufffd, bell \ufffd"), said[1])


def test_the_first_document_of_a_run_stays(store: RowStore) -> None:
    run = new_run()
    assert store.run_document(run=run) is None
    store.record_run(run=run, document="first")
    store.record_run(run=run, document="second")
    assert store.run_document(run=run) == "first"


BAD_ROWS = {
    "a vector of another width": replace(row(2), concept_vec=np.ones(9, dtype=np.float32)),
    "numbers of another kind": replace(row(2), concept_vec=np.ones(8, dtype=np.float64)),
    "another model": row(2, embed_model="test:other"),
    "half a surrogate pair": replace(row(2), mission_text="\ud800"),
    "an unknown kind of content": row(2, content_type="poem"),
    "a number that JSON lacks": row(2, quality_metrics={"norm": float("nan")}),
    "another row's vector id": row(2),
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_row_that_can_not_be_written_takes_its_whole_block_back(
    request: pytest.FixtureRequest, store: RowStore, bad: Row
) -> None:
    run, good = new_run(), row(1)
    if request.node.callspec.id.endswith("another row's vector id"):
        bad.__dict__["faiss_id"] = good.faiss_id
    with pytest.raises(StoreError):
        store.commit_block(rows=[good, bad], record=record(run=run, chunks=2))
    assert store.counts() == Counts(entries=0, vectors=0)
    assert store.committed_blocks(run=run, shard=0) == frozenset()
    assert store.commit_block(rows=[good], record=record(run=run, chunks=1)) == 1


def test_a_store_of_another_model_is_refused_with_both_names(home: Home, store: RowStore) -> None:
    other = home.open()
    for wrong in (VectorModel(name="test:nine", dimension=8), VectorModel(name=MODEL.name, dimension=9)):
        with pytest.raises(StoreMismatch, match=rf"of {MODEL.name} \(8 numbers\), not of {wrong.name}") as failure:
            other.prepare(model=wrong)
    other.close()
    assert failure.value.exit_code is ExitCode.BAD_CONFIGURATION
    assert store.check() == MODEL


def test_a_store_that_was_never_prepared_says_so(home: Home) -> None:
    fresh = home.open()
    with pytest.raises(NeverPrepared, match="never prepared"):
        fresh.check()
    fresh.close()


def test_all_of_it_is_there_after_a_reopen(home: Home, store: RowStore) -> None:
    run, made = new_run(), rows(range(3))
    store.commit_block(rows=made, record=record(run=run, chunks=3))
    again = home.open()
    again.prepare(model=MODEL)
    assert digests(again) == digests_of(made)
    assert again.commit_block(rows=made, record=record(run=run, chunks=3)) is None
    again.close()


def test_of_writers_of_one_block_at_once_exactly_one_writes_it(store: RowStore) -> None:
    run, made = new_run(), rows(range(20))
    with ThreadPoolExecutor(8) as pool:
        for block in range(10):
            one = record(run=run, block=block, chunks=20)
            work = [pool.submit(store.commit_block, rows=made, record=one) for _ in range(4)]
            assert sorted(each.result() is None for each in work) == [False, True, True, True]
    assert store.counts() == Counts(entries=20, vectors=20)
    assert sum(one.inserted for one in store.ledger(run=run)) == 20


def test_shards_that_hold_the_same_chunks_in_any_order_never_lock_each_other_out(home: Home, store: RowStore) -> None:
    # One attempt only: a deadlock would come through.
    run, impatient = new_run(), home.open(attempts=1)
    made = rows(range(60))
    with ThreadPoolExecutor(4) as pool:
        work = [
            pool.submit(
                impatient.commit_block,
                rows=made[:: 1 if shard % 2 else -1][shard:],
                record=record(run=run, shard=shard, block=block, chunks=60 - shard),
            )
            for block in range(4)
            for shard in range(4)
        ]
        assert sum(each.result() or 0 for each in work) == 60
    impatient.close()
    assert digests(store) == digests_of(made)


def test_shards_that_meet_at_the_same_new_row_at_once_make_one_row_of_it(home: Home, store: RowStore) -> None:
    run, impatient = new_run(), home.open(attempts=1)
    meet = threading.Barrier(4)

    def commit(shard: int) -> int:
        inserted = 0
        for block in range(60):
            meet.wait()
            one = record(run=run, shard=shard, block=block, chunks=1)
            try:
                inserted += impatient.commit_block(rows=[row(block)], record=one) or 0
            except BaseException:
                meet.abort()
                raise
        return inserted

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(commit, range(4))) == 60
    impatient.close()
    assert digests(store) == digests_of(rows(range(60)))


def _write(home: Home, run: str, shard: int, shards: int) -> None:
    store = home.open()
    store.prepare(model=MODEL)
    made = rows(range(shard, 120, shards))
    for block in range(0, len(made), 8):
        part = made[block : block + 8]
        store.commit_block(rows=part, record=record(run=run, shard=shard, block=block // 8, chunks=len(part)))
    store.close()


def test_processes_that_make_a_new_store_at_once_write_each_row_once(home: Home) -> None:
    run = new_run()
    context = multiprocessing.get_context("spawn")
    # A zombie of shard 0 among them.
    workers = [context.Process(target=_write, args=(home, run, shard, 2)) for shard in (0, 0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = home.open()
    assert digests(store) == digests_of(rows(range(120)))
    assert sum(one.inserted for one in store.ledger(run=run)) == 120
    store.close()
