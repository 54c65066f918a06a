"""What every way of ingesting is measured on: the same paragraphs, and what must come of them, reckoned without it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from tests.support.ingestion import DATASET, digest_of

from shardwise_api.ingest import Dedup, SourceFiles
from shardwise_jobs.engines.ingest.embed import Embedder
from shardwise_jobs.engines.ingest.finalize import result_digest, vectors_digest
from shardwise_jobs.engines.ingest.source import ChunkFiles, Entry
from shardwise_jobs.engines.ingest.stores import RowStore, VectorModel, open_store

from .figures import Json

LATENCY_SECONDS = 0.887
"""Of one answer of the LLM, as the original's guide measured it."""
REQUEST = Path(__file__).parents[1] / "examples" / "data" / "request-pydocs-500.json"


def chunks(count: int) -> list[Json]:
    """Return paragraphs of the Python documentation as a request has them; from 501 on they come again, numbered."""
    found = json.loads(REQUEST.read_text(encoding="utf-8"))["chunks"]
    # Without their document_id: the source then is the document, as in the tests whose reckoning is used here.
    return [
        {
            "text": each["text"] if number < len(found) else f"{each['text']} ({number})",
            "source_document": each["source_document"],
            "chunk_index": number,
        }
        for number, each in enumerate(islice(cycle(found), count))
    ]


def entries(made: Sequence[Json], *, folder: Path) -> list[Entry]:
    """Return what a worker reads of these chunks."""
    path = folder / "request.json"
    path.write_text(json.dumps({"chunks": made}), encoding="utf-8")
    source = ChunkFiles(SourceFiles(uris=[str(path)]), dataset=DATASET, dedup=Dedup.POSITION)
    return list(source.entries(range(len(made))))


def expected_digest(made: Sequence[Json], *, embedder: Embedder) -> str:
    """Return the digest of their rows, with the codes that the LLM must have given: see `tests.support.ollama`."""
    return digest_of(made, embed_model=embedder.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a store holds."""

    rows: int
    digest: str
    vector_digest: str

    @classmethod
    def of(cls, store: RowStore) -> Stored:
        """Read a store."""
        return cls(
            rows=store.counts().vectors,
            digest=result_digest(store.row_keys()),
            vector_digest=vectors_digest(store.vectors()),
        )


@contextmanager
def prepared_store(uri: str, *, model: VectorModel) -> Iterator[RowStore]:
    """Open a store that is ready for rows, a connection included: what every way needs once is no part of its time."""
    with closing(open_store(uri)) as store:
        store.prepare(model=model)
        yield store


def model_of(embedder: Embedder) -> VectorModel:
    """Return what a store must know of an embedder."""
    return VectorModel(name=embedder.name, dimension=embedder.dimension)


class Stopwatch:
    """Wall time, and CPU time of this process with all its threads; either in seconds."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Json:
        """Return both since the start."""
        return {"seconds": time.perf_counter() - self._wall, "cpu_seconds": time.process_time() - self._cpu}
