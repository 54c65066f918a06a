"""What only a shared database can do to a store: cut it off, be restarted, be full, be somebody else's."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import psycopg2
import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise_jobs.engines.ingest.stores import Counts, RowStore, StoreError, StoreUnavailable, open_store
from shardwise_jobs.engines.ingest.stores.base import StoreMismatch
from tests.support.postgres_server import PostgresServer
from tests.support.rows import MODEL, digests, digests_of, new_run, record, row, rows


@pytest.fixture
def uri(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
def store(uri: str) -> Iterator[RowStore]:
    opened = open_store(uri, pool_size=2, timeout_seconds=20)
    opened.prepare(model=MODEL)
    yield opened
    opened.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_a_restart_between_two_blocks_is_not_noticed(
    postgres: PostgresServer, store: RowStore, how: signal.Signals
) -> None:
    run = new_run()
    assert store.commit_block(rows=rows(range(5)), record=record(run=run, chunks=5)) == 5
    postgres.restart(how)
    assert store.commit_block(rows=rows(range(5, 9)), record=record(run=run, block=1, chunks=4)) == 4
    assert digests(store) == digests_of(rows(range(9)))


def test_a_reader_goes_on_after_a_restart_where_it_was(postgres: PostgresServer, store: RowStore) -> None:
    made = rows(range(1100))
    store.commit_block(rows=made, record=record(run=new_run(), chunks=1100))
    found = []
    for number, vector in enumerate(store.vectors()):
        if number in (0, 600):
            postgres.restart(signal.SIGQUIT)
        found.append(vector.cpe_id.bytes)
    assert found == sorted(one.cpe_id.bytes for one in made)


def test_a_store_whose_connections_were_all_cut_makes_new_ones(postgres: PostgresServer, store: RowStore) -> None:
    run = new_run()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda block: store.commit_block(rows=[], record=record(run=run, block=block)), range(8)))
        assert postgres.kill_backends() >= 1
        list(pool.map(lambda block: store.commit_block(rows=[], record=record(run=run, block=block)), range(8, 16)))
    assert store.committed_blocks(run=run, shard=0) == frozenset(range(16))


def test_more_threads_than_connections_wait_for_one(postgres: PostgresServer, uri: str) -> None:
    run, store = new_run(), open_store(uri, pool_size=2, timeout_seconds=20, attempts=1)
    store.prepare(model=MODEL)
    with ThreadPoolExecutor(10) as pool:
        work = [
            pool.submit(store.commit_block, rows=[row(block)], record=record(run=run, block=block, chunks=1))
            for block in range(40)
        ]
        assert [each.result() for each in work] == [1] * 40
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname='{uri.rpartition('/')[2]}'"
    ((connections,),) = postgres.execute(count)
    assert connections == 2
    store.close()


def test_a_closed_store_leaves_no_connection_behind(postgres: PostgresServer, uri: str) -> None:
    store = open_store(uri)
    store.prepare(model=MODEL)
    store.commit_block(rows=rows(range(3)), record=record(run=new_run(), chunks=3))
    next(store.rows())
    store.close()
    # The server refuses while anybody is connected.
    postgres.execute(f"DROP DATABASE {uri.rpartition('/')[2]}")


def test_a_server_that_is_not_there_is_unavailable_and_its_password_stays_secret() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    store = open_store(f"postgresql://worker:s3cret@127.0.0.1:{port}/db", attempts=2)
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}/db") as failure:
        store.prepare(model=MODEL)
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [(("shardwise:", "shardwise:wrong"), "password"), (("/t", "/nothing"), "does not exist")],
    ids=["password", "database"],
)
def test_what_the_server_refuses_for_good_is_not_tried_again(uri: str, change: tuple[str, str], said: str) -> None:
    store = open_store(uri.replace(*change))
    with pytest.raises(BadConfiguration, match=said) as failure:
        store.prepare(model=MODEL)
    assert uri.split(":")[2].split("@")[0] not in str(failure.value)


@pytest.mark.parametrize(
    "wrong", ["postgresql://worker:s3%zzcret@127.0.0.1/db", "postgresql://worker:s3cret@127.0.0.1/db?s3cret=1"]
)
def test_a_bad_uri_is_bad_configuration_and_its_password_stays_secret(wrong: str) -> None:
    with pytest.raises(BadConfiguration, match=r"store\.uri") as failure:
        open_store(wrong)
    assert "s3" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_a_pool_without_connections_is_bad_configuration(uri: str) -> None:
    with pytest.raises(BadConfiguration, match="pool_size must be greater than 0"):
        open_store(uri, pool_size=0)


def test_tables_of_another_program_are_left_alone(postgres: PostgresServer, uri: str) -> None:
    postgres.execute("CREATE TABLE cpe_entry (theirs text)", uri=uri)
    store = open_store(uri)
    with pytest.raises(StoreMismatch, match="another program"):
        store.prepare(model=MODEL)
    store.close()
    aside = open_store(f"{uri}?options=-csearch_path%3Dours")
    postgres.execute("CREATE SCHEMA ours", uri=uri)
    aside.prepare(model=MODEL)
    assert aside.commit_block(rows=[row(1)], record=record(run=new_run(), chunks=1)) == 1
    aside.close()
    assert postgres.execute("SELECT count(*) FROM public.cpe_entry", uri=uri) == [(0,)]


def test_a_schema_of_another_version_is_refused_with_both_versions(
    postgres: PostgresServer, uri: str, store: RowStore
) -> None:
    postgres.execute("UPDATE ingest_meta SET value='7' WHERE key='schema_version'", uri=uri)
    other = open_store(uri)
    with pytest.raises(StoreMismatch, match="version 7, this program writes version 1"):
        other.prepare(model=MODEL)
    other.close()


def test_a_database_that_can_not_hold_every_text_is_refused(postgres: PostgresServer) -> None:
    store = open_store(postgres.new_database(encoding="LATIN1"))
    with pytest.raises(StoreMismatch, match="LATIN1"):
        store.prepare(model=MODEL)
    store.close()


def test_text_and_codes_are_parts_of_the_fused_vector_for_programs_that_read_the_tables(
    postgres: PostgresServer, uri: str, store: RowStore
) -> None:
    made = rows(range(3))
    store.commit_block(rows=made, record=record(run=new_run(), chunks=3))
    parts = "fused_vec[:8] = concept_vec, fused_vec[9:] = tmd_dense, concept_vec::text, tmd_dense::text"
    for one in made:
        found = postgres.execute(f"SELECT {parts} FROM cpe_vectors WHERE cpe_id='{one.cpe_id}'", uri=uri)
        ((same_text, same_codes, text, codes),) = found
        assert (same_text, same_codes) == (True, True)
        for shown, wanted in ((text, one.concept_vec), (codes, one.codes.dense())):
            assert [float(number) for number in str(shown).strip("{}").split(",")] == pytest.approx(wanted.tolist())


def test_a_text_with_nul_takes_its_block_back(store: RowStore) -> None:
    run = new_run()
    with pytest.raises(StoreError):
        store.commit_block(rows=[row(1), row(2, source_chunk="a\0b")], record=record(run=run, chunks=2))
    assert store.counts() == Counts(entries=0, vectors=0)
    assert store.commit_block(rows=[row(1)], record=record(run=run, chunks=1)) == 1


def test_a_worker_needs_no_right_to_make_tables(postgres: PostgresServer, uri: str, store: RowStore) -> None:
    postgres.execute("DROP ROLE IF EXISTS worker")
    postgres.execute("CREATE ROLE worker LOGIN PASSWORD 'secret'")
    postgres.execute("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO worker", uri=uri)
    head, _, tail = uri.partition("//")
    worker = open_store(f"{head}//worker:secret@{tail.partition('@')[2]}")
    worker.prepare(model=MODEL)
    assert worker.commit_block(rows=rows(range(3)), record=record(run=new_run(), chunks=3)) == 3
    worker.close()
    postgres.execute("DROP OWNED BY worker", uri=uri)
    postgres.execute("DROP ROLE worker")


class Zombie:
    """A writer that has begun to commit block 0 of shard 0, and never comes to its end by itself."""

    def __init__(self, postgres: PostgresServer, uri: str, *, run: str) -> None:
        self._postgres = postgres
        self.connection = psycopg2.connect(uri)
        with self.connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO ingest_batch (run_uid, shard, batch_no, state, n_chunks, n_failed, n_inserted, failures, "
                "millis) VALUES (%s, 0, 0, 'committed', 4, 0, 0, '[]', '{}')",
                (run,),
            )

    def __enter__(self) -> Zombie:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.connection.close()

    def is_waited_for_by(self, waiting: Future[int | None], *, not_process: int = 0) -> int:
        """Return the server's process that waits for it, as soon as there is one."""
        while True:
            found = self._postgres.execute("SELECT pid FROM pg_locks WHERE NOT granted")
            for (process,) in found:
                if process != not_process:
                    return int(str(process))
            assert not waiting.done()


