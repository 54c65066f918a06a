"""The only door to the store: opened when it can be, watched so that `GET /health` can say what is wrong with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from shardwise.engine.errors import WorkError
from shardwise_jobs.http_server.probe import Probe

from ..stores.base import PatternStore, StoreUnavailable
from ..stores.open import open_store
from .settings import Settings

T = TypeVar("T")
log = logging.getLogger(__name__)


class StoreGateway:
    """Calls a store that may not be there yet, or not always."""

    def __init__(self, *, uri: str, settings: Settings) -> None:
        self._uri = uri
        self._settings = settings
        self._lock = threading.Lock()
        self._store: PatternStore | None = None
        self._failure: str | None = None
        self.probe = Probe(self._read_a_little)
        try:
            self._opened()
        except StoreUnavailable as error:
            log.warning("the store can't be reached yet: %s", error)
            self._failure = str(error)

    def _opened(self) -> PatternStore:
        store = self._store
        if store is None:
            with self._lock:
                if self._store is None:
                    self._store = open_store(
                        self._uri,
                        pool_size=self._settings.pool_size,
                        timeout_seconds=self._settings.request_timeout,
                        bulk_size=self._settings.batch_size,
                        service=self._settings.service_name,
                    )
                store = self._store
        return store

    def call(self, action: Callable[[PatternStore], T]) -> T:
        """Do something with the store; its errors are remembered until it works again."""
        try:
            result = action(self._opened())
        except WorkError as error:
            self._failure = str(error)
            raise
        self._failure = None
        return result

    @property
    def failure(self) -> str | None:
        """Return why the last call failed, None when it didn't."""
        return self._failure

    def _read_a_little(self) -> None:
        # Not through `call`: that a store can be read doesn't mean that the failed write before would work now.
        self._opened().version(node_id="health")

    def close(self) -> None:
        """Give back the store's connections."""
        self.probe.close()
        if self._store is not None:
            self._store.close()
