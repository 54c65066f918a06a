"""The embedded store: one SQLite file, shared by the worker processes of one machine, nothing to install.

Tables and columns are those of the PostgreSQL store; ids are text, JSON is text, vectors are little-endian float32.
One writer at a time, in a transaction that takes the file's lock at its begin.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.sqlite_reader import connect_reader

from .base import SCHEMA_VERSION, BlockRecord, NeverPrepared, StoreError, StoreMismatch, VectorModel
from .rows import ENTRY_COLUMNS, VECTOR_COLUMNS, Row, entry_values
from .sql_store import LEDGER_COLUMNS, SqlStore, Transient, model_of, record_to_row

T = TypeVar("T")
_PAGES_BEFORE_CHECKPOINT = 8_000
_IDS = frozenset({"cpe_id", "batch_id"})
_TIMES = frozenset({"created_at", "last_accessed_at"})
_VECTORS = frozenset({"fused_vec", "concept_vec", "tmd_dense"})
_SCHEMA = """
CREATE TABLE cpe_entry(
  cpe_id TEXT PRIMARY KEY, mission_text TEXT NOT NULL, source_chunk TEXT NOT NULL, concept_text TEXT NOT NULL,
  probe_question TEXT NOT NULL, expected_answer TEXT NOT NULL, domain_code INTEGER NOT NULL,
  task_code INTEGER NOT NULL, modifier_code INTEGER NOT NULL,
  content_type TEXT NOT NULL CHECK(content_type IN ('factual', 'math', 'instruction', 'narrative')),
  dataset_source TEXT NOT NULL, chunk_position TEXT NOT NULL, relations_text TEXT, echo_score REAL,
  validation_status TEXT NOT NULL CHECK(validation_status IN ('passed', 'failed', 'pending')),
  batch_id TEXT, created_at TEXT NOT NULL, tmd_bits INTEGER NOT NULL, tmd_lane TEXT NOT NULL,
  lane_index INTEGER NOT NULL CHECK(lane_index BETWEEN 0 AND 32767), soft_negatives TEXT NOT NULL,
  hard_negatives TEXT NOT NULL, last_accessed_at TEXT, access_count INTEGER NOT NULL, confidence_score REAL,
  quality_metrics TEXT NOT NULL, parent_cpe_ids TEXT NOT NULL, child_cpe_ids TEXT NOT NULL, run_uid TEXT NOT NULL,
  shard INTEGER NOT NULL, chunk_sha256 TEXT NOT NULL, faiss_id INTEGER NOT NULL UNIQUE, tmd_backend TEXT NOT NULL,
  tmd_confidence REAL, embed_model TEXT NOT NULL);
CREATE INDEX cpe_entry_dataset_source ON cpe_entry(dataset_source, cpe_id);
CREATE INDEX cpe_entry_lane_index ON cpe_entry(lane_index);
CREATE TABLE cpe_vectors(
  cpe_id TEXT PRIMARY KEY REFERENCES cpe_entry(cpe_id) ON DELETE CASCADE, fused_vec BLOB NOT NULL,
  concept_vec BLOB NOT NULL, tmd_dense BLOB NOT NULL, fused_norm REAL NOT NULL);
CREATE TABLE ingest_batch(
  run_uid TEXT NOT NULL, shard INTEGER NOT NULL, batch_no INTEGER NOT NULL, state TEXT NOT NULL,
  n_chunks INTEGER NOT NULL, n_failed INTEGER NOT NULL, n_inserted INTEGER NOT NULL, failures TEXT NOT NULL,
  millis TEXT NOT NULL, finished_at TEXT NOT NULL, PRIMARY KEY(run_uid, shard, batch_no)) WITHOUT ROWID;
