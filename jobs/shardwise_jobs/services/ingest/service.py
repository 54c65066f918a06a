"""What is behind the routes: a request's chunks go through the stages of a run, and its rows into the store at once."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from uuid import UUID, uuid4

import numpy as np

from shardwise_api.ingest import Dedup, SourceFiles
from shardwise_jobs.engines.ingest.chunk import BadChunk, Chunk, IngestRequest, flaw
from shardwise_jobs.engines.ingest.codes import DENSE_WIDTH
from shardwise_jobs.engines.ingest.embed.base import Embedder, Vectors
from shardwise_jobs.engines.ingest.phase_timer import Phase, PhaseTimer, WithWriting
from shardwise_jobs.engines.ingest.row_builder import batch_uuid, row_of
from shardwise_jobs.engines.ingest.source import ChunkFiles, Entry
from shardwise_jobs.engines.ingest.stages import Failed, Processed, Stages
from shardwise_jobs.engines.ingest.stores import Row
from shardwise_jobs.engines.ingest.tmd.base import TmdBackend

from .gateway import RUN, RowGateway
from .llm import Llm
from .models import Answer, Health, Info, Result, Stats
from .settings import Settings

_MAX_SHOWN = 200
_MAX_REASON = 200
_ENDPOINTS = {
    "POST /ingest": "chunks to rows",
    "GET /health": "store, model and LLM",
    "GET /stats": "chunks so far",
    "GET /docs": "this interface, to try out",
    "GET /openapi.json": "this interface, for programs",
}
_NO_TIMINGS = dict.fromkeys(
    ("cpesh_ms", "tmd_ms", "embedding_ms", "tmd_encode_ms", "fuse_ms", "postgres_ms", "faiss_ms"), 0.0
)
"""Codes become numbers where vectors are fused, and no index is written: these keys stay at 0."""
log = logging.getLogger(__name__)


class RequestChunks(ChunkFiles):
    """The chunks of a request, as items: numbered, named and linked by the rules of an input's files."""

    def __init__(self, request: IngestRequest) -> None:
        super().__init__(SourceFiles(uris=["request"]), dataset=request.dataset_source, dedup=Dedup.POSITION)
        self._sent = [chunk if (wrong := flaw(chunk)) is None else BadChunk(reason=wrong) for chunk in request.chunks]

    def _chunks(self) -> Iterator[Chunk | BadChunk]:
        return iter(self._sent)


class OneCallEach:
    """An embedder that is called for one text at a time."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.name = inner.name
        self.dimension = inner.dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`."""
        return np.concatenate([self._inner.embed([text]) for text in texts])

    def close(self) -> None:
        """See `Embedder.close`."""
        self._inner.close()


