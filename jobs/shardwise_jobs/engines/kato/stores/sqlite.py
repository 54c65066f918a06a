"""The embedded store: one SQLite file, shared by the worker processes of one machine, nothing to install.

A block and its ledger row are one transaction, so a killed worker leaves either all of a block or nothing. Rows are
appended and found through an index on the 20 raw bytes of a name: names are random, so a table clustered by name
would dirty a page per row.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from shardwise.engine.sqlite_reader import connect_reader

from .base import (
    BlockRecord,
    Events,
    Guard,
    KnowledgeBaseConfig,
    Pattern,
    PatternCount,
    StoreError,
    StoreUnavailable,
    Symbol,
    Totals,
)
from .mapping import (
    BatchRows,
    batch_rows,
    check_same_config,
    config_from_json,
    config_to_json,
    dump,
    record_from_row,
    record_to_row,
)

T = TypeVar("T")

SCHEMA_VERSION = 1
_PAGES_BEFORE_CHECKPOINT = 8_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS nodes(id INTEGER PRIMARY KEY, node_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS patterns(
  node INTEGER NOT NULL, name BLOB NOT NULL, pattern_data TEXT NOT NULL, length INTEGER NOT NULL,
  frequency INTEGER NOT NULL, emotives TEXT, metadata TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS patterns_by_name ON patterns(node, name);
CREATE TABLE IF NOT EXISTS symbols(
  node INTEGER NOT NULL, name TEXT NOT NULL, frequency INTEGER NOT NULL, pattern_member_frequency INTEGER NOT NULL,
  PRIMARY KEY(node, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals(
  node INTEGER PRIMARY KEY, generation INTEGER NOT NULL DEFAULT 0, patterns INTEGER NOT NULL DEFAULT 0,
  symbols INTEGER NOT NULL DEFAULT 0, symbols_in_patterns INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS guards(
  node INTEGER NOT NULL, run TEXT NOT NULL, shard INTEGER NOT NULL, position INTEGER NOT NULL,
  PRIMARY KEY(node, run, shard)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS knowledge_bases(name TEXT PRIMARY KEY, config TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs(run TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger(
  run TEXT NOT NULL, shard INTEGER NOT NULL, block INTEGER NOT NULL, done INTEGER NOT NULL, failed INTEGER NOT NULL,
  skipped INTEGER NOT NULL, uncertain INTEGER NOT NULL, learns TEXT NOT NULL, failures TEXT NOT NULL,
  PRIMARY KEY(run, shard, block)) WITHOUT ROWID;
"""


