"""The shared store: a MongoDB in the shape that KATO servers read and write, one database per node.

Workers on many machines add to it at once, and there is no transaction that spans a block. Every write is therefore
guarded in its own document (mongo_writes.py), totals come last of a node and the ledger row last of a block: whatever
is found there says that everything before it is there too. What only Shardwise needs (ledger, runs, knowledge bases)
has a database of its own, whose name no node id can lead to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from bson.errors import BSONError
from pymongo import ASCENDING, DESCENDING, MongoClient, ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    CursorNotFound,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from shardwise.engine.errors import BadConfiguration
from shardwise_api.uris import BadUri, hosts_of
from shardwise_jobs.engines.kato.names import processor_id

from .base import (
    BlockRecord,
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
    check_same_config,
    config_from_json,
    config_to_json,
    record_from_row,
    record_to_row,
    symbol_counts,
    totals_of,
)
from .mongo_writes import (
    APPLIED,
    Document,
    apply_changes,
    checked_run,
    chunks,
    metadata_key,
    pattern_changes,
    run_marker,
    shard_marker,
    symbol_changes,
    totals_change,
)

_PATTERNS, _SYMBOLS, _METADATA = "patterns_kb", "symbols_kb", "metadata"
_BY_NAME = [("name", ASCENDING)]
_BY_FREQUENCY = [("frequency", DESCENDING), ("name", ASCENDING)]
_BY_CLASS = [("class", ASCENDING)]
_TOTALS = {"class": "totals"}
_LEDGER_FIELDS = tuple(field.name for field in fields(BlockRecord))
_NOTICE_SECONDS = 5.0
"""An unreachable server is noticed after this long, however patient the requests are."""
_READ_BATCH = 1000
_MESSAGE_LENGTH = 300
_BAD_VALUE = 2
# Lock timeout, network timeout, shutting down or stepping down, write conflict, exceeded time, not primary.
_TRANSIENT = frozenset({6, 7, 24, 50, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})


class MongoStore:
    """A `PatternStore` on a MongoDB server or replica set."""

    def __init__(
        self,
        uri: str,
        *,
        pool_size: int = 50,
        timeout_seconds: float = 120,
        bulk_size: int = 1000,
        service: str = "kato",
    ) -> None:
        try:
            self._where = hosts_of(uri)
        except BadUri as error:
            raise BadConfiguration(f"store.uri: {error}") from None
        notice_ms = int(min(timeout_seconds, _NOTICE_SECONDS) * 1000)
        try:
            self._client: MongoClient[Document] = MongoClient(
                uri,
                appname="shardwise",
                maxPoolSize=pool_size,
                socketTimeoutMS=int(timeout_seconds * 1000),
                waitQueueTimeoutMS=int(timeout_seconds * 1000),
                serverSelectionTimeoutMS=notice_ms,
                connectTimeoutMS=notice_ms,
            )
        except (InvalidURI, ValueError, TypeError):
            # Without the driver's text: it may quote the part of the URI that holds the password.
            raise BadConfiguration(
                "store.uri: not a MongoDB URI as mongodb://user:password@host:port/?option=value; "
                "user name and password must be percent-encoded"
            ) from None
        except ConfigurationError as error:
            raise BadConfiguration(f"store.uri: {error}") from None
        self._bulk_size = bulk_size
        self._service = service
        # A processor id never holds "-".
        self._own = self._database(f"shardwise-{service.replace('-', '_')}")
        self._prepared: set[str] = set()

    def _database(self, name: str) -> Database[Document]:
        with self._translated():
            # Majority: an acknowledged write survives a failover, or a later block would stand on a lost one.
            return self._client.get_database(
                name, read_preference=ReadPreference.PRIMARY, write_concern=WriteConcern(w="majority")
            )

    def _node(self, node_id: str) -> Database[Document]:
        return self._database(processor_id(node_id, service=self._service))

    def _writable_node(self, node_id: str) -> Database[Document]:
        node = self._node(node_id)
        if node.name not in self._prepared:
            if not self._prepared:
                self._check_nested_arrays()
            for collection in (node[_PATTERNS], node[_SYMBOLS]):
                _ensure_index(collection, _BY_NAME, unique=True)
                _ensure_index(collection, _BY_FREQUENCY)
            # Sparse: documents of others that lack the field may be many.
            _ensure_index(node[_METADATA], _BY_CLASS, unique=True, sparse=True)
            self._prepared.add(node.name)
        return node

    def _check_nested_arrays(self) -> None:
        try:
            self._own["checks"].replace_one({"_id": "nested arrays"}, {"events": [["a"], ["b"]]}, upsert=True)
        except OperationFailure as error:
            if error.code != _BAD_VALUE:
                raise
            raise StoreError(
                f"mongodb store {self._where}: the server refuses arrays within arrays, the shape of KATO's "
                f"pattern_data; use a MongoDB server ({error.details.get('errmsg') if error.details else error})"
            ) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PyMongoError as error:
            kind = StoreUnavailable if _is_transient(error) else StoreError
            raise kind(f"mongodb store {self._where}: {_message(error)}") from error
        except (BSONError, UnicodeError, OverflowError) as error:
            raise StoreError(f"mongodb store {self._where}: can't be written as BSON: {error}") from error

    def learn(
        self, *, node_id: str, batch: Sequence[PatternCount], guard: Guard | None = None, persistence: int = 5
    ) -> bool:
        """See `PatternStore.learn`; without a guard, a batch cut off by a lost connection may be there in part."""
        counts = symbol_counts(batch)
        totals = [totals_change(totals_of(batch=batch, symbols=counts))]
        symbols = symbol_changes(counts)
        patterns = pattern_changes(batch, persistence=persistence)
        with self._translated():
            node = self._writable_node(node_id)
            if guard is not None and self._has_reached(node, guard):
                return False
            applied = 0
            for name, changes in ((_PATTERNS, patterns), (_SYMBOLS, symbols), (_METADATA, totals)):
                applied = apply_changes(node[name], changes, guard=guard, bulk_size=self._bulk_size)
        return applied > 0

    def _has_reached(self, node: Database[Document], guard: Guard) -> bool:
        reached = {**_TOTALS, shard_marker(guard): {"$gte": guard.position}}
        return node[_METADATA].find_one(reached, {"_id": 1}) is not None

    def commit_block(self, *, batches: Mapping[str, Sequence[PatternCount]], record: BlockRecord) -> bool:
        """See `PatternStore.commit_block`; the guard's position is the block."""
        row_id = _row_id(run=record.run, shard=record.shard, block=record.block)
        # On disk when acknowledged, and with it all that was written before: a server that crashes forgets the block
        # as a whole or not at all.
        ledger = self._own["ledger"].with_options(write_concern=WriteConcern(w="majority", j=True))
        with self._translated():
            if ledger.find_one({"_id": row_id}, {"_id": 1}) is not None:
                return False
        guard = Guard(run=record.run, shard=record.shard, position=record.block)
        for node_id, batch in batches.items():
            self.learn(node_id=node_id, batch=batch, guard=guard)
        row = dict(zip(_LEDGER_FIELDS, record_to_row(record), strict=True))
        with self._translated():
            return _insert(ledger, {"_id": row_id, **row})

    def pattern(self, *, node_id: str, name: str) -> Pattern | None:
        """See `PatternStore.pattern`."""
        with self._translated():
            found = self._node(node_id)[_PATTERNS].find_one({"name": name})
        return None if found is None else _pattern(found)

    def patterns(self, *, node_id: str) -> Iterator[Pattern]:
        """See `PatternStore.patterns`."""
        return map(_pattern, self._by_name(node_id, _PATTERNS))

    def frequencies(self, *, node_id: str) -> Iterator[tuple[str, int]]:
        """See `PatternStore.frequencies`."""
        found = self._by_name(node_id, _PATTERNS, only=("name", "frequency"))
        return ((document["name"], int(document["frequency"])) for document in found)

    def symbols(self, *, node_id: str) -> Iterator[Symbol]:
        """See `PatternStore.symbols`."""
        for document in self._by_name(node_id, _SYMBOLS):
            yield Symbol(
                name=document["name"],
                frequency=int(document["frequency"]),
                pattern_member_frequency=int(document["pattern_member_frequency"]),
            )

    def _by_name(self, node_id: str, collection: str, *, only: Sequence[str] = ()) -> Iterator[Document]:
        shown: dict[str, int] = dict.fromkeys(only, 1) if only else {APPLIED: 0}
        with (
            self._translated(),
            self._node(node_id)[collection].find(
                {}, {**shown, "_id": 0}, sort=_BY_NAME, batch_size=_READ_BATCH
            ) as found,
        ):
            yield from found

    def totals(self, *, node_id: str) -> Totals:
        """See `PatternStore.totals`."""
        with self._translated():
            found = self._node(node_id)[_METADATA].find_one(_TOTALS) or {}
        return Totals(**{field.name: int(found.get(field.name, 0)) for field in fields(Totals)})

    def clear(self, *, node_id: str) -> None:
        """See `PatternStore.clear`; indexes stay, for others may be writing."""
        with self._translated():
            node = self._node(node_id)
            for name in (_METADATA, _PATTERNS, _SYMBOLS):
                for ids in self._ids(node[name], {}):
                    node[name].delete_many({"_id": {"$in": ids}})
            self._own["generations"].update_one({"_id": node.name}, {"$inc": {"generation": 1}}, upsert=True)

    def _ids(self, collection: Collection[Document], query: Document) -> Iterator[list[object]]:
        # One update or delete over a whole collection could outlast the socket's timeout.
        with collection.find(query, {"_id": 1}, batch_size=self._bulk_size) as found:
            yield from chunks((document["_id"] for document in found), self._bulk_size)

    def version(self, *, node_id: str) -> int:
        """See `PatternStore.version`; after a clear too the number is a new one."""
        with self._translated():
            cleared = self._own["generations"].find_one({"_id": self._node(node_id).name}) or {}
        generation: int = cleared.get("generation", 0)
        return (generation << 44) + self.totals(node_id=node_id).total_pattern_frequencies

    def knowledge_base(self, *, name: str) -> KnowledgeBaseConfig | None:
        """See `PatternStore.knowledge_base`."""
        with self._translated():
            found = self._own["knowledge_bases"].find_one({"_id": name})
        return None if found is None else config_from_json(found["config"])

    def create_knowledge_base(self, *, name: str, config: KnowledgeBaseConfig) -> None:
        """See `PatternStore.create_knowledge_base`."""
        with self._translated():
            _insert(self._own["knowledge_bases"], {"_id": name, "config": config_to_json(config)})
        check_same_config(name=name, found=self.knowledge_base(name=name), wanted=config)

    def run_document(self, *, run: str) -> str | None:
        """See `PatternStore.run_document`."""
        with self._translated():
            found = self._own["runs"].find_one({"_id": run})
        return None if found is None else str(found["document"])

    def record_run(self, *, run: str, document: str) -> None:
        """See `PatternStore.record_run`."""
        with self._translated():
            _insert(self._own["runs"], {"_id": run, "document": document})

    def last_block(self, *, run: str, shard: int) -> int:
        """See `PatternStore.last_block`."""
        rows = _between(_shard_prefix(run=run, shard=shard))
        with self._translated():
            found = self._own["ledger"].find_one(rows, {"block": 1}, sort=[("_id", DESCENDING)])
        return -1 if found is None else int(found["block"])

    def ledger(self, *, run: str, shard: int | None = None) -> Iterator[BlockRecord]:
        """See `PatternStore.ledger`."""
        rows = _between(f"{checked_run(run)}/" if shard is None else _shard_prefix(run=run, shard=shard))
        with self._translated(), self._own["ledger"].find(rows, sort=[("_id", ASCENDING)]) as found:
            for row in found:
                yield record_from_row([row[name] for name in _LEDGER_FIELDS])

    def drop_markers(self, *, run: str, node_ids: Sequence[str]) -> None:
        """See `PatternStore.drop_markers`; cut off and called again, it finishes."""
        mine = run_marker(run)
        left = {"$or": [{mine: {"$exists": True}}, {APPLIED: {}}]}
        with self._translated():
            for node_id in node_ids:
                for name in (_PATTERNS, _SYMBOLS, _METADATA):
                    collection = self._node(node_id)[name]
                    for ids in self._ids(collection, left):
                        these = {"_id": {"$in": ids}}
                        collection.update_many(these, {"$unset": {mine: ""}})
                        collection.update_many({**these, APPLIED: {}}, {"$unset": {APPLIED: ""}})

    def close(self) -> None:
        """See `PatternStore.close`."""
        self._client.close()


