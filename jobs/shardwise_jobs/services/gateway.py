"""A service's only door to its store: opened when it can be, watched so that `GET /health` can say what is wrong."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from shardwise.engine.errors import WorkError

PROBE_SECONDS = 2.0
"""A probe of an orchestrator waits little longer than this."""
log = logging.getLogger(__name__)


class Closable(Protocol):
    """What any store is, as far as a gateway knows."""

    def close(self) -> None:
        """Give back connections."""


Store = TypeVar("Store", bound=Closable)
T = TypeVar("T")


class Probe:
    """Asks on one thread of its own: something that hangs holds up one question, not one thread per question."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="probe")
        self._asked: Future[object] | None = None

    async def answered(self) -> None:
        """Return when the question was answered; whoever comes while it is open waits for the same answer.

        Raises:
            TimeoutError: not within `PROBE_SECONDS`; the question stays open.
            Exception: what the question raises.
        """
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._thread.submit(self._ask)
            asked = asyncio.wrap_future(self._asked)
        await asyncio.wait_for(asyncio.shield(asked), PROBE_SECONDS)

    def close(self) -> None:
        """Ask no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class StoreGateway(Generic[Store]):
    """Calls a store that may not be there yet, or not always."""

    def __init__(
        self,
        *,
        open_store: Callable[[], Store],
        look: Callable[[Store], object],
        unavailable: type[WorkError],
        prepare: Callable[[Store], object] = lambda store: None,
    ) -> None:
        """Open the store and prepare it; one that is `unavailable` is tried again with each call.

        `look` reads a little, for health: not through `call`, for that a store can be read doesn't mean that the failed
        write before would work now.

        Raises:
            WorkError: the store can't be used, and trying again won't mend that.
        """
        self._open_store = open_store
        self._prepare = prepare
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._prepared = False
        self._failure: str | None = None
        self._probe = Probe(lambda: look(self._ready()))
        try:
            self._ready()
        except unavailable as error:
            log.warning("the store can't be reached yet: %s", error)
            self._failure = str(error)

    def _ready(self) -> Store:
        store = self._store
        if store is None or not self._prepared:
            with self._lock:
                if self._store is None:
                    self._store = self._open_store()
                store = self._store
                if not self._prepared:
                    self._prepare(store)
                    self._prepared = True
        return store

    def call(self, action: Callable[[Store], T]) -> T:
        """Do something with the store; its errors are remembered until it works again."""
        try:
            result = action(self._ready())
        except WorkError as error:
            self._failure = str(error)
            raise
        self._failure = None
        return result

    @property
    def failure(self) -> str | None:
        """Return why the last call failed, None when it didn't."""
        return self._failure

    async def look(self) -> None:
        """Return when the store was looked at. Raises as `Probe.answered`."""
        await self._probe.answered()

    def close(self) -> None:
        """Give back the store's connections."""
        self._probe.close()
        if self._store is not None:
            self._store.close()
