"""The rows of `shardwise get`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from . import text
from .names import SHORT
from .view import RunView

_HEADINGS = ("KIND", "NAME", "PHASE", "PROGRESS", "SHARDS", "RATE", "ETA", "AGE")
_WIDE = ("ENGINE", "ITEMS", "FAILED", "STRATEGY", "DIGEST")


def table(runs: Sequence[RunView], *, now: datetime, namespaces: bool = False, wide: bool = False) -> list[str]:
    """Return a table's lines, headings first."""
    rows: list[Sequence[str]] = [
        (*(("NAMESPACE",) if namespaces else ()), *_HEADINGS, *(_WIDE if wide else ())),
    ]
    for run in runs:
        rows.append(
            (
                *((run.namespace,) if namespaces else ()),
                SHORT.get(run.kind, run.kind),
                run.name,
                run.phase,
                text.percent(run.percent),
                f"{run.shards_done}/{run.shards}",
                text.rate(run.rate),
                text.duration(run.remaining),
                text.age(run.created, now=now),
                *(_wide(run) if wide else ()),
            )
        )
    return text.columns(rows)


def _wide(run: RunView) -> tuple[str, ...]:
    spec = run.document.get("spec") or {}
    engine = "ingest" if run.kind == "IngestRun" else next(iter(spec.get("engine") or {}), text.NOTHING)
    strategy = (spec.get("sharding") or {}).get("strategy") or text.NOTHING
    items = f"{text.count(run.ended_items)}/{text.count(run.total)}"
    return engine, items, text.count(run.failed), strategy, str((run.result or {}).get("digest") or text.NOTHING)
