"""Writers are killed and the database is restarted at random moments, again and again: each row is there once."""

from __future__ import annotations

import random
import signal
from multiprocessing.connection import Connection, wait

import pytest

from shardwise_jobs.engines.ingest.stores import Counts, open_store
from tests.support.postgres_server import PostgresServer
from tests.support.row_writer import BLOCK, ROWS, Writer, ended
from tests.support.rows import digests, digests_of, new_run, rows

_HOWS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)


def _assert_each_row_is_there_once(uri: str, run: str) -> None:
    store = open_store(uri)
    assert store.counts() == Counts(entries=ROWS, vectors=ROWS)
    assert digests(store) == digests_of(rows(range(ROWS)))
    ledger = list(store.ledger(run=run))
    assert sum(one.inserted for one in ledger) == ROWS
    assert len({(one.shard, one.block) for one in ledger}) == len(ledger) == ROWS // BLOCK
    store.close()


@pytest.mark.slow
def test_writers_that_are_killed_twenty_times_leave_each_row_once(uri: str) -> None:
    run, dice = new_run(), random.Random(6)
    with ended([Writer.start(uri, run, shard=0, shards=2)]) as writers:
        for _ in range(20):
            before = writers[-1]
            # Started before the other is dead: it looks into the ledger too early, and writes the same blocks again.
            writers.append(Writer.start(uri, run, shard=0, shards=2))
            heard = dice.randrange(5)
            before.may_write(heard + 1)
            assert before.hears(heard)
            # Somewhere in the next block, or just after its commit.
            before.process.kill()
            before.process.join()
            assert before.process.exitcode == -signal.SIGKILL
        last = [writers[-1], Writer.start(uri, run, shard=1, shards=2)]
        writers.append(last[-1])
        for writer in last:
            writer.may_write()
        for writer in last:
            while writer.hears():
                continue
            writer.process.join()
            assert writer.process.exitcode == 0
    _assert_each_row_is_there_once(uri, run)


@pytest.mark.slow
def test_a_database_that_is_restarted_twenty_times_while_shards_write_has_each_row_once(
    postgres: PostgresServer,
) -> None:
    uri, run, dice = postgres.new_database(), new_run(), random.Random(7)
    restarts = 0
    # Two shards, and a zombie of the first.
    with ended([Writer.start(uri, run, shard=shard, shards=2) for shard in (0, 1, 0)]) as writers:
        talking = {writer.line: writer for writer in writers}
        for writer in writers:
            writer.may_write()
        while talking:
            for line in wait(list(talking)):
                assert isinstance(line, Connection)
                if not talking[line].hears():
                    del talking[line]
                # For each commit that is heard of: on a busy machine several come at once.
                if restarts < 25 and dice.random() < 0.15:
                    postgres.restart(dice.choice(_HOWS))
                    restarts += 1
        for writer in writers:
            writer.process.join()
            assert writer.process.exitcode == 0
    assert restarts >= 20
    _assert_each_row_is_there_once(uri, run)