def test_a_writer_that_finds_its_block_half_written_by_a_zombie_waits_and_then_leaves_it(
    postgres: PostgresServer, uri: str, store: RowStore
) -> None:
    run = new_run()
    with Zombie(postgres, uri, run=run) as zombie, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.commit_block, rows=rows(range(4)), record=record(run=run, chunks=4))
        zombie.is_waited_for_by(waiting)
        zombie.connection.commit()
        assert waiting.result() is None
    # What the one that came second had added is taken back: the block is the zombie's.
    assert store.counts() == Counts(entries=0, vectors=0)


def test_a_writer_goes_on_when_a_zombie_that_held_its_rows_is_cut_off(
    postgres: PostgresServer, uri: str, store: RowStore
) -> None:
    run = new_run()
    with Zombie(postgres, uri, run=run) as zombie, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.commit_block, rows=rows(range(4)), record=record(run=run, chunks=4))
        zombie.is_waited_for_by(waiting)
        postgres.execute(f"SELECT pg_terminate_backend({zombie.connection.info.backend_pid})")
        assert waiting.result() == 4
    assert digests(store) == digests_of(rows(range(4)))


def test_a_writer_that_is_cut_off_in_the_middle_of_a_block_writes_it_again(
    postgres: PostgresServer, uri: str, store: RowStore, caplog: pytest.LogCaptureFixture
) -> None:
    run = new_run()
    with Zombie(postgres, uri, run=run) as zombie, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.commit_block, rows=rows(range(4)), record=record(run=run, chunks=4))
        first = zombie.is_waited_for_by(waiting)
        postgres.execute(f"SELECT pg_terminate_backend({first})")
        assert zombie.is_waited_for_by(waiting, not_process=first) != first
        zombie.connection.rollback()
        assert waiting.result() == 4
    assert "attempt 1 of 10 failed" in caplog.text
    assert digests(store) == digests_of(rows(range(4)))


