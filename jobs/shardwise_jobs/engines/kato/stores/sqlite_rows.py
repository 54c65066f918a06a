"""A batch of learning as rows, made before the transaction that writes them: only writing needs the file's one lock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import PydanticSerializationError, to_json

from .base import Events, PatternCount
from .mapping import symbol_counts, totals_of

dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Compact JSON text; one encoder for all rows, because making one costs more than using it."""


def dump_events(events: Events) -> str:
    """Return the same text as `dump`, five times as fast."""
    try:
        return to_json(events).decode()
    except PydanticSerializationError:
        # Half a surrogate pair: SQLite refuses it, like in any other text.
        return dump(events)


@dataclass(frozen=True, slots=True)
class BatchRows:
    """Rows of one node, without the node's number."""

    patterns: list[tuple[bytes, str, int, int]]
    """Raw name, events as JSON, symbols, learns."""
    symbols: list[tuple[str, int, int]]
    """Name, occurrences, learns whose pattern held it; in order of name, which the index likes."""
    totals: tuple[int, int, int]
    extras: list[PatternCount]
    """Patterns that came with emotives or metadata."""


def rows_of(batch: Sequence[PatternCount]) -> BatchRows:
    """Return the rows that a batch adds to its node."""
    counts = symbol_counts(batch)
    totals = totals_of(batch=batch, symbols=counts)
    return BatchRows(
        patterns=[(bytes.fromhex(p.name), dump_events(p.events), sum(map(len, p.events)), p.count) for p in batch],
        symbols=[(name, *counts[name]) for name in sorted(counts)],
        totals=(
            totals.total_pattern_frequencies,
            totals.total_symbol_frequencies,
            totals.total_symbols_in_patterns_frequencies,
        ),
        extras=[pattern for pattern in batch if pattern.emotives or pattern.metadata],
    )
