"""The service's way to its store: made ready when it can be reached, asked on threads, and counted in its ledger."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from shardwise.engine.errors import WorkError
from shardwise_jobs.engines.ingest import identifiers
from shardwise_jobs.engines.ingest.stores import BlockRecord, Row, RowStore, StoreUnavailable, VectorModel, open_store
from shardwise_jobs.engines.ingest.stores.sql_store import SqlStore
from shardwise_jobs.services.gateway import PROBE_SECONDS, StoreGateway

RUN = "service"
"""What rows and ledger call the service where they name a run."""
_CONNECTIONS = 4
_ATTEMPTS = 3
_SECONDS = 20
_ASKED_AT_ONCE = 500
_MAX_LISTED = 10
T = TypeVar("T")


@dataclass(slots=True)
class Totals:
    """Chunks of all requests that were worked."""

    chunks: int = 0
    failed: int = 0


class RowGateway(StoreGateway[RowStore]):
    """See `StoreGateway`; for one event loop."""

    def __init__(self, uri: str, *, model: VectorModel) -> None:
        """Open the store; one that can't be reached yet is tried again with each call.

        Raises:
            BadConfiguration: the URI is none, or the store is another program's or another model's.
            StoreError: it can't be used.
        """
        store = open_store(uri, pool_size=_CONNECTIONS, timeout_seconds=_SECONDS, attempts=_ATTEMPTS)
        assert isinstance(store, SqlStore)
        self.where = store.where
        """What messages call it: no secret in it."""
        self._model = model
        self._totals: Totals | None = None
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="store")
        # Of its own, and never tried again: health is about now, and does not wait behind writers.
        self._watched = open_store(uri, pool_size=1, timeout_seconds=PROBE_SECONDS, attempts=1)
        super().__init__(
            open_store=lambda: store,
            prepare=self._count,
            look=lambda _: self._watched.check(model=self._model),
            unavailable=StoreUnavailable,
        )

    def _count(self, store: RowStore) -> None:
        store.prepare(model=self._model)
        totals = Totals()
        for record in store.ledger(run=RUN):
            totals.chunks += record.chunks
            totals.failed += record.failed
        self._totals = totals

    async def _call(self, action: Callable[[RowStore], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: self.call(action))

    async def known(self, ids: Sequence[UUID]) -> dict[UUID, Row]:
        """Return those of some rows that are there. Raises as `RowStore`."""
        numbers = [identifiers.faiss_id(cpe_id) for cpe_id in ids]

        def find(store: RowStore) -> dict[UUID, Row]:
            parts = (numbers[at : at + _ASKED_AT_ONCE] for at in range(0, len(numbers), _ASKED_AT_ONCE))
            return {row.cpe_id: row for part in parts for row in store.found(faiss_ids=part).values()}

        return await self._call(find)

    async def write(
        self, rows: Sequence[Row], *, chunks: int, failures: Sequence[tuple[int, str]], millis: Mapping[str, float]
    ) -> dict[UUID, Row]:
        """Write a request's rows and its ledger row in one transaction; return the rows as they are there now.

        Another request may have written one of them a moment earlier: then that one counts. Raises as `RowStore`.
        """
        record = BlockRecord(
            run=RUN,
            shard=0,
            # Of its own among those of all processes that serve this store.
            block=secrets.randbits(62),
            chunks=chunks,
            failed=len(failures),
            failures=tuple(failures[:_MAX_LISTED]),
            millis=millis,
        )
        inserted = await self._call(lambda store: store.commit_block(rows=rows, record=record))
        assert self._totals is not None
        self._totals.chunks += chunks
        self._totals.failed += len(failures)
        if inserted == len(rows):
            return {row.cpe_id: row for row in rows}
        return await self.known([row.cpe_id for row in rows])

    async def totals(self) -> Totals:
        """Return the counts. Raises as `RowStore`, until the store was reached for the first time."""
        if self._totals is None:
            await self._call(lambda store: None)
        assert self._totals is not None
        return self._totals

    async def issue(self) -> str | None:
        """Return what is wrong with the store, None when nothing is."""
        try:
            await self.look()
        except TimeoutError:
            return f"the store has not answered for {PROBE_SECONDS:g} s"
        except WorkError as error:
            return f"the store can't be used: {error}"
        return None

    def close(self) -> None:
        """Give back the store's connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()
        self._watched.close()
