"""Where rows go: one interface, an embedded SQLite file and a PostgreSQL that other programs read too."""

from .base import (
    BlockRecord,
    Counts,
    RowKey,
    RowStore,
    StoredVector,
    StoreError,
    StoreUnavailable,
    VectorModel,
)
from .open import open_store
from .rows import Row

__all__ = [
    "BlockRecord",
    "Counts",
    "Row",
    "RowKey",
    "RowStore",
    "StoreError",
    "StoreUnavailable",
    "StoredVector",
    "VectorModel",
    "open_store",
]
