"""The end of an ingestion: is everything there, the index over it, its digests, and what people want to know of it.

Two runs with the same result have two digests in common: one over rows, and one over the numbers of their vectors. Rows
come in order of their ids, so neither shards nor restarts nor the order of writing show. Vectors have a digest of their
own: their last bits depend on the kind of processor, codes and texts do not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shardwise.engine.errors import WorkError
from shardwise.engine.worker import Context
from shardwise_api import indexes
from shardwise_api.runs import IngestRunSpec
from shardwise_api.wire import ItemFailure, Metric, RunResult, WorkResult

from . import factories
from .codes import DENSE_WIDTH
from .duplicates import Duplicates, duplicates_of
from .embed.base import Vectors
from .index import VectorIndex
from .ledger import LedgerSum, missing_blocks, require_few_failed, require_whole_blocks
from .source import ChunkFiles
from .stores import Counts, RowKey, RowStore, StoredVector, VectorModel
from .tmd.base import CLIENT

SUMMARY_FILE = "summary.json"
_MAX_LISTED = 10
_MAX_REASON = 160
_MAX_BACKENDS = 5
"""All of this has to fit into a termination message."""


class RowsMissing(WorkError):
    """The store has other rows than its ledger says."""

    reason = "RowsMissing"


def finalize(*, context: Context, spec: IngestRunSpec, source: ChunkFiles, store: RowStore) -> RunResult:
    """Return the run's result; index, manifest and summary go to the output folder. Safe to repeat."""
    document = context.document
    prepared, worked = document.prepared, document.worked
    assert prepared is not None
    assert prepared.items_total is not None
    model = store.check()
    missing = _tolerated(store, spec, run=document.uid, total=prepared.items_total)
    require_whole_blocks(store.ledger(run=document.uid), spec, total=prepared.items_total)
    done = LedgerSum.of(store.ledger(run=document.uid))
    duplicates = duplicates_of(
        source, spec=spec, store=store, run=document.uid, prepared=prepared, missing=missing, done=done
    )
    done.lose(list(duplicates.failures), number=duplicates.lost)
    require_few_failed(
        failed=done.failed,
        total=prepared.items_total,
        spec=spec,
        reasons=[f"item {item}: {reason}" for item, reason in done.failures],
        # No shard had too many, so all blocks are committed and this run is over.
        way_out="the rows of all others stay, and a run of another name works the failed ones alone",
    )
    counts = _counts(store, spec, done)

    rows = _Rows(store, dataset=spec.dataset_source)
    index = VectorIndex.build(
        rows.vectors(),
        count=counts.vectors,
        dimension=model.dimension + DENSE_WIDTH,
        kind=spec.index.kind,
        tmd_weight=spec.index.tmd_weight,
        model=model.name,
        dataset=spec.dataset_source,
    )
    ntotal = index.manifest.ntotal
    if ntotal < counts.vectors:
        raise RowsMissing(
            f"data set {spec.dataset_source!r} had {counts.vectors} rows a moment ago and has {ntotal} now: somebody "
            "is removing some; a run of another name writes them again"
        )
    index_uri = index.write(context.output)

    statistics = _statistics(done, ntotal=ntotal)
    statistics.update(_times(worked, before=_earlier(context)))
    facts: dict[str, Any] = {
        "vectorDigest": str(rows.vector_digest),
        "index": index_uri,
        "embedModel": model.name,
        "dimension": model.dimension + DENSE_WIDTH,
        "tmdBackends": dict(sorted(rows.backends.most_common(_MAX_BACKENDS))),
    }
    summary: dict[str, Any] = {
        "run": document.name,
        "uid": document.uid,
        "digest": str(rows.digest),
        **facts,
        **statistics,
        "num_workers": worked.workers if worked else _earlier(context).get("num_workers"),
        "failed_shards": worked.failed_shards if worked else _earlier(context).get("failed_shards", ""),
        "failures": [{"item": item, "reason": reason} for item, reason in done.failures[:_MAX_LISTED]],
        "dataset": spec.dataset_source,
        "embedding": spec.embedding.model_dump(mode="json", by_alias=True, exclude_none=True),
        # Where a Secret names it, nobody else does.
        "store": spec.store.uri,
        "index_manifest": {"kind": index.manifest.kind, "sha256": index.manifest.sha256},
        "python": platform.python_version(),
        "input_fingerprint": prepared.input_fingerprint,
    }
    uri = context.output.write_text(SUMMARY_FILE, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return RunResult(
        digest=summary["digest"],
        uri=uri,
        items=done.items,
        failures=[ItemFailure(item=item, reason=reason[:_MAX_REASON]) for item, reason in done.failures[:5]],
        metrics=[Metric(name=name, value=value) for name, value in statistics.items() if value is not None],
        summary=facts,
        warnings=_warnings(spec, model=model, duplicates=duplicates, done=done, backends=rows.backends),
    )


class _Rows:
    """A data set's rows in one pass, for somebody else may be writing: index and digests are of the same ones."""

    def __init__(self, store: RowStore, *, dataset: str) -> None:
        self._store = store
        self._dataset = dataset
        self.digest = ResultDigest()
        self.vector_digest = VectorsDigest()
        self.backends: Counter[str] = Counter()

    def vectors(self) -> Iterator[StoredVector]:
        """Yield what goes into the index, once; the rest is complete when that has come to its end."""
        for key, vector in self._store.keyed_vectors(dataset=self._dataset):
            self.digest.add(key)
            self.vector_digest.add(vector)
            self.backends[key.tmd_backend] += 1
            yield vector


def _tolerated(store: RowStore, spec: IngestRunSpec, *, run: str, total: int) -> dict[int, int]:
    """Return how many blocks of which shard the ledger lacks, when those are few enough shards."""
    missing = missing_blocks(store.ledger(run=run), spec, total=total)
    if len(missing) > spec.retry.max_failed_shards:
        raise WorkError(
            f"the ledger lacks {sum(missing.values())} blocks of shards {indexes.to_text(missing)}; nothing is lost, "
            "the shards have to run again"
        )
    return missing


def _counts(store: RowStore, spec: IngestRunSpec, done: LedgerSum) -> Counts:
    counts = store.counts(dataset=spec.dataset_source)
    if counts.entries != counts.vectors or counts.entries < done.inserted:
        raise RowsMissing(
            f"data set {spec.dataset_source!r} has {counts.entries} rows and {counts.vectors} vectors, this run alone "
            f"wrote {done.inserted}: somebody has removed some; a run of another name writes them again"
        )
    return counts


def _statistics(done: LedgerSum, *, ntotal: int) -> dict[str, float | None]:
    return {
        "chunks": done.done + done.failed,
        "failed": done.failed,
        **done.figures,
        # The data set's: other runs may have written into it before.
        "rows": ntotal,
        "ntotal": ntotal,
    }


def _times(worked: WorkResult | None, *, before: dict[str, Any]) -> dict[str, float | None]:
    names = ("total_time_seconds", "rate_chunks_per_sec")
    if worked is None:
        return {name: before.get(name) for name in names}
    rate = round(worked.done / worked.seconds, 2) if worked.seconds else None
    return dict(zip(names, (round(worked.seconds, 3), rate), strict=True))


def _earlier(context: Context) -> dict[str, Any]:
    """Return the summary that an earlier finalize of the same run wrote: the work's times are in no other place."""
    text = context.output.read_text(SUMMARY_FILE)
    try:
        summary = json.loads(text or "{}")
    except ValueError:
        # Cut short, or somebody else's: it is written anew.
        return {}
    return summary if isinstance(summary, dict) and summary.get("uid") == context.document.uid else {}


def _warnings(
    spec: IngestRunSpec, *, model: VectorModel, duplicates: Duplicates, done: LedgerSum, backends: Counter[str]
) -> list[str]:
    """Say so when chunks were rows already and these may have codes that this run would not have given."""
    known = done.deduplicated - (duplicates.worked - duplicates.lost)
    if known <= 0 or backends.keys() <= (own := asyncio.run(_own_names(spec, model=model))):
        return []
    found = ", ".join(f"{number} by {name}" for name, number in backends.most_common(_MAX_BACKENDS))
    return [
        f"{known} chunks were rows already and keep the codes they had; this run asked {', '.join(sorted(own))}, the "
        f"codes of {spec.dataset_source!r} are now: {found}"
    ]


async def _own_names(spec: IngestRunSpec, *, model: VectorModel) -> set[str]:
    """Return what this run's own rows may say of who gave their codes."""
    unloaded = _Unloaded(name=model.name, dimension=model.dimension)
    backend = factories.open_backend(spec, embedder=unloaded)
    fallback = factories.open_fallback(spec, embedder=unloaded)
    try:
        return {backend.name, CLIENT, *([] if fallback is None else [fallback.name])}
    finally:
        await backend.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unloaded:
    """The embedder that the store's vectors are of, by its name alone: for that no model is opened."""

    name: str
    dimension: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        raise NotImplementedError(f"{self.name} is not open")

    def close(self) -> None:
        pass


def digest_lines(keys: Iterable[RowKey]) -> Iterator[str]:
    """Yield the lines that a result's digest is made of, one JSON list per row.

    Raises:
        ValueError: the rows are not in order of cpe_id, or one is there twice.
    """
    rows = ResultDigest()
    for key in keys:
        yield rows.add(key)


class ResultDigest:
    """`sha256:…` over rows that come one by one."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._last = b""

    def add(self, key: RowKey) -> str:
        """Add a row and return its line. Raises as `digest_lines`."""
        if key.cpe_id.bytes <= self._last:
            raise ValueError(f"row {key.cpe_id} is out of order")
        self._last = key.cpe_id.bytes
        codes = key.codes
        fields = [
            str(key.cpe_id),
            key.chunk_sha256,
            [codes.domain, codes.task, codes.modifier],
            key.tmd_backend,
            key.embed_model,
        ]
        line = json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"
        self._digest.update(line.encode("utf-8"))
        return line

    def __str__(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


class VectorsDigest:
    """`sha256:…` over ids and fused vectors (little-endian float32); holds between processors of one kind."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, vector: StoredVector) -> None:
        """Add a vector."""
        self._digest.update(vector.cpe_id.bytes)
        self._digest.update(vector.fused.astype("<f4", copy=False).tobytes())

    def __str__(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


def result_digest(keys: Iterable[RowKey]) -> str:
    """Return the digest of rows. Raises as `digest_lines`."""
    digest = ResultDigest()
    for key in keys:
        digest.add(key)
    return str(digest)


def vectors_digest(vectors: Iterable[StoredVector]) -> str:
    """Return the digest of vectors."""
    digest = VectorsDigest()
    for vector in vectors:
        digest.add(vector)
    return str(digest)
