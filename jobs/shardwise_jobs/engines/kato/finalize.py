"""The end of a KATO run: is everything there, what is its digest, what do people want to know of it."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from shardwise.engine.blocks import count
from shardwise.engine.errors import BadInput, TooManyFailedItems, WorkError
from shardwise.engine.worker import Context
from shardwise_api import indexes
from shardwise_api.kato import KatoEngine as KatoSpec
from shardwise_api.runs import TrainingRunSpec
from shardwise_api.sharding import shard_items
from shardwise_api.wire import MAX_METRICS, ItemCounts, ItemFailure, Metric, RunResult, WorkResult

from .backends import Backend
from .stores.base import BlockRecord
from .transport import MAX_LISTED_FAILURES

SUMMARY_FILE = "summary.json"
PICTURE_FILE = "patterns.png"


@dataclass(slots=True)
class LedgerSum:
    """A run's ledger, added up."""

    items: ItemCounts = field(default_factory=ItemCounts)
    uncertain: int = 0
    learns: Counter[int] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, records: Iterable[BlockRecord]) -> LedgerSum:
        """Add up records."""
        total = cls()
        for record in records:
            total.items = ItemCounts(
                done=total.items.done + record.done,
                failed=total.items.failed + record.failed,
                skipped=total.items.skipped + record.skipped,
            )
            total.uncertain += record.uncertain
            total.learns.update(dict(enumerate(record.learns)))
            total.failures.extend(record.failures)
        total.failures.sort()
        return total


@dataclass(slots=True)
class LevelSum:
    """What one node knows: distinct patterns, learns, and how many patterns have which frequency."""

    node: str
    patterns: int = 0
    frequency_sum: int = 0
    histogram: Counter[int] = field(default_factory=Counter)