def _ensure_index(collection: Collection[Document], keys: list[tuple[str, int]], **options: Any) -> None:
    # A KATO server may have made the same index under another name, which creating it again would refuse.
    for index in collection.index_information().values():
        if list(index["key"]) == keys and bool(index.get("unique")) >= options.get("unique", False):
            return
    collection.create_index(keys, **options)


def _insert(collection: Collection[Document], document: Document) -> bool:
    try:
        collection.insert_one(document)
    except DuplicateKeyError:
        return False
    return True


def _shard_prefix(*, run: str, shard: int) -> str:
    return f"{checked_run(run)}/{shard:010d}/"


def _row_id(*, run: str, shard: int, block: int) -> str:
    # Unique without an index of its own, and in the order in which rows are read.
    return f"{_shard_prefix(run=run, shard=shard)}{block:015d}"


def _between(prefix: str) -> Document:
    # "0" is the character after "/".
    return {"_id": {"$gte": prefix, "$lt": f"{prefix.removesuffix('/')}0"}}


def _pattern(document: Document) -> Pattern:
    emotives = document.get("emotives")
    return Pattern(
        name=document["name"],
        events=document["pattern_data"],
        length=int(document["length"]),
        frequency=int(document["frequency"]),
        emotives=emotives if isinstance(emotives, list) else [],
        metadata={metadata_key(field): values for field, values in (document.get("metadata") or {}).items()},
    )


def _is_transient(error: PyMongoError) -> bool:
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WriteConcernError | CursorNotFound):
        return True
    if isinstance(error, BulkWriteError):
        return bool(error.details.get("writeConcernErrors")) or any(
            e["code"] in _TRANSIENT for e in error.details.get("writeErrors", ())
        )
    return isinstance(error, OperationFailure) and error.code in _TRANSIENT


def _message(error: PyMongoError) -> str:
    text = str(error)
    if isinstance(error, BulkWriteError) and error.details.get("writeErrors"):
        first = error.details["writeErrors"][0]
        text = f"{first['errmsg']} (code {first['code']})"
    # A driver's message goes on with the whole topology, or the whole answer.
    return text.partition(", Timeout:")[0].partition(", full error:")[0][:_MESSAGE_LENGTH]
