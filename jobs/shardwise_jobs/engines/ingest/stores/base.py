"""What every row store promises: a block of a shard is there once and whole, however often it is handed in.

Rows have the columns of the system whose tables these are (docs of the seed: cpe_entry, cpe_vectors), and ids that
follow from the chunk: two blocks, shards or runs that hand in the same chunk make one row, the first one's. A block's
rows and its ledger row are one transaction, so that who is killed leaves all of a block or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadConfiguration, Unavailable, WorkError
from shardwise_jobs.engines.ingest.codes import Codes

from .rows import Row

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorModel:
    """What all vectors of a store are made with: those of two models do not compare."""

    name: str
    dimension: int
    """Of the text's vector; the fused one is wider by the codes' 16 numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """A ledger row: one committed block of a shard, with what it did."""

    run: str
    shard: int
    block: int
    chunks: int
    """All that were handed in: rows, duplicates and failures."""
    failed: int = 0
    inserted: int = 0
    """Rows that were not there before. A store counts them itself, whatever a caller says."""
    failures: tuple[tuple[int, str], ...] = ()
    """The first few failed chunks of the block: (item index, reason)."""
    millis: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds by phase."""

    @property
    def deduplicated(self) -> int:
        """Chunks that were rows already, or left their row to another chunk of the input."""
        return self.chunks - self.failed - self.inserted


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKey:
    """What a result's digest is made of, without texts and vectors."""

    cpe_id: UUID
    chunk_sha256: str
    codes: Codes
    tmd_backend: str
    embed_model: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredVector:
    """A row's fused vector as it was written: the text's, then the codes'. It is not of unit length."""

    cpe_id: UUID
    faiss_id: int
    fused: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many rows there are; each chunk makes one of either."""

    entries: int
    vectors: int


class RowStore(Protocol):
    """A place for rows. Iterators go in order of cpe_id, in bounded memory, and hold nobody up.

    They yield all rows that were there when they began, and of those that others write meanwhile some. So what has to
    agree must come from one pass: `keyed_vectors`.

    Every method raises `StoreUnavailable` when the store can't be reached after several tries, `StoreError` when it
    answers something that a retry won't mend, `StoreMismatch` when it is another program's, another version's or
    another model's. One instance may be used by several threads. `dataset` limits to rows of one dataset_source.
    """

    def prepare(self, *, model: VectorModel) -> None:
        """Make what is missing (under a lock, for several may come at once), then check version and model."""

    def check(self, *, model: VectorModel | None = None) -> VectorModel:
        """Return what the store's vectors are made with; nothing is written."""

    def commit_block(self, *, rows: Sequence[Row], record: BlockRecord) -> int | None:
        """Write rows and ledger row; the number of new rows, or None when the ledger had the block already."""

    def committed_blocks(self, *, run: str, shard: int) -> frozenset[int]:
        """Return the numbers of a shard's blocks that the ledger has."""

    def ledger(self, *, run: str, shard: int | None = None) -> Iterator[BlockRecord]:
        """Yield the ledger rows of a run, or of one of its shards, by shard, then block."""

    def run_document(self, *, run: str) -> str | None:
        """Return the text recorded for a run by `record_run`, None when it was never begun here."""

    def record_run(self, *, run: str, document: str) -> None:
        """Record a run's identity at its begin; the first writer wins."""

    def counts(self, *, dataset: str | None = None) -> Counts:
        """Count rows."""

    def row_keys(self, *, dataset: str | None = None) -> Iterator[RowKey]:
        """Yield what a digest is made of."""

    def vectors(self, *, dataset: str | None = None) -> Iterator[StoredVector]:
        """Yield what an index is made of."""

    def keyed_vectors(self, *, dataset: str | None = None) -> Iterator[tuple[RowKey, StoredVector]]:
        """Yield both of each row, for digests and index of the same rows whoever else is writing."""

    def rows(self, *, dataset: str | None = None) -> Iterator[Row]:
        """Yield whole rows."""

    def known(self, *, cpe_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of some ids that are rows already; nothing else of a row is read."""

    def found(self, *, faiss_ids: Sequence[int]) -> dict[int, Row]:
        """Return rows by the ids of their vectors; those that are not there are left out."""

    def close(self) -> None:
        """Give back connections."""


class StoreError(WorkError):
    """The store answered something that a retry won't mend."""

    reason = "StoreError"


class StoreMismatch(StoreError, BadConfiguration):
    """The store is another program's, of another version, or has vectors of another model: exit 2, never retried."""

    reason = "StoreMismatch"
    exit_code = BadConfiguration.exit_code


class NeverPrepared(StoreMismatch):
    """There is no table of ours: nobody has prepared the store yet."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where}: it has no table ingest_meta; the store was never prepared")


class StoreUnavailable(StoreError, Unavailable):
    """The store can't be reached, or is busy, also after several tries."""

    reason = "StoreUnavailable"


def check_version(*, where: str, found: int) -> None:
    """Refuse a schema that this program does not know."""
    if found != SCHEMA_VERSION:
        raise StoreMismatch(f"{where}: its schema has version {found}, this program writes version {SCHEMA_VERSION}")


def check_model(*, where: str, found: VectorModel, wanted: VectorModel | None) -> None:
    """Refuse to mix vectors of two models."""
    if wanted is not None and found != wanted:
        raise StoreMismatch(
            f"{where}: its vectors are of {found.name} ({found.dimension} numbers), not of {wanted.name} "
            f"({wanted.dimension} numbers); take another store, or the model it was begun with"
        )
