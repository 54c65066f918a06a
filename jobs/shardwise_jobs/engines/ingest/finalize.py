"""The end of an ingestion: is everything there, the index over it, its digests, and what people want to know of it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterator
from typing import Any

from shardwise_api import indexes
from shardwise_api.runs import IngestRunSpec
from shardwise_api.wire import ItemFailure, Metric, PrepareResult, RunResult, WorkedResult
from shardwise_jobs.engine import Context
from shardwise_jobs.errors import WorkError

from .codes import DENSE_WIDTH
from .digests import digest_lines, vectors_digest
from .index import VectorIndex
from .ledger import LedgerSum, missing_blocks, require_few_failed
from .stores import Counts, RowKey, RowStore

SUMMARY_FILE = "summary.json"
_MAX_LISTED = 10
_MAX_REASON = 160
_MAX_BACKENDS = 5
"""All of this has to fit into a termination message."""


class RowsMissing(WorkError):
    """The store has other rows than its ledger says."""

    reason = "RowsMissing"


def finalize(*, context: Context, spec: IngestRunSpec, store: RowStore) -> RunResult:
    """Return the run's result; index, manifest and summary go to the output folder. Safe to repeat."""
    document = context.document
    prepared, worked = document.prepared, document.worked
    assert prepared is not None
    assert prepared.items_total is not None
    model = store.check()
    _require_complete(store, spec, run=document.uid, total=prepared.items_total)
    done = LedgerSum.of(store.ledger(run=document.uid))
    require_few_failed(
        failed=done.failed,
        total=prepared.items_total,
        spec=spec,
        reasons=[f"item {item}: {reason}" for item, reason in done.failures],
        # No shard had too many, so all blocks are committed and this run is over.
        way_out="the rows of all others stay, and a run of another name works the failed ones alone",
    )
    counts = _counts(store, spec, done)

    backends: Counter[str] = Counter()
    digest = hashlib.sha256()
    for line in digest_lines(_counted(store.row_keys(dataset=spec.dataset_source), backends)):
        digest.update(line.encode("utf-8"))
    vector_digest = vectors_digest(store.vectors(dataset=spec.dataset_source))
    index = VectorIndex.build(
        store.vectors(dataset=spec.dataset_source),
        count=counts.vectors,
        dimension=model.dimension + DENSE_WIDTH,
        kind=spec.index.kind,
        tmd_weight=spec.index.tmd_weight,
        model=model.name,
        dataset=spec.dataset_source,
    )
    index_uri = index.write(context.output)

    statistics = _statistics(done, counts=counts, ntotal=index.manifest.ntotal)
    statistics.update(_times(worked, before=_earlier(context)))
    facts: dict[str, Any] = {
        "vectorDigest": vector_digest,
        "index": index_uri,
        "embedModel": model.name,
        "dimension": model.dimension + DENSE_WIDTH,
        "tmdBackends": dict(sorted(backends.most_common(_MAX_BACKENDS))),
    }
    summary: dict[str, Any] = {
        "run": document.name,
        "uid": document.uid,
        "digest": f"sha256:{digest.hexdigest()}",
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
        warnings=_warnings(spec, prepared, done, backends),
    )


def _require_complete(store: RowStore, spec: IngestRunSpec, *, run: str, total: int) -> None:
    missing = missing_blocks(store.ledger(run=run), spec, total=total)
    if len(missing) > spec.retry.max_failed_shards:
        raise WorkError(
            f"the ledger lacks {sum(missing.values())} blocks of shards {indexes.to_text(missing)}; nothing is lost, "
            "the shards have to run again"
        )


def _counts(store: RowStore, spec: IngestRunSpec, done: LedgerSum) -> Counts:
    counts = store.counts(dataset=spec.dataset_source)
    if counts.entries != counts.vectors or counts.entries < done.inserted:
        raise RowsMissing(
            f"data set {spec.dataset_source!r} has {counts.entries} rows and {counts.vectors} vectors, this run alone "
            f"wrote {done.inserted}: somebody has removed some; a run of another name writes them again"
        )
    return counts


def _counted(keys: Iterator[RowKey], backends: Counter[str]) -> Iterator[RowKey]:
    for key in keys:
        backends[key.tmd_backend] += 1
        yield key


def _statistics(done: LedgerSum, *, counts: Counts, ntotal: int) -> dict[str, float | None]:
    return {
        "chunks": done.done + done.failed,
        "failed": done.failed,
        **done.figures,
        # The data set's: other runs may have written into it before.
        "rows": counts.entries,
        "ntotal": ntotal,
    }


def _times(worked: WorkedResult | None, *, before: dict[str, Any]) -> dict[str, float | None]:
    names = ("total_time_seconds", "rate_chunks_per_sec")
    if worked is None:
        return {name: before.get(name) for name in names}
    rate = round(worked.done / worked.seconds, 2) if worked.seconds else None
    return dict(zip(names, (round(worked.seconds, 3), rate), strict=True))


def _earlier(context: Context) -> dict[str, Any]:
    """Return the summary that an earlier finalize of the same run wrote: the work's times are in no other place."""
    text = context.output.read_text(SUMMARY_FILE)
    summary: dict[str, Any] = json.loads(text) if text else {}
    return summary if summary.get("uid") == context.document.uid else {}


def _warnings(spec: IngestRunSpec, prepared: PrepareResult, done: LedgerSum, backends: Counter[str]) -> list[str]:
    known = done.deduplicated - int(prepared.details.get("duplicates", 0))
    if known <= 0 or len(backends) <= 1:
        return []
    found = ", ".join(f"{number} by {name}" for name, number in backends.most_common(_MAX_BACKENDS))
    return [
        f"{known} chunks were rows already and keep the codes they had; the codes of {spec.dataset_source!r} are "
        f"now: {found}"
    ]
