"""Where patterns live: one interface, an embedded SQLite file and a MongoDB that KATO servers read too.

The one place that knows which schemes a store's URI may have; what a scheme needs is loaded with its store.
"""

from pathlib import Path

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.secrets import remember
from shardwise_api import uris

from .base import BlockRecord, Guard, KnowledgeBaseConfig, Pattern, PatternCount, PatternStore, Symbol, Totals

__all__ = [
    "BlockRecord",
    "Guard",
    "KnowledgeBaseConfig",
    "Pattern",
    "PatternCount",
    "PatternStore",
    "Symbol",
    "Totals",
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
    uri: str,
    *,
    read_only: bool = False,
    pool_size: int = 50,
    timeout_seconds: float = 120,
    bulk_size: int = 1000,
    service: str = "kato",
) -> PatternStore:
    """Open the store that `uri` names.

    `read_only` refuses to make a store that isn't there. `pool_size` (connections), `bulk_size` (operations in one
    bulk write) and `service` (ends a database's name) act on MongoDB; SQLite waits `timeout_seconds` for a lock.
    """
    remember(uri)
    scheme, known, _ = uri.partition("://")
    if scheme == "sqlite":
        from .sqlite import SqliteStore

        return SqliteStore(sqlite_path(uri), read_only=read_only, timeout_seconds=timeout_seconds)
    if scheme in ("mongodb", "mongodb+srv"):
        from .mongo import MongoStore

        return MongoStore(
            uri, pool_size=pool_size, timeout_seconds=timeout_seconds, bulk_size=bulk_size, service=service
        )
    # The whole of it may hold a password.
    raise BadConfiguration(f"store.uri: unknown scheme {scheme if known else ''!r}; known are sqlite:// and mongodb://")
