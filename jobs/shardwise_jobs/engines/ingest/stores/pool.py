"""A few connections for many threads: whoever finds none free waits, and one that broke is never handed out again.

psycopg2's own pool raises an error where this one waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Protocol, TypeVar

from .base import StoreUnavailable


class _Connection(Protocol):
    def rollback(self) -> None: ...
    def close(self) -> None: ...


C = TypeVar("C", bound=_Connection)


class ConnectionPool(Generic[C]):
    """Up to `size` connections, made when they are first needed."""

    def __init__(self, connect: Callable[[], C], *, size: int, timeout_seconds: float) -> None:
        self._connect = connect
        self._size = size
        self._timeout = timeout_seconds
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[C] = []
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[C]:
        """Lend a connection; what is open on it when the block ends, by an error or not, is rolled back.

        Raises:
            StoreUnavailable: none became free in time.
        """
        if not self._free.acquire(timeout=self._timeout):
            raise StoreUnavailable(
                f"none of {self._size} connections became free within {self._timeout:g} s; raise the pool's size"
            )
        try:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self._connect()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._free.release()

    def _give_back(self, connection: C) -> None:
        try:
            connection.rollback()
        except Exception:  # whatever the driver raises: it is of no more use
            _close(connection)
            # One server is behind all of them; most likely they broke with it.
            self.drop_idle()
            return
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        _close(connection)

    def drop_idle(self) -> None:
        """Close the connections that nobody uses now."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            _close(connection)

    def close(self) -> None:
        """Close all; those that are lent out are closed when they come back."""
        with self._lock:
            self._closed = True
        self.drop_idle()


def _close(connection: _Connection) -> None:
    with suppress(Exception):
        connection.close()
