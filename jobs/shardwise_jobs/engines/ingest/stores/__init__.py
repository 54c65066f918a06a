"""Where rows go: one interface, an embedded SQLite file and a PostgreSQL that other programs read too.

The one place that knows which schemes a store's URI may have; what a scheme needs is loaded with its store.
"""

from pathlib import Path

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.secrets import remember
from shardwise_api import uris

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
    "sqlite_path",
]


def sqlite_path(uri: str) -> Path:
    """Return the file of an embedded store. Raises BadConfiguration as `uris.sqlite_path`."""
    try:
        return uris.sqlite_path(uri)
    except uris.BadUri as error:
        raise BadConfiguration(f"store.uri: {error}") from error


def open_store(
    uri: str, *, read_only: bool = False, pool_size: int = 4, timeout_seconds: float = 60, attempts: int = 10
) -> RowStore:
    """Open the store that `uri` names; nothing is made before `prepare`.

    `read_only` is for who searches. `pool_size` (connections) acts on PostgreSQL; `timeout_seconds` is how long a lock
    or a connection is waited for, `attempts` how often a transaction is tried.

    Raises:
        BadConfiguration: the URI is none of a store, or `pool_size` is below 1.
    """
    if pool_size < 1:
        raise BadConfiguration(f"pool_size must be greater than 0, not {pool_size}")
    remember(uri)
    scheme, known, _ = uri.partition("://")
    if scheme == "sqlite":
        from .sqlite import SqliteStore

        return SqliteStore(sqlite_path(uri), read_only=read_only, timeout_seconds=timeout_seconds, attempts=attempts)
    if scheme in ("postgresql", "postgres"):
        try:
            from .postgres import PostgresStore
        except ImportError as error:
            raise BadConfiguration("a PostgreSQL store needs the extra: pip install 'shardwise[ingest]'") from error
        return PostgresStore(uri, pool_size=pool_size, timeout_seconds=timeout_seconds, attempts=attempts)
    # The whole of it may hold a password.
    raise BadConfiguration(
        f"store.uri: unknown scheme {scheme if known else ''!r}; known are sqlite:// and postgresql://"
    )
