"""The pool lends each connection to one at a time, lets others wait, and never lends a broken one again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from shardwise_jobs.engines.ingest.stores import StoreUnavailable
from shardwise_jobs.engines.ingest.stores.pool import ConnectionPool


@dataclass
class Line:
    """A connection that counts."""

    broken: bool = False
    closed: bool = False
    users: int = 0
    rollbacks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def rollback(self) -> None:
        if self.broken:
            raise OSError("gone")
        self.rollbacks += 1

    def close(self) -> None:
        self.closed = True


@dataclass
class Lines:
    """Makes connections and remembers them."""

    made: list[Line] = field(default_factory=list)
    refuses: bool = False

    def connect(self) -> Line:
        if self.refuses:
            raise OSError("refused")
        self.made.append(Line())
        return self.made[-1]

    def pool(self, *, size: int, timeout_seconds: float = 30) -> ConnectionPool[Line]:
        return ConnectionPool(self.connect, size=size, timeout_seconds=timeout_seconds)


def test_a_connection_is_made_when_it_is_needed_and_used_again() -> None:
    lines = Lines()
    pool = lines.pool(size=3)
    assert lines.made == []
    for _ in range(5):
        with pool.connection():
            pass
    assert len(lines.made) == 1
    assert lines.made[0].rollbacks == 5


def test_many_threads_share_few_connections_and_none_at_once() -> None:
    lines = Lines()
    pool = lines.pool(size=2)

    def use(_: int) -> int:
        with pool.connection() as line:
            assert line.lock.acquire(blocking=False)
            line.users += 1
            line.lock.release()
            return 1

    with ThreadPoolExecutor(10) as threads:
        assert sum(threads.map(use, range(200))) == 200
    assert len(lines.made) <= 2
    assert sum(line.users for line in lines.made) == 200


def test_who_waits_too_long_is_told_what_to_change() -> None:
    pool = Lines().pool(size=1, timeout_seconds=0)
    with (
        pool.connection(),
        pytest.raises(StoreUnavailable, match="none of 1 connections became free within 0 s; raise the pool's size"),
        pool.connection(),
    ):
        pass


def test_after_an_error_the_connection_is_rolled_back_and_lent_again() -> None:
    lines = Lines()
    pool = lines.pool(size=1)
    with pytest.raises(ValueError, match="mine"), pool.connection():
        raise ValueError("mine")
    with pool.connection() as line:
        assert (line.rollbacks, line.closed) == (1, False)


def test_a_broken_connection_is_closed_and_its_idle_neighbours_with_it() -> None:
    lines = Lines()
    pool = lines.pool(size=2)
    with pool.connection(), pool.connection():
        pass
    with pool.connection() as line:
        line.broken = True
    assert [line.closed for line in lines.made] == [True, True]
    with pool.connection() as fresh:
        assert fresh is lines.made[2]


def test_a_refused_connection_leaves_its_place_free() -> None:
    lines = Lines(refuses=True)
    pool = lines.pool(size=1, timeout_seconds=0)
    for _ in range(3):
        with pytest.raises(OSError, match="refused"), pool.connection():
            pass
    lines.refuses = False
    with pool.connection() as line:
        assert line is lines.made[0]


def test_a_closed_pool_closes_also_what_is_still_lent() -> None:
    lines = Lines()
    pool = lines.pool(size=2)
    with pool.connection(), pool.connection():
        pass
    with pool.connection() as line:
        pool.close()
        assert not line.closed
    assert all(line.closed for line in lines.made)