def test_a_writer_that_can_not_be_serialised_tries_again(
    postgres: PostgresServer, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    postgres.execute(f"ALTER DATABASE {uri.rpartition('/')[2]} SET default_transaction_isolation='serializable'")
    run, store = new_run(), open_store(uri, timeout_seconds=20)
    store.prepare(model=MODEL)
    with Zombie(postgres, uri, run=run) as zombie, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.commit_block, rows=rows(range(4)), record=record(run=run, chunks=4))
        zombie.is_waited_for_by(waiting)
        zombie.connection.commit()
        assert waiting.result() is None
    assert "could not serialize access" in caplog.text
    store.close()


def test_a_writer_in_a_deadlock_gives_way_and_tries_again(
    postgres: PostgresServer, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    # The store's connections look for a deadlock first; the zombie never does.
    postgres.execute(f"ALTER DATABASE {uri.rpartition('/')[2]} SET deadlock_timeout='3s'")
    run, store = new_run(), open_store(uri, timeout_seconds=60)
    store.prepare(model=MODEL)
    with Zombie(postgres, uri, run=run) as zombie, ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(store.commit_block, rows=rows(range(4)), record=record(run=run, chunks=4))
        zombie.is_waited_for_by(waiting)
        with zombie.connection.cursor() as cursor:
            cursor.execute("SET deadlock_timeout='1h'")
            cursor.execute("LOCK TABLE cpe_entry IN EXCLUSIVE MODE")
        zombie.connection.rollback()
        assert waiting.result() == 4
    assert "deadlock detected" in caplog.text
    assert digests(store) == digests_of(rows(range(4)))
    store.close()


def test_a_schema_version_that_is_no_number_is_refused_as_another_program_s(postgres: PostgresServer, uri: str) -> None:
    store = open_store(uri)
    store.prepare(model=MODEL)
    postgres.execute("UPDATE ingest_meta SET value='2.0' WHERE key='schema_version'", uri=uri)
    with pytest.raises(StoreMismatch, match=r"version '2\.0', which is none of this program's"):
        store.prepare(model=MODEL)
    store.close()