class SqliteStore:
    """A `PatternStore` in one file. Threads of a process share one writing connection; processes take turns."""

    def __init__(self, path: Path, *, read_only: bool = False, timeout_seconds: float = 120) -> None:
        self.path = path
        self._timeout = timeout_seconds
        self._lock = threading.RLock()
        self._nodes: dict[str, int] = {}
        if read_only and not path.exists():
            raise StoreError(f"sqlite store {path}: no such file")
        with self._translated():
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._connect(read_only=read_only)
            if not read_only:
                try:
                    self._create()
                except BaseException:
                    self._db.close()
                    raise

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        if read_only:
            db = connect_reader(self.path, timeout_seconds=self._timeout)
        else:
            uri = f"{self.path.absolute().as_uri()}?mode=rwc"
            db = sqlite3.connect(uri, uri=True, timeout=self._timeout, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(f"PRAGMA wal_autocheckpoint={_PAGES_BEFORE_CHECKPOINT}")
        db.execute("PRAGMA cache_size=-16000")
        return db

    def _create(self) -> None:
        if self._schema_version() == SCHEMA_VERSION:
            return
        # Looked at again in the transaction that makes it: several processes may open a new file at once.
        with self._transaction() as db:
            version = self._schema_version()
            if version == SCHEMA_VERSION:
                return
            if version != 0:
                raise StoreError(
                    f"sqlite store {self.path}: schema version {version}, this program reads {SCHEMA_VERSION}"
                )
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(f"sqlite store {self.path}: the file is another program's database")
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _schema_version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise StoreUnavailable(f"sqlite store {self.path}: {error}") from error
            raise StoreError(f"sqlite store {self.path}: {error}") from error
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise StoreError(f"sqlite store {self.path}: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite has rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                # A node created in the transaction is gone with it.
                self._nodes.clear()
                raise

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[tuple[object, ...]]:
        # A connection of its own: a long read then neither blocks nor sees the writes beside it.
        with self._translated():
            db = self._connect(read_only=True)
            try:
                yield from db.execute(sql, parameters)
            finally:
                db.close()

    def _one(self, sql: str, parameters: Sequence[object] = ()) -> tuple[object, ...] | None:
        with self._lock, self._translated():
            row: tuple[object, ...] | None = self._db.execute(sql, parameters).fetchone()
            return row

    def _node(self, node_id: str) -> int | None:
        known = self._nodes.get(node_id)
        if known is None and (row := self._one("SELECT id FROM nodes WHERE node_id=?", (node_id,))) is not None:
            known = self._nodes[node_id] = int(str(row[0]))
        return known

    def _create_node(self, node_id: str) -> int:
        known = self._node(node_id)
        if known is None:
            known = self._db.execute("INSERT INTO nodes(node_id) VALUES(?)", (node_id,)).lastrowid
            assert known is not None
            self._nodes[node_id] = known
        return known

    def learn(
        self, *, node_id: str, batch: Sequence[PatternCount], guard: Guard | None = None, persistence: int = 5
    ) -> bool:
        """See `PatternStore.learn`."""
        rows = batch_rows(batch)
        with self._transaction() as db:
            node = self._create_node(node_id)
            if guard is not None:
                applied = db.execute(
                    "INSERT INTO guards VALUES(?,?,?,?) ON CONFLICT DO UPDATE SET position=excluded.position "
                    "WHERE position<excluded.position RETURNING 1",
                    (node, guard.run, guard.shard, guard.position),
                ).fetchone()
                if applied is None:
                    return False
            self._apply(db, node=node, rows=rows, persistence=persistence)
        return True

    def commit_block(self, *, batches: Mapping[str, Sequence[PatternCount]], record: BlockRecord) -> bool:
        """See `PatternStore.commit_block`; the block and its row are one transaction."""
        prepared = {node_id: batch_rows(batch) for node_id, batch in batches.items()}
        with self._transaction() as db:
            row = db.execute(
                "INSERT OR IGNORE INTO ledger VALUES(?,?,?,?,?,?,?,?,?) RETURNING 1", record_to_row(record)
            ).fetchone()
            if row is None:
                return False
            for node_id, rows in prepared.items():
                self._apply(db, node=self._create_node(node_id), rows=rows, persistence=5)
        return True

    def _apply(self, db: sqlite3.Connection, *, node: int, rows: BatchRows, persistence: int) -> None:
        db.executemany(
            f"INSERT INTO patterns(node,name,pattern_data,length,frequency) VALUES({node},?,?,?,?) "
            "ON CONFLICT DO UPDATE SET frequency=frequency+excluded.frequency",
            rows.patterns,
        )
        for pattern in rows.extras:
            self._add_extras(db, node=node, pattern=pattern, persistence=persistence)
        db.executemany(
            f"INSERT INTO symbols VALUES({node},?,?,?) ON CONFLICT DO UPDATE SET "
            "frequency=frequency+excluded.frequency, pattern_member_frequency="
            "pattern_member_frequency+excluded.pattern_member_frequency",
            rows.symbols,
        )
        db.execute(
            f"INSERT INTO totals(node,patterns,symbols,symbols_in_patterns) VALUES({node},?,?,?) "
            "ON CONFLICT DO UPDATE SET patterns=patterns+excluded.patterns, symbols=symbols+excluded.symbols, "
            "symbols_in_patterns=symbols_in_patterns+excluded.symbols_in_patterns",
            rows.totals,
        )

    def _add_extras(self, db: sqlite3.Connection, *, node: int, pattern: PatternCount, persistence: int) -> None:
        key = (node, bytes.fromhex(pattern.name))
        emotives_text, metadata_text = db.execute(
            "SELECT emotives, metadata FROM patterns WHERE node=? AND name=?", key
        ).fetchone()
        emotives = [*_load(emotives_text, []), *map(dict, pattern.emotives)][-persistence:]
        metadata: dict[str, list[str]] = _load(metadata_text, {})
        for name, values in pattern.metadata.items():
            known = metadata.setdefault(name, [])
            known.extend(value for value in dict.fromkeys(values) if value not in known)
        db.execute(
            "UPDATE patterns SET emotives=?, metadata=? WHERE node=? AND name=?",
            (dump(emotives), dump(metadata), *key),
        )

    def pattern(self, *, node_id: str, name: str) -> Pattern | None:
        """See `PatternStore.pattern`."""
        node = self._node(node_id)
        try:
            key = bytes.fromhex(name)
        except ValueError:
            return None
        if node is None:
            return None
        row = self._one(f"SELECT {_PATTERN_COLUMNS} FROM patterns WHERE node=? AND name=?", (node, key))
        return None if row is None else _pattern(row)

    def patterns(self, *, node_id: str) -> Iterator[Pattern]:
        """See `PatternStore.patterns`."""
        node = self._node(node_id)
        sql = f"SELECT {_PATTERN_COLUMNS} FROM patterns WHERE node=? ORDER BY name"
        return map(_pattern, self._rows(sql, (node,)))

    def frequencies(self, *, node_id: str) -> Iterator[tuple[str, int]]:
        """See `PatternStore.frequencies`."""
        node = self._node(node_id)
        rows = self._rows("SELECT lower(hex(name)), frequency FROM patterns WHERE node=? ORDER BY name", (node,))
        return ((str(name), int(str(frequency))) for name, frequency in rows)

    def symbols(self, *, node_id: str) -> Iterator[Symbol]:
        """See `PatternStore.symbols`."""
        sql = "SELECT name, frequency, pattern_member_frequency FROM symbols WHERE node=? ORDER BY name"
        for name, frequency, members in self._rows(sql, (self._node(node_id),)):
            yield Symbol(name=str(name), frequency=int(str(frequency)), pattern_member_frequency=int(str(members)))

    def totals(self, *, node_id: str) -> Totals:
        """See `PatternStore.totals`."""
        row = self._one(
            "SELECT patterns, symbols, symbols_in_patterns FROM totals WHERE node=?", (self._node(node_id),)
        )
        if row is None:
            return Totals()
        patterns, symbols, in_patterns = (int(str(value)) for value in row)
        return Totals(
            total_pattern_frequencies=patterns,
            total_symbol_frequencies=symbols,
            total_symbols_in_patterns_frequencies=in_patterns,
        )

    def clear(self, *, node_id: str) -> None:
        """See `PatternStore.clear`."""
        with self._transaction() as db:
            node = self._create_node(node_id)
            for table in ("patterns", "symbols", "guards"):
                db.execute(f"DELETE FROM {table} WHERE node=?", (node,))
            db.execute(
                "INSERT INTO totals(node,generation) VALUES(?,1) ON CONFLICT DO UPDATE SET "
                "generation=generation+1, patterns=0, symbols=0, symbols_in_patterns=0",
                (node,),
            )

    def version(self, *, node_id: str) -> int:
        """See `PatternStore.version`."""
        row = self._one("SELECT (generation << 44) + patterns FROM totals WHERE node=?", (self._node(node_id),))
        return 0 if row is None else int(str(row[0]))

    def knowledge_base(self, *, name: str) -> KnowledgeBaseConfig | None:
        """See `PatternStore.knowledge_base`."""
        row = self._one("SELECT config FROM knowledge_bases WHERE name=?", (name,))
        return None if row is None else config_from_json(str(row[0]))

    def create_knowledge_base(self, *, name: str, config: KnowledgeBaseConfig) -> None:
        """See `PatternStore.create_knowledge_base`."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO knowledge_bases VALUES(?,?)", (name, config_to_json(config)))
        check_same_config(name=name, found=self.knowledge_base(name=name), wanted=config)

    def run_document(self, *, run: str) -> str | None:
        """See `PatternStore.run_document`."""
        row = self._one("SELECT document FROM runs WHERE run=?", (run,))
        return None if row is None else str(row[0])

    def record_run(self, *, run: str, document: str) -> None:
        """See `PatternStore.record_run`."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO runs VALUES(?,?)", (run, document))

    def last_block(self, *, run: str, shard: int) -> int:
        """See `PatternStore.last_block`."""
        row = self._one("SELECT coalesce(max(block), -1) FROM ledger WHERE run=? AND shard=?", (run, shard))
        assert row is not None
        return int(str(row[0]))

    def ledger(self, *, run: str, shard: int | None = None) -> Iterator[BlockRecord]:
        """See `PatternStore.ledger`."""
        which, parameters = ("run=?", (run,)) if shard is None else ("run=? AND shard=?", (run, shard))
        return map(record_from_row, self._rows(f"SELECT * FROM ledger WHERE {which} ORDER BY shard, block", parameters))

    def drop_markers(self, *, run: str, node_ids: Sequence[str]) -> None:
        """See `PatternStore.drop_markers`; only batches that came through a server leave any here."""
        with self._transaction() as db:
            for node_id in node_ids:
                db.execute("DELETE FROM guards WHERE run=? AND node=?", (run, self._node(node_id)))

    def close(self) -> None:
        """See `PatternStore.close`."""
        with self._lock:
            self._db.close()


_PATTERN_COLUMNS = "lower(hex(name)), pattern_data, length, frequency, emotives, metadata"


def _pattern(row: tuple[object, ...]) -> Pattern:
    name, data, length, frequency, emotives, metadata = row
    events: Events = json.loads(str(data))
    return Pattern(
        name=str(name),
        events=events,
        length=int(str(length)),
        frequency=int(str(frequency)),
        emotives=_load(emotives, []),
        metadata=_load(metadata, {}),
    )


def _load(text: object, default: T) -> T:
    if text is None:
        return default
    loaded: T = json.loads(str(text))
    return loaded
