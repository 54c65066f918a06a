"""Small patterns to learn, and all that a node holds as one value to compare."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from shardwise_jobs.engines.kato.names import pattern_hash
from shardwise_jobs.engines.kato.stores import BlockRecord, PatternCount, PatternStore


def new_run() -> str:
    """Return a run id, as the API server gives them."""
    return str(uuid.uuid4())


def chunk(
    text: str,
    *,
    count: int = 1,
    emotives: Sequence[Mapping[str, float]] = (),
    metadata: Mapping[str, Sequence[str]] | None = None,
) -> PatternCount:
    """Return the pattern of a text's words, one event per word."""
    return of_symbols(text.split(), count=count, emotives=emotives, metadata=metadata)


def of_symbols(
    symbols: Sequence[str],
    *,
    count: int = 1,
    emotives: Sequence[Mapping[str, float]] = (),
    metadata: Mapping[str, Sequence[str]] | None = None,
) -> PatternCount:
    """Return the pattern of these symbols, one event each."""
    events = [[symbol] for symbol in symbols]
    return PatternCount(
        name=pattern_hash(events), events=events, count=count, emotives=emotives, metadata=dict(metadata or {})
    )


def record(*, run: str, shard: int = 0, block: int = 0, done: int = 1, learns: tuple[int, ...] = ()) -> BlockRecord:
    """Return a ledger row."""
    return BlockRecord(run=run, shard=shard, block=block, done=done, failed=0, skipped=0, learns=learns)


def contents(store: PatternStore, node_id: str) -> dict[str, Any]:
    """Return all that a node holds, order included."""
    return {
        "patterns": [
            (p.name, p.events, p.length, p.frequency, list(p.emotives), {k: list(v) for k, v in p.metadata.items()})
            for p in store.patterns(node_id=node_id)
        ],
        "symbols": list(store.symbols(node_id=node_id)),
        "totals": store.totals(node_id=node_id),
    }
