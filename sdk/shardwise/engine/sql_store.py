"""Blocks in a database, each in one transaction: what it writes and its row of the ledger come together, or neither."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from shardwise_api import uris

from .errors import BadConfiguration, Unavailable, WorkError
from .secrets import remember
from .stores import BlockRecord, checked

_BUSY_SECONDS = 30.0
_CONNECT_SECONDS = 5
_POSTGRES = ("postgresql", "postgres")
_HOPELESS = frozenset({"SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_NOTADB"})


class Cursor(Protocol):
    """What `apply` writes with: a cursor as of PEP 249, within the block's transaction."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> object: ...
    def fetchall(self) -> list[Any]: ...


class SqlBlockStore:
    """Blocks in SQLite or PostgreSQL; a subclass may write to tables of its own as well, in `apply`."""

    def __init__(self, uri: str, *, run: str, field: str) -> None:
        """Name the store: `sqlite:///file.db` or `postgresql://…`; errors begin with `field`.

        Raises:
            BadConfiguration: it is neither.
        """
        remember(uri)
        self._uri = uri
        self._run = run
        self._where = f"{field}: {uris.redacted(uri)}"
        self._open: Any = None
        self._path: Path | None = None
        if uris.scheme_of(uri) in _POSTGRES:
            return
        try:
            self._path = uris.sqlite_path(uri)
        except uris.BadUri as error:
            raise BadConfiguration(f"{field}: {error}; or postgresql://host/database") from error

    def create(self, cursor: Cursor) -> None:
        """Make tables of one's own, unless they are there: CREATE TABLE IF NOT EXISTS."""

    def apply(self, cursor: Cursor, record: BlockRecord, payload: bytes) -> None:
        """Write a block to tables of one's own: within its transaction, and for each block once."""

    # -- BlockStore

    def identity(self) -> str | None:
        """See `BlockStore.identity`."""
        rows = self._rows("SELECT identity FROM shardwise_runs WHERE run = ?", self._run)
        return next((str(identity) for (identity,) in rows), None)

    def begin(self, identity: str) -> str:
        """See `BlockStore.begin`."""
        number, binary = ("INTEGER", "BLOB") if self._path is not None else ("BIGINT", "BYTEA")
        with self._transaction() as cursor:
            if self._path is None:
                # Two that make the same table at once would get in each other's way.
                cursor.execute("SELECT pg_advisory_xact_lock(7305131)")
            cursor.execute("CREATE TABLE IF NOT EXISTS shardwise_runs (run TEXT PRIMARY KEY, identity TEXT NOT NULL)")
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS shardwise_blocks (run TEXT NOT NULL, block {number} NOT NULL, "
                f"record TEXT NOT NULL, payload {binary} NOT NULL, PRIMARY KEY (run, block))"
            )
            self.create(cursor)
            cursor.execute(
                self._sql("INSERT INTO shardwise_runs VALUES (?, ?) ON CONFLICT DO NOTHING"), (self._run, identity)
            )
        return self.identity() or identity

    def blocks(self) -> set[int]:
        """See `BlockStore.blocks`."""
        return {block for (block,) in self._rows("SELECT block FROM shardwise_blocks WHERE run = ?", self._run)}

    def commit(self, record: BlockRecord, payload: bytes) -> BlockRecord:
        """See `BlockStore.commit`."""
        with self._transaction() as cursor:
            cursor.execute(
                self._sql("INSERT INTO shardwise_blocks VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"),
                (self._run, record.block, record.to_json(), payload),
            )
            if cursor.rowcount == 1:
                self.apply(cursor, record, payload)
                return record
        rows = self._rows("SELECT record FROM shardwise_blocks WHERE run = ? AND block = ?", self._run, record.block)
        return BlockRecord.from_json(rows[0][0])

    def ledger(self, within: range | None = None) -> Iterator[BlockRecord]:
        """See `BlockStore.ledger`."""
        values: list[object] = [self._run]
        statement = "SELECT block, record FROM shardwise_blocks WHERE run = ?"
        if within is not None:
            statement, values = f"{statement} AND block >= ? AND block < ?", [self._run, within.start, within.stop]
        for block, text in self._rows(f"{statement} ORDER BY block", *values):
            if within is None or block in within:
                yield BlockRecord.from_json(text)

    def payloads(self, records: Sequence[BlockRecord]) -> Iterator[bytes]:
        """See `BlockStore.payloads`."""
        for record in records:
            statement = "SELECT payload FROM shardwise_blocks WHERE run = ? AND block = ?"
            ((payload,),) = self._rows(statement, self._run, record.block)
            yield checked(record, bytes(payload))

    def close(self) -> None:
        """See `BlockStore.close`."""
        if self._open is not None:
            self._open.close()
            self._open = None

    # -- the database

    def _rows(self, statement: str, *values: object) -> list[Any]:
        if self._path is not None and not self._path.exists():
            # A look at what was never begun makes no file.
            return []
        with self._transaction(write=False) as cursor:
            if not self._is_begun(cursor):
                return []
            cursor.execute(self._sql(statement), values)
            rows: list[Any] = cursor.fetchall()
            return rows

    def _is_begun(self, cursor: Cursor) -> bool:
        if self._path is not None:
            cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'shardwise_blocks'")
        else:
            cursor.execute("SELECT 1 WHERE to_regclass('shardwise_blocks') IS NOT NULL")
        return bool(cursor.fetchall())

    def _sql(self, statement: str) -> str:
        return statement if self._path is not None else statement.replace("?", "%s")

    @contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[Any]:
        try:
            if self._open is None:
                self._open = self._connected()
            cursor = self._open.cursor()
            if self._path is not None:
                # The right to write is taken at once: a reader that becomes a writer could be refused half-way.
                cursor.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield cursor
            self._open.commit()
        except BaseException as error:
            # Another try gets a connection of its own: of this one nobody knows what is left open.
            with suppress(Exception):
                self.close()
            explained = self._explained(error)
            if explained is None:
                raise
            raise explained from error

    def _connected(self) -> Any:
        if self._path is not None:
            return sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            import psycopg2
        except ImportError as error:
            raise BadConfiguration(f"{self._where}: needs pip install psycopg2-binary") from error
        return psycopg2.connect(self._uri, connect_timeout=_CONNECT_SECONDS)

    def _explained(self, error: BaseException) -> WorkError | None:
        said = " ".join(str(error).split())
        if isinstance(error, sqlite3.DatabaseError):
            # Of an extended code the first part is the kind: SQLITE_CANTOPEN_ISDIR.
            kind = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
            if kind in _HOPELESS:
                return BadConfiguration(f"{self._where}: {said}")
            return Unavailable(f"{self._where}: {said}") if isinstance(error, sqlite3.OperationalError) else None
        if type(error).__module__.partition(".")[0] != "psycopg2":
            return None
        if type(error).__name__ in ("OperationalError", "InterfaceError") or isinstance(error, OSError):
            return Unavailable(f"{self._where}: {said}")
        if getattr(error, "pgcode", None) in ("40001", "40P01"):
            return Unavailable(f"{self._where}: {said}")
        return None
