"""Whole runs as pods do them, cut in different ways: the result must not show how.

What is compared is read from where a user would read it: the summary, and the index file with questions to it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.support.ingestion import Ingestion
from tests.support.worker import Ended

from shardwise_jobs.engines.ingest.embed import Embedder
from shardwise_jobs.engines.ingest.index import VectorIndex

from .figures import Json

QUESTIONS = (
    "How do I read a file line by line?",
    "exceptions and how to catch them",
    "What is the difference between a list and a tuple?",
    "sorting with a key function",
    "modules and import",
)
_NEIGHBOURS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A way of cutting a run."""

    name: str
    shards: int
    changes: tuple[str, ...] = ()
    """Of the spec, as `--set` takes them."""


SHARDS = (
    Cut(name="1 shard", shards=1),
    Cut(name="2 shards", shards=2),
    Cut(name="4 shards", shards=4),
)
OTHERWISE = (
    Cut(name="Chunked, 1 worker", shards=3, changes=("spec.sharding.strategy=Chunked", "spec.workers=1")),
    Cut(name="RoundRobin, 10 workers, blocks of 5", shards=2, changes=("spec.workers=10", "spec.blockSize=5")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run left, as far as it must be the same for every cut."""

    digest: str
    vector_digest: str
    rows: int
    ntotal: int
    neighbours: tuple[tuple[int, ...], ...]
    """Ids by question, nearest first."""
    distances: tuple[bytes, ...]
    """Their similarities by question, to the bit."""
    index_sha256: str


def run(
    cut: Cut, *, folder: Path, chunks: Sequence[Json], url: str, model: Path, embedder: Embedder
) -> tuple[Json, Outcome]:
    """Run all steps of a cut, one pod after the other, and return its times and what it left."""
    ingestion = Ingestion(
        folder=folder, model=model, chunks=chunks, url=url, changes=(f"spec.sharding.shards={cut.shards}", *cut.changes)
    )
    _require_done(ingestion.prepare())
    started = time.perf_counter()
    for shard in range(cut.shards):
        _require_done(ingestion.work(shard))
    worked = time.perf_counter() - started
    _require_done(ingestion.finalize())
    return {"shards": cut.shards, "work_seconds": worked}, _outcome(ingestion, embedder=embedder)


def _outcome(ingestion: Ingestion, *, embedder: Embedder) -> Outcome:
    summary = ingestion.summary()
    index = VectorIndex.read(ingestion.output.as_uri())
    found = [index.search(vector, k=_NEIGHBOURS) for vector in embedder.embed(QUESTIONS)]
    return Outcome(
        digest=summary["digest"],
        vector_digest=summary["vectorDigest"],
        rows=summary["rows"],
        ntotal=summary["ntotal"],
        neighbours=tuple(tuple(hit.faiss_id for hit in hits) for hits in found),
        distances=tuple(np.array([hit.score for hit in hits]).tobytes() for hits in found),
        index_sha256=summary["index_manifest"]["sha256"],
    )


def _require_done(ended: Ended) -> None:
    if ended.code:
        raise SystemExit(f"a step ended with {ended.code}: {ended.message}\n{ended.log}")