class IngestService:
    """Everything behind the routes. For one event loop; `close` it there."""

    def __init__(
        self, *, settings: Settings, embedder: Embedder, backend: TmdBackend, llm: Llm | None, store: RowGateway
    ) -> None:
        self._settings = settings
        self._embedder = embedder if settings.batch_embeddings else OneCallEach(embedder)
        self._backend = backend
        self._llm = llm
        self._store = store

    async def ingest(self, request: IngestRequest) -> Answer:
        """Work a request: whatever becomes of its chunks is in the answer.

        Raises:
            WorkError: the store can't be used; nothing was written.
        """
        began = time.perf_counter()
        batch = request.batch_id or str(uuid4())
        entries = list(RequestChunks(request).entries(range(len(request.chunks))))
        # The store is asked before anybody else: while it is down, no LLM works for nothing.
        rows = await self._store.known([entry.cpe_id for entry in entries if entry.cpe_id is not None])
        looked = time.perf_counter()
        fresh = [
            entry for entry in entries if entry.chunk is not None and not entry.duplicate and entry.cpe_id not in rows
        ]
        clock = PhaseTimer()
        made = await self._process(fresh, clock)
        fusing = time.perf_counter()
        lost = {entry.cpe_id: each.reason for entry, each in zip(fresh, made, strict=True) if isinstance(each, Failed)}
        new = [
            self._row(entry, each, dataset=request.dataset_source, batch=batch)
            for entry, each in zip(fresh, made, strict=True)
            if isinstance(each, Processed)
        ]
        reasons = [entry.failure or lost.get(entry.cpe_id) for entry in entries]
        failures = [(item, reason[:_MAX_REASON]) for item, reason in enumerate(reasons) if reason is not None]
        writing = time.perf_counter()
        lap = clock.lap()
        rows |= await self._store.write(new, chunks=len(entries), failures=failures, millis=WithWriting(lap))
        ended = time.perf_counter()
        millis = {
            "tmd_ms": lap.get(Phase.TMD, 0.0),
            "embedding_ms": lap.get(Phase.EMBED, 0.0),
            "fuse_ms": (writing - fusing) * 1000,
            "postgres_ms": (looked - began + ended - writing) * 1000,
        }
        timings = _NO_TIMINGS | {name: round(value / len(entries), 3) for name, value in millis.items()}
        results = [
            self._failed(chunk, reason, timings=timings)
            if reason is not None
            else self._stored(rows[_id(entry)], timings=timings)
            for chunk, entry, reason in zip(request.chunks, entries, reasons, strict=True)
        ]
        spent = round((ended - began) * 1000, 1)
        log.info(
            "batch %s: %d chunks, %d failed, %d new rows, %s ms", batch, len(entries), len(failures), len(new), spent
        )
        return Answer(
            results=results,
            total_chunks=len(entries),
            successful=len(entries) - len(failures),
            failed=len(failures),
            batch_id=batch,
            processing_time_ms=spent,
        )

    async def _process(self, entries: Sequence[Entry], clock: PhaseTimer) -> list[Processed | Failed]:
        # Of its own for each request, for their times are its own.
        stages = Stages(embedder=self._embedder, backend=self._backend, clock=clock)
        try:
            return await stages.process([entry.chunk for entry in entries if entry.chunk is not None])
        finally:
            await stages.close()

    def _row(self, entry: Entry, made: Processed, *, dataset: str, batch: str) -> Row:
        row = row_of(
            entry,
            answer=made.answer,
            vector=made.vector,
            embed_model=self._embedder.name,
            dataset=dataset,
            run=RUN,
            shard=0,
        )
        return replace(row, created_at=datetime.now(UTC), batch_id=row.batch_id or batch_uuid(batch))

    def _stored(self, row: Row, *, timings: dict[str, float]) -> Result:
        codes = row.codes
        assert row.created_at is not None
        # A row that was there says who gave its codes, and that may have been somebody else.
        tmd = self._backend.label if row.tmd_backend == self._backend.name else row.tmd_backend
        return Result(
            global_id=str(row.cpe_id),
            concept_text=row.source_chunk if row.concept_text is None else row.concept_text,
            tmd_codes={"domain": codes.domain, "task": codes.task, "modifier": codes.modifier},
            vector_dimension=len(row.concept_vec) + DENSE_WIDTH,
            confidence_score=row.confidence_score or 0.0,
            quality_metrics=dict(row.quality_metrics),
            created_at=_time(row.created_at),
            parent_cpe_ids=list(row.parent_cpe_ids),
            child_cpe_ids=list(row.child_cpe_ids),
            success=True,
            error=None,
            timings_ms=timings,
            backends=self._backends(tmd),
        )

    def _failed(self, chunk: Chunk, reason: str, *, timings: dict[str, float]) -> Result:
        return Result(
            global_id="",
            concept_text=chunk.text[:_MAX_SHOWN],
            tmd_codes={},
            vector_dimension=0,
            confidence_score=0.0,
            quality_metrics={},
            created_at=_time(datetime.now(UTC)),
            parent_cpe_ids=[],
            child_cpe_ids=[],
            success=False,
            error=reason,
            timings_ms=timings,
            backends=self._backends(self._backend.label),
        )

    def _backends(self, tmd: str) -> dict[str, str]:
        return {
            "cpesh": "disabled",
            "tmd": tmd,
            "embedding": f"inproc:{self._embedder.name}",
            "faiss": "deferred",
        }

    async def health(self) -> Health:
        """Ask all that the service needs, at once."""
        store, llm = await asyncio.gather(self._store.issue(), self._llm_issue())
        return Health(
            status="healthy" if store is None else "degraded",
            postgresql=store is None,
            faiss=importlib.util.find_spec("faiss") is not None,
            gtr_t5_api=True,
            tmd_router_api=llm is None,
            llm_endpoint=self._llm and self._llm.endpoint,
            issues=[issue for issue in (store, llm) if issue is not None],
        )

    async def _llm_issue(self) -> str | None:
        return None if self._llm is None else await self._llm.issue()

    async def stats(self) -> Stats:
        """Return the counts. Raises as `RowGateway.totals`."""
        totals = await self._store.totals()
        stored = totals.chunks - totals.failed
        return Stats(
            total_chunks_processed=totals.chunks,
            successfully_ingested=stored,
            failed=totals.failed,
            success_rate=round(100 * stored / totals.chunks, 2) if totals.chunks else 0.0,
        )

    def info(self) -> Info:
        """Return what is in force."""
        return Info(
            service="shardwise ingest",
            version=version("shardwise"),
            status="running",
            tmd_backend=self._settings.backend,
            tmd_name=self._backend.name,
            llm_endpoint=self._llm and self._llm.endpoint,
            embedding_model=self._embedder.name,
            vector_dimension=self._embedder.dimension + DENSE_WIDTH,
            store=self._store.where,
            settings=self._settings.shown(),
            endpoints=_ENDPOINTS,
        )

    async def start(self) -> None:
        """Say what does not work yet; the service starts all the same."""
        for issue in (await self.health()).issues:
            log.warning("%s", issue)

    async def close(self) -> None:
        """Give back connections, threads and memory."""
        if self._llm is not None:
            await self._llm.close()
        self._store.close()
        self._embedder.close()


def _id(entry: Entry) -> UUID:
    assert entry.cpe_id is not None
    return entry.cpe_id


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
