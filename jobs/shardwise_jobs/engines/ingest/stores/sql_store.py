"""What both stores do alike: read in pages by cpe_id, look at a block before it is written, and try again.

Rows are never changed, so pages need no long transaction: a reader holds nothing up, and goes on from where it was
when the database was restarted between two of them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.backoff import retrying
from shardwise_api.terminal import sanitize
from shardwise_jobs.engines.ingest.codes import Codes

from .base import (
    BlockRecord,
    Counts,
    RowKey,
    StoredVector,
    StoreError,
    StoreMismatch,
    StoreUnavailable,
    VectorModel,
    check_model,
    check_version,
)
from .rows import ENTRY_COLUMNS, Row, dump, in_order, row_from_values

T = TypeVar("T")
_PAGE = 500
_SMALLEST = UUID(int=0)
_KEYS = ("cpe_id", "chunk_sha256", "domain_code", "task_code", "modifier_code", "tmd_backend", "embed_model")
_VECTORS = ("cpe_id", "faiss_id", "fused_vec")


class Transient(StoreUnavailable):
    """A failure that is worth another try of the whole transaction; blocks can be handed in again."""


class SqlStore(ABC):
    """The part of a `RowStore` that needs no more than queries."""

    where: str
    """What messages call the store: no secret in it."""

    def __init__(self, *, attempts: int) -> None:
        self._attempts = attempts
        self._model: VectorModel | None = None

    @abstractmethod
    def _fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Return the rows of one query, `?` for each parameter."""

    @abstractmethod
    def _column(self, name: str) -> str:
        """Return the expression that reads an entry's or a vector's column: JSON as text, vectors as bytes."""

    @abstractmethod
    def _read(self, name: str, value: Any) -> Any:
        """Return a column's value as Python has it."""

    @abstractmethod
    def _stored_model(self) -> VectorModel:
        """Return what the store says of itself; raises `StoreMismatch` unless it is ours and of this version."""

    @abstractmethod
    def _commit(self, rows: Sequence[Row], record: BlockRecord) -> int | None: ...

    def _tried(self, call: Callable[[], T]) -> T:
        return retrying(call, on=Transient, attempts=self._attempts)

    def check(self, *, model: VectorModel | None = None) -> VectorModel:
        """See `RowStore.check`."""
        found = self._model = self._tried(self._stored_model)
        check_model(where=self.where, found=found, wanted=model)
        return found

    def commit_block(self, *, rows: Sequence[Row], record: BlockRecord) -> int | None:
        """See `RowStore.commit_block`; when the answer to a commit was lost, None may mean this very call's."""
        model = self._model or self.check()
        for row in rows:
            if row.concept_vec.shape != (model.dimension,) or row.concept_vec.dtype != np.float32:
                raise StoreError(
                    f"{self.where}: {row.cpe_id} has a vector of shape {row.concept_vec.shape} {row.concept_vec.dtype},"
                    f" the store takes {model.dimension} of float32"
                )
            if row.embed_model != model.name:
                raise StoreError(f"{self.where}: {row.cpe_id} is of {row.embed_model}, the store's are of {model.name}")
        return self._commit(in_order(rows), record)

    def committed_blocks(self, *, run: str, shard: int) -> frozenset[int]:
        """See `RowStore.committed_blocks`."""
        found = self._fetch("SELECT batch_no FROM ingest_batch WHERE run_uid=? AND shard=?", (run, shard))
        return frozenset(block for (block,) in found)

    def ledger(self, *, run: str, shard: int | None = None) -> Iterator[BlockRecord]:
        """See `RowStore.ledger`."""
        columns = ", ".join(self._column(name) for name in LEDGER_COLUMNS)
        at, block = (-1, -1) if shard is None else (shard, -1)
        only = "" if shard is None else f" AND shard={int(shard)}"
        while page := self._fetch(
            f"SELECT {columns} FROM ingest_batch WHERE run_uid=? AND (shard, batch_no) > (?, ?){only} "
            f"ORDER BY shard, batch_no LIMIT {_PAGE}",
            (run, at, block),
        ):
            yield from map(record_from_row, page)
            at, block = page[-1][1], page[-1][2]

    def run_document(self, *, run: str) -> str | None:
        """See `RowStore.run_document`."""
        found = self._fetch("SELECT document FROM ingest_run WHERE run_uid=?", (run,))
        return found[0][0] if found else None

    def counts(self, *, dataset: str | None = None) -> Counts:
        """See `RowStore.counts`."""
        which, parameters = ("", ()) if dataset is None else ("WHERE e.dataset_source=?", (dataset,))
        ((entries, vectors),) = self._fetch(
            f"SELECT count(*), count(v.cpe_id) FROM cpe_entry e LEFT JOIN cpe_vectors v ON v.cpe_id=e.cpe_id {which}",
            parameters,
        )
        return Counts(entries=entries, vectors=vectors)

    def row_keys(self, *, dataset: str | None = None) -> Iterator[RowKey]:
        """See `RowStore.row_keys`."""
        return map(_key, self._pages(_KEYS, dataset=dataset))

    def vectors(self, *, dataset: str | None = None) -> Iterator[StoredVector]:
        """See `RowStore.vectors`."""
        return map(_vector, self._pages(_VECTORS, dataset=dataset))

    def keyed_vectors(self, *, dataset: str | None = None) -> Iterator[tuple[RowKey, StoredVector]]:
        """See `RowStore.keyed_vectors`."""
        for values in self._pages(tuple(dict.fromkeys((*_KEYS, *_VECTORS))), dataset=dataset):
            yield _key(values), _vector(values)

    def rows(self, *, dataset: str | None = None) -> Iterator[Row]:
        """See `RowStore.rows`."""
        return map(_row, self._pages((*ENTRY_COLUMNS, "concept_vec"), dataset=dataset))

    def known(self, *, cpe_ids: Sequence[UUID]) -> set[UUID]:
        """See `RowStore.known`."""
        found: set[UUID] = set()
        for at in range(0, len(cpe_ids), _PAGE):
            ids = tuple(map(str, cpe_ids[at : at + _PAGE]))
            rows = self._fetch(f"SELECT cpe_id FROM cpe_entry WHERE cpe_id IN ({', '.join('?' * len(ids))})", ids)
            found.update(UUID(str(row)) for (row,) in rows)
        return found

    def found(self, *, faiss_ids: Sequence[int]) -> dict[int, Row]:
        """See `RowStore.found`."""
        if not faiss_ids:
            return {}
        names = (*ENTRY_COLUMNS, "concept_vec")
        marks = ", ".join("?" * len(faiss_ids))
        page = self._fetch(f"{self._select(names)} WHERE e.faiss_id IN ({marks})", tuple(faiss_ids))
        return {row.faiss_id: row for row in (_row(self._values(names, found)) for found in page)}

    def _select(self, names: Sequence[str]) -> str:
        columns = ", ".join(self._column(name) for name in names)
        return f"SELECT {columns} FROM cpe_entry e JOIN cpe_vectors v ON v.cpe_id=e.cpe_id"

    def _pages(self, names: Sequence[str], *, dataset: str | None) -> Iterator[Mapping[str, Any]]:
        only, parameters = ("", ()) if dataset is None else ("AND e.dataset_source=?", (dataset,))
        last, sign = str(_SMALLEST), ">="
        while page := self._fetch(
            f"{self._select(names)} WHERE e.cpe_id {sign} ? {only} ORDER BY e.cpe_id LIMIT {_PAGE}",
            (last, *parameters),
        ):
            for found in page:
                yield self._values(names, found)
            last, sign = str(page[-1][0]), ">"

    def _values(self, names: Sequence[str], found: Sequence[Any]) -> Mapping[str, Any]:
        return {name: self._read(name, value) for name, value in zip(names, found, strict=True)}