def digest_lines(node: str, frequencies: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Yield the lines that `shardwise kato patterns` prints and a result's digest is made of."""
    for name, frequency in frequencies:
        yield f"{node}\t{name}\t{frequency}\n"


def missing_blocks(records: Iterable[BlockRecord], spec: TrainingRunSpec, total: int | None) -> dict[int, int] | None:
    """Return shard -> number of blocks that the ledger lacks, empty when all are there, None when nobody can know."""
    if total is None:
        return None
    found: Counter[int] = Counter(record.shard for record in records)
    missing = {}
    for shard in range(spec.sharding.shards):
        items = shard_items(strategy=spec.sharding.strategy, shards=spec.sharding.shards, shard=shard, total=total)
        lacking = count(len(items), block_size=spec.block_size) - found[shard]
        if lacking:
            missing[shard] = lacking
    return missing


def finalize(*, context: Context, spec: TrainingRunSpec, kato: KatoSpec, backend: Backend) -> RunResult:
    """Return the run's result; the summary and the picture go to the output folder. Safe to repeat."""
    document = context.document
    prepared, worked = document.prepared, document.worked
    assert prepared is not None
    _check_complete(missing_blocks(backend.ledger(), spec, prepared.items_total), spec=spec)
    done = LedgerSum.of(backend.ledger())
    _check_items(done, spec=spec)
    warnings = backend.finish(restarted=_restarted(done, worked))

    digest = hashlib.sha256()
    levels = []
    for node in kato.nodes:
        level = LevelSum(node=node.name)
        for line, frequency in _with_frequency(node.name, backend):
            digest.update(line.encode())
            level.patterns += 1
            level.frequency_sum += frequency
            level.histogram[frequency] += 1
        levels.append(level)

    before = _earlier(context) if worked is None else {}
    statistics = _statistics(done, levels=levels, worked=worked, before=before)
    summary: dict[str, Any] = {
        "run": document.name,
        "uid": document.uid,
        "digest": f"sha256:{digest.hexdigest()}",
        "guarantee": backend.guarantee,
        **statistics,
        "num_workers": worked.workers if worked else before.get("num_workers"),
        "uncertain": done.uncertain,
        "failed_shards": worked.failed_shards if worked else before.get("failed_shards", ""),
        "failures": [{"item": item, "reason": reason} for item, reason in done.failures[:MAX_LISTED_FAILURES]],
        "frequency_histogram": {level.node: dict(sorted(level.histogram.items())) for level in levels},
        "settings": backend.settings,
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        "input_fingerprint": prepared.input_fingerprint,
    }
    picture = _picture(levels, title=document.name)
    if picture is None:
        warnings.append("no picture: matplotlib is missing (pip install 'shardwise[report]')")
    else:
        context.output.write_bytes(PICTURE_FILE, picture)
    uri = context.output.write_text(SUMMARY_FILE, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    short: dict[str, Any] = {
        key: summary[key] for key in ("guarantee", "num_workers", "settings", "uncertain") if key in summary
    }
    if picture is not None:
        short["picture"] = context.output.uri_of(PICTURE_FILE)
    return RunResult(
        digest=summary["digest"],
        uri=uri,
        items=done.items,
        failures=[ItemFailure(item=item, reason=reason[:160]) for item, reason in done.failures[:5]],
        # Of a tall hierarchy the summary file alone has all.
        metrics=[Metric(name=name, value=value) for name, value in statistics.items() if value is not None][
            :MAX_METRICS
        ],
        summary=short,
        warnings=warnings,
    )


def _restarted(done: LedgerSum, worked: WorkResult | None) -> bool:
    # Of a killed worker only what it had committed is known: its successor didn't learn that.
    return bool(done.uncertain) or (worked is not None and worked.done < done.items.done)


def _with_frequency(node: str, backend: Backend) -> Iterator[tuple[str, int]]:
    for name, frequency in backend.frequencies(node):
        (line,) = digest_lines(node, [(name, frequency)])
        yield line, frequency


def _earlier(context: Context) -> dict[str, Any]:
    """Return the summary that an earlier finalize of the same run wrote: the work's times are in no other place."""
    text = context.output.read_text(SUMMARY_FILE)
    summary: dict[str, Any] = json.loads(text) if text else {}
    return summary if summary.get("uid") == context.document.uid else {}


def _statistics(
    done: LedgerSum, *, levels: list[LevelSum], worked: WorkResult | None, before: dict[str, Any]
) -> dict[str, float | None]:
    if worked is None:
        seconds, rate = before.get("total_time_seconds"), before.get("rate_samples_per_sec")
    else:
        seconds = round(worked.seconds, 3)
        rate = round(worked.done / worked.seconds, 2) if worked.seconds else None
    statistics: dict[str, float | None] = {
        "samples_processed": done.items.done,
        "samples_attempted": done.items.done + done.items.failed,
        "errors": done.items.failed,
        "skipped": done.items.skipped,
        "total_time_seconds": seconds,
        "rate_samples_per_sec": rate,
    }
    for number, level in enumerate(levels):
        # Learns are this run's, patterns are the knowledge base's: other runs may have learned into it before.
        statistics[f"{level.node}_learns"] = done.learns[number]
        statistics[f"{level.node}_patterns"] = level.patterns
        statistics[f"{level.node}_frequency_sum"] = level.frequency_sum
    return statistics


def _check_complete(missing: dict[int, int] | None, *, spec: TrainingRunSpec) -> None:
    if missing and len(missing) > spec.retry.max_failed_shards:
        raise WorkError(
            f"the ledger lacks {sum(missing.values())} blocks of shards {indexes.to_text(missing)}; nothing is lost, "
            "the shards have to run again"
        )


def _check_items(done: LedgerSum, *, spec: TrainingRunSpec) -> None:
    items = done.items
    total = items.all
    if not items.done:
        # Prepare sees this where it can count; a streamed dataset shows it only now.
        raise BadInput(
            f"spec.engine.kato.dataset: no sample was learned ({items.failed} failed, {items.skipped} too short)"
        )
    if items.failed > spec.items.max_failed_fraction * total:
        listed = "; ".join(reason for _, reason in done.failures[:3])
        raise TooManyFailedItems(
            f"{items.failed} of {total} items failed, spec.items.maxFailedFraction allows "
            f"{spec.items.max_failed_fraction:g}: {listed}"
        )


def _picture(levels: list[LevelSum], *, title: str) -> bytes | None:
    try:
        from .picture import draw
    except ImportError:
        print("no matplotlib, no picture", file=sys.stderr)
        return None
    return draw(levels, title=title)
