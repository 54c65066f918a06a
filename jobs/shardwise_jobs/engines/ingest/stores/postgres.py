"""The shared store: a PostgreSQL that workers on many machines write to at once and other programs read.

A block is copied in binary into a table of the connection and moved from there in order of cpe_id, what is known
already left out; the ledger row comes last, and the commit is the checkpoint. Two writers of one block wait for each
other at its first row, and whoever comes second finds the ledger row and takes everything back.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 (it is a class)
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extensions import parse_dsn

from shardwise.engine.errors import BadConfiguration
from shardwise_api.uris import BadUri, hosts_of

from .base import SCHEMA_VERSION, BlockRecord, NeverPrepared, StoreError, StoreMismatch, VectorModel
from .copy_binary import decode_reals, encode
from .pool import ConnectionPool
from .postgres_refusals import is_for_good
from .postgres_schema import (
    COLUMN_TYPES,
    COPY_STAGING,
    CREATE_STAGING,
    HAS_STAGING,
    INSERT_ENTRIES,
    INSERT_VECTORS,
    VECTOR_TYPE,
    create,
)
from .rows import Row
from .sql_store import LEDGER_COLUMNS, SqlStore, Transient, model_of, record_to_row

T = TypeVar("T")
_LOCK = 0x53686172_64777365
"""Of the advisory lock under which tables are made; any number does that nobody else takes."""
_DEFAULTS = {
    "application_name": "shardwise",
    "connect_timeout": "5",
    # A server that is gone without a word is noticed after half a minute.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
    "client_encoding": "UTF8",
}
_SETTINGS = (
    "SELECT set_config('client_min_messages', 'warning', false), set_config('lock_timeout', %s, false), "
    "set_config('statement_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false)"
)
_VECTORS = frozenset(name for name, kind in COLUMN_TYPES.items() if kind == "real[]")
_JSON = frozenset(name for name, kind in COLUMN_TYPES.items() if kind == "jsonb") | {"failures", "millis"}
_IDS = frozenset({"cpe_id", "batch_id"})
# Serialisation, deadlock, lock not available, cancelled, shut down (three ways), too many connections, idle too long.
_TRANSIENT = frozenset({"40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "53300", "25P03"})
_CONNECTION_EXCEPTION = "08"
_MESSAGE_LENGTH = 300


class PostgresStore(SqlStore):
    """A `RowStore` on a PostgreSQL server. Threads share `pool_size` connections and wait for a free one."""

    def __init__(self, uri: str, *, pool_size: int = 4, timeout_seconds: float = 60, attempts: int = 10) -> None:
        super().__init__(attempts=attempts)
        try:
            hosts_of(uri)
            given = parse_dsn(uri)
        except BadUri as error:
            raise BadConfiguration(f"store.uri: {error}") from None
        except psycopg2.ProgrammingError:
            # Without the driver's text: it may quote the part of the URI that holds the password.
            raise BadConfiguration(
                "store.uri: not a PostgreSQL URI as postgresql://user:password@host:port/database?option=value; "
                "user name and password must be percent-encoded"
            ) from None
        self._dsn = {**_DEFAULTS, **given}
        host, port = given.get("host", "localhost"), given.get("port", "5432")
        self.where = f"postgresql store {host}:{port}/{given.get('dbname', '')}"
        self._timeout_ms = int(timeout_seconds * 1000)
        self._pool = ConnectionPool(self._connect, size=pool_size, timeout_seconds=timeout_seconds)

    def _connect(self) -> Connection:
        try:
            connection: Connection = psycopg2.connect(**self._dsn)
        except psycopg2.OperationalError as error:
            if is_for_good(error, dsn=self._dsn):
                raise BadConfiguration(f"{self.where}: {_message(error)}") from error
            raise
        try:
            with connection, connection.cursor() as cursor:
                # Whoever hangs, or is cut off, must not hold others up for ever.
                cursor.execute(_SETTINGS, (str(self._timeout_ms), str(2 * self._timeout_ms), str(self._timeout_ms)))
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _cursor(self) -> Iterator[Cursor]:
        """Lend a cursor in a transaction, which is rolled back unless the block commits it."""
        try:
            with self._pool.connection() as connection, connection.cursor() as cursor:
                yield cursor
        except psycopg2.Error as error:
            kind = Transient if _is_transient(error) else StoreError
            raise kind(f"{self.where}: {_message(error)}") from error
        except (ValueError, UnicodeError) as error:
            raise StoreError(f"{self.where}: can't be written: {error}") from error

    def _transaction(self, call: Callable[[Cursor], T]) -> T:
        def once() -> T:
            with self._cursor() as cursor:
                found = call(cursor)
                cursor.connection.commit()
                return found

        return self._tried(once)

    def _fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        def query(cursor: Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(sql.replace("?", "%s"), tuple(parameters))
            fetched: list[tuple[Any, ...]] = cursor.fetchall()
            return fetched

        return self._transaction(query)

    def _column(self, name: str) -> str:
        if name in _VECTORS:
            # pgvector's type has a cast to an array.
            return f"array_send({name}::real[])"
        if name in _JSON:
            return f"{name}::text"
        return f"e.{name}" if name == "cpe_id" else name

    def _read(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in _VECTORS:
            return decode_reals(value)
        return UUID(value) if name in _IDS else value

    def prepare(self, *, model: VectorModel) -> None:
        """See `RowStore.prepare`."""
        self._transaction(lambda cursor: self._create(cursor, model))
        self.check(model=model)

    def _create(self, cursor: Cursor, model: VectorModel) -> None:
        # Looked at first without the lock: a worker may lack the right to make tables, and needs none.
        if _exists(cursor, "ingest_meta"):
            return
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if _exists(cursor, "ingest_meta"):
            return
        if _exists(cursor, "cpe_entry") or _exists(cursor, "cpe_vectors"):
            raise StoreMismatch(
                f"{self.where}: it has tables cpe_entry or cpe_vectors of another program; take another database, or "
                "another schema with ?options=-csearch_path%3Dname"
            )
        cursor.execute("SHOW server_encoding")
        if (encoding := _one(cursor)) != "UTF8":
            raise StoreMismatch(f"{self.where}: the database's encoding is {encoding}; texts need UTF8")
        cursor.execute(VECTOR_TYPE)
        vector_type = next((name for (name,) in cursor.fetchall()), None)
        for statement in create(dimension=model.dimension, vector_type=vector_type):
            cursor.execute(statement)
        meta = {
            "schema_version": SCHEMA_VERSION,
            "embed_model": model.name,
            "dimension": model.dimension,
            "vector_type": vector_type or "real[]",
        }
        for key, value in meta.items():
            cursor.execute("INSERT INTO ingest_meta VALUES (%s, %s)", (key, str(value)))

    def _stored_model(self) -> VectorModel:
        if not self._transaction(lambda cursor: _exists(cursor, "ingest_meta")):
            raise NeverPrepared(self.where)
        meta = dict(self._fetch("SELECT key, value FROM ingest_meta", ()))
        return model_of(meta, where=self.where)

    def _commit(self, rows: Sequence[Row], record: BlockRecord) -> int | None:
        try:
            content = encode(rows)
        except (ValueError, UnicodeError) as error:
            raise StoreError(f"{self.where}: a row can't be written: {error}") from error
        return self._transaction(lambda cursor: self._write(cursor, content, record))

    def _write(self, cursor: Cursor, content: bytes, record: BlockRecord) -> int | None:
        key = (record.run, record.shard, record.block)
        known = "SELECT 1 FROM ingest_batch WHERE run_uid=%s AND shard=%s AND batch_no=%s"
        cursor.execute(f"SELECT EXISTS ({known}), {HAS_STAGING}", key)
        ((is_known, has_staging),) = cursor.fetchall()
        if is_known:
            return None
        if not has_staging:
            cursor.execute(CREATE_STAGING)
        cursor.copy_expert(COPY_STAGING, io.BytesIO(content))
        cursor.execute(INSERT_ENTRIES)
        inserted: int = cursor.rowcount
        cursor.execute(INSERT_VECTORS)
        marks = ", ".join(["%s"] * len(LEDGER_COLUMNS))
        cursor.execute(
            f"INSERT INTO ingest_batch ({', '.join(LEDGER_COLUMNS)}) VALUES ({marks}) ON CONFLICT DO NOTHING",
            record_to_row(record, inserted=inserted),
        )
        if cursor.rowcount:
            return inserted
        # Another writer of the same block was faster; what little this one added is taken back.
        cursor.connection.rollback()
        return None

    def record_run(self, *, run: str, document: str) -> None:
        """See `RowStore.record_run`."""

        def write(cursor: Cursor) -> None:
            cursor.execute("INSERT INTO ingest_run VALUES (%s, %s) ON CONFLICT DO NOTHING", (run, document))

        self._transaction(write)

    def close(self) -> None:
        """See `RowStore.close`."""
        self._pool.close()


def _exists(cursor: Cursor, table: str) -> bool:
    # Not to_regclass: a session remembers that a table was not there, also while it waits for who makes it.
    cursor.execute(
        "SELECT count(*) FROM pg_catalog.pg_class WHERE relname=%s AND pg_catalog.pg_table_is_visible(oid)", (table,)
    )
    return bool(_one(cursor))


def _one(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    assert row is not None
    return row[0]


def _is_transient(error: psycopg2.Error) -> bool:
    if error.pgcode is None:
        # The line broke: in the middle of an answer the driver has no better class than the common one.
        return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or type(error) in (
            psycopg2.DatabaseError,
            psycopg2.Error,
        )
    return error.pgcode in _TRANSIENT or error.pgcode.startswith(_CONNECTION_EXCEPTION)


def _message(error: psycopg2.Error) -> str:
    return " ".join(str(error).split())[:_MESSAGE_LENGTH]