def _key(values: Mapping[str, Any]) -> RowKey:
    return RowKey(
        cpe_id=values["cpe_id"],
        chunk_sha256=values["chunk_sha256"],
        codes=Codes(values["domain_code"], values["task_code"], values["modifier_code"]),
        tmd_backend=values["tmd_backend"],
        embed_model=values["embed_model"],
    )


def _vector(values: Mapping[str, Any]) -> StoredVector:
    return StoredVector(cpe_id=values["cpe_id"], faiss_id=values["faiss_id"], fused=values["fused_vec"])


def _row(values: Mapping[str, Any]) -> Row:
    vector: NDArray[np.float32] = values["concept_vec"]
    return row_from_values(values, concept_vec=vector)


def model_of(meta: Mapping[str, str], *, where: str) -> VectorModel:
    """Return the model that table ingest_meta names, when it is of this program's version.

    A later program may have made the table, or somebody edited it.

    Raises:
        StoreMismatch: it is of another version, or not one of ours.
    """
    version = meta.get("schema_version", "0")
    if not version.isdecimal():
        raise StoreMismatch(f"{where}: its schema has version {version!r}, which is none of this program's")
    check_version(where=where, found=int(version))
    try:
        return VectorModel(name=meta["embed_model"], dimension=int(meta["dimension"]))
    except (KeyError, ValueError) as error:
        raise StoreMismatch(f"{where}: its table ingest_meta is not one of this program's: {error}") from error


LEDGER_COLUMNS = ("run_uid", "shard", "batch_no", "state", "n_chunks", "n_failed", "n_inserted", "failures", "millis")
COMMITTED = "committed"


def record_to_row(record: BlockRecord, *, inserted: int) -> tuple[Any, ...]:
    """Return the values of LEDGER_COLUMNS; failures and millis are JSON texts."""
    return (
        record.run,
        record.shard,
        record.block,
        COMMITTED,
        record.chunks,
        record.failed,
        inserted,
        # Whoever made a reason: it must not cost the block that it is of.
        dump([(item, sanitize(reason)) for item, reason in record.failures]),
        dump(dict(record.millis)),
    )


def record_from_row(row: Sequence[Any]) -> BlockRecord:
    """Read what `record_to_row` made."""
    run, shard, block, _, chunks, failed, inserted, failures, millis = row
    return BlockRecord(
        run=run,
        shard=shard,
        block=block,
        chunks=chunks,
        failed=failed,
        inserted=inserted,
        failures=tuple((int(item), str(reason)) for item, reason in json.loads(failures)),
        millis=json.loads(millis),
    )