CREATE TABLE ingest_run(run_uid TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE ingest_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class SqliteStore(SqlStore):
    """A `RowStore` in one file. Threads of a process share one connection; processes take turns."""

    def __init__(self, path: Path, *, read_only: bool = False, timeout_seconds: float = 60, attempts: int = 10) -> None:
        super().__init__(attempts=attempts)
        self.where = f"sqlite store {path}"
        self._path = path
        self._read_only = read_only
        self._timeout = timeout_seconds
        self._lock = threading.RLock()
        self._open: sqlite3.Connection | None = None

    def _connection(self) -> sqlite3.Connection:
        # On first use: a plan, or a manifest that turns out to be wrong, makes no file.
        if self._open is None:
            if self._read_only and not self._path.exists():
                raise StoreError(f"{self.where}: no such file")
            if self._read_only:
                db = connect_reader(self._path, timeout_seconds=self._timeout)
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                uri = f"{self._path.absolute().as_uri()}?mode=rwc"
                db = sqlite3.connect(
                    uri, uri=True, timeout=self._timeout, isolation_level=None, check_same_thread=False
                )
            try:
                if not self._read_only:
                    db.execute("PRAGMA journal_mode=WAL")
                    db.execute("PRAGMA synchronous=NORMAL")
                    db.execute(f"PRAGMA wal_autocheckpoint={_PAGES_BEFORE_CHECKPOINT}")
                db.execute("PRAGMA foreign_keys=ON")
            except BaseException:
                db.close()
                raise
            self._open = db
        return self._open

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise Transient(f"{self.where}: {error}") from error
            raise StoreError(f"{self.where}: {error}") from error
        except (sqlite3.Error, OSError, UnicodeError, ValueError, OverflowError) as error:
            raise StoreError(f"{self.where}: {error}") from error

    def _transaction(self, call: Callable[[sqlite3.Connection], T]) -> T:
        def once() -> T:
            with self._lock, self._translated():
                db = self._connection()
                db.execute("BEGIN IMMEDIATE")
                try:
                    found = call(db)
                    db.execute("COMMIT")
                    return found
                finally:
                    # On a full disk SQLite has rolled back by itself.
                    if db.in_transaction:
                        db.execute("ROLLBACK")

        return self._tried(once)

    def _fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        def once() -> list[tuple[Any, ...]]:
            with self._lock, self._translated():
                return self._connection().execute(sql, tuple(parameters)).fetchall()

        return self._tried(once)

    def _column(self, name: str) -> str:
        return f"e.{name}" if name == "cpe_id" else name

    def _read(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in _VECTORS:
            return np.frombuffer(value, dtype="<f4").astype(np.float32)
        if name in _IDS:
            return UUID(value)
        return datetime.fromisoformat(value) if name in _TIMES else value

    def prepare(self, *, model: VectorModel) -> None:
        """See `RowStore.prepare`."""
        # Looked at first outside of a transaction: only who makes the tables needs the file's lock.
        if not self._is_ours():
            self._transaction(lambda db: self._create(db, model))
        self.check(model=model)

    def _is_ours(self) -> bool:
        return bool(self._fetch("SELECT 1 FROM sqlite_master WHERE name='ingest_meta'", ()))

    def _create(self, db: sqlite3.Connection, model: VectorModel) -> None:
        if self._is_ours():
            return
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreMismatch(f"{self.where}: the file is another program's database")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        meta = {"schema_version": SCHEMA_VERSION, "embed_model": model.name, "dimension": model.dimension}
        db.executemany("INSERT INTO ingest_meta VALUES(?, ?)", [(key, str(value)) for key, value in meta.items()])

    def _stored_model(self) -> VectorModel:
        if not self._is_ours():
            raise NeverPrepared(self.where)
        meta = dict(self._fetch("SELECT key, value FROM ingest_meta", ()))
        return model_of(meta, where=self.where)

    def _commit(self, rows: Sequence[Row], record: BlockRecord) -> int | None:
        now = datetime.now(UTC).isoformat()
        with self._translated():
            entries = [tuple(_written(value) for value in entry_values(row)) for row in rows]
            created = ENTRY_COLUMNS.index("created_at")
            entries = [(*entry[:created], entry[created] or now, *entry[created + 1 :]) for entry in entries]
            vectors = [
                (
                    str(row.cpe_id),
                    _bytes(row.fused_vec),
                    _bytes(row.concept_vec),
                    _bytes(row.codes.dense()),
                    row.fused_norm,
                )
                for row in rows
            ]

        def write(db: sqlite3.Connection) -> int | None:
            key = (record.run, record.shard, record.block)
            known = "SELECT 1 FROM ingest_batch WHERE run_uid=? AND shard=? AND batch_no=?"
            if db.execute(known, key).fetchone() is not None:
                return None
            before = db.total_changes
            db.executemany(_INSERT_ENTRY, entries)
            inserted = db.total_changes - before
            db.executemany(_INSERT_VECTOR, vectors)
            db.execute(_INSERT_BLOCK, (*record_to_row(record, inserted=inserted), now))
            return inserted

        return self._transaction(write)

    def record_run(self, *, run: str, document: str) -> None:
        """See `RowStore.record_run`."""
        sql = "INSERT INTO ingest_run VALUES(?, ?) ON CONFLICT DO NOTHING"
        self._transaction(lambda db: db.execute(sql, (run, document)))

    def close(self) -> None:
        """See `RowStore.close`."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None


def _insert(table: str, columns: Sequence[str], *, conflict: str = "") -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table}({', '.join(columns)}) VALUES({marks}) {conflict}"


_INSERT_ENTRY = _insert("cpe_entry", ENTRY_COLUMNS, conflict="ON CONFLICT(cpe_id) DO NOTHING")
_INSERT_VECTOR = _insert("cpe_vectors", VECTOR_COLUMNS, conflict="ON CONFLICT(cpe_id) DO NOTHING")
_INSERT_BLOCK = _insert("ingest_batch", (*LEDGER_COLUMNS, "finished_at"))


def _written(value: Any) -> Any:
    match value:
        case UUID():
            return str(value)
        case datetime():
            return value.isoformat()
    return value


def _bytes(vector: NDArray[np.float32]) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()
