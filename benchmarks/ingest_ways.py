"""Three ways of getting chunks through an LLM, an embedder and a store, all made of the product's own parts.

One by one is what the original does without its parallel mode, phase by phase what it does with it. The third is the
product's pipeline. Servers, model and connections are there before the clock starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.support.ingestion import MODEL

from shardwise.engine.blocks import blocks
from shardwise_jobs.engines.ingest.embed import Embedder
from shardwise_jobs.engines.ingest.embed.base import Vectors
from shardwise_jobs.engines.ingest.phase_timer import PhaseTimer
from shardwise_jobs.engines.ingest.pipeline import Block, Pipeline, Target, ahead_of
from shardwise_jobs.engines.ingest.row_builder import row_of
from shardwise_jobs.engines.ingest.source import Entry
from shardwise_jobs.engines.ingest.stages import Stages
from shardwise_jobs.engines.ingest.stores import BlockRecord
from shardwise_jobs.engines.ingest.tmd import TmdAnswer
from shardwise_jobs.engines.ingest.tmd.ollama import OllamaTmd

from .figures import Json
from .ingest_case import Stopwatch

BLOCK_SIZE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Chunks, and what they go through."""

    entries: Sequence[Entry]
    url: str
    """Of the LLM."""
    workers: int
    embedder: Embedder
    target: Target


def one_by_one(work: Work) -> Json:
    """Ask, embed and write a chunk before the next one is looked at: one worker, one transaction per chunk."""

    async def way(backend: OllamaTmd) -> None:
        for number, entry in enumerate(work.entries):
            await _three_phases(work, backend, number=number, part=[entry])

    return asyncio.run(_timed(work, way))


def phase_by_phase(work: Work) -> Json:
    """Ask for a block's codes, then embed it, then write it, and only then take the next one."""

    async def way(backend: OllamaTmd) -> None:
        for number, part in blocks(work.entries, block_size=BLOCK_SIZE, first=0):
            await _three_phases(work, backend, number=number, part=part)

    return asyncio.run(_timed(work, way))


def pipelined(work: Work) -> Json:
    """Have the product's pipeline do it, with the settings a manifest has unless it says otherwise."""

    async def way(backend: OllamaTmd) -> None:
        clock = PhaseTimer()
        stages = Stages(embedder=work.embedder, backend=backend, clock=clock)
        pipeline = Pipeline(
            stages=stages,
            target=work.target,
            clock=clock,
            ahead=ahead_of(workers=work.workers, block_size=BLOCK_SIZE),
            max_failed=0,
            check=lambda: None,
            committed=lambda _: None,
        )
        await pipeline.run(
            Block(number=number, entries=part) for number, part in blocks(work.entries, block_size=BLOCK_SIZE, first=0)
        )
        await stages.close()

    return asyncio.run(_timed(work, way))


async def _timed(work: Work, way: Callable[[OllamaTmd], Awaitable[None]]) -> Json:
    backend = OllamaTmd(endpoint=work.url, model=MODEL, workers=work.workers)
    await backend.check()
    watch = Stopwatch()
    await way(backend)
    found = watch.read()
    await backend.close()
    return found


async def _three_phases(work: Work, backend: OllamaTmd, *, number: int, part: Sequence[Entry]) -> None:
    texts = [entry.chunk.text for entry in part if entry.chunk is not None]
    answers = await backend.codes(texts)
    vectors: Vectors = work.embedder.embed(texts)
    target = work.target
    rows = [
        row_of(
            entry,
            answer=answer,
            vector=vector,
            embed_model=target.embed_model,
            dataset=target.dataset,
            run=target.run,
            shard=target.shard,
        )
        for entry, answer, vector in zip(part, answers, vectors, strict=True)
        if isinstance(answer, TmdAnswer)
    ]
    record = BlockRecord(run=target.run, shard=target.shard, block=number, chunks=len(part))
    target.store.commit_block(rows=rows, record=record)
