"""What all stores compute alike: symbol counts and totals of a batch, and records to and from rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic_core import PydanticSerializationError, to_json

from .base import BlockRecord, Events, KnowledgeBaseConfig, PatternCount, StoreError, Totals

SymbolCounts = dict[str, tuple[int, int]]


def symbol_counts(batch: Sequence[PatternCount]) -> SymbolCounts:
    """Return symbol -> (occurrences, learns whose pattern holds it), as learning the batch one by one would count."""
    # Hot: most patterns are learned once and hold each symbol once, and those are counted in one go.
    once: list[str] = []
    occurrences: Counter[str] = Counter()
    repeats: dict[str, int] = {}
    for pattern in batch:
        flat = [symbol for event in pattern.events for symbol in event]
        if pattern.count == 1:
            once += flat
        else:
            for symbol in flat:
                occurrences[symbol] += pattern.count
        if len(set(flat)) < len(flat):
            for symbol, times in Counter(flat).items():
                if times > 1:
                    repeats[symbol] = repeats.get(symbol, 0) + (times - 1) * pattern.count
    occurrences.update(once)
    return {symbol: (times, times - repeats.get(symbol, 0)) for symbol, times in occurrences.items()}


def totals_of(*, batch: Sequence[PatternCount], symbols: Mapping[str, tuple[int, int]]) -> Totals:
    """Return what a batch adds to the node's totals."""
    return Totals(
        total_pattern_frequencies=sum(pattern.count for pattern in batch),
        total_symbol_frequencies=sum(occurrences for occurrences, _ in symbols.values()),
        total_symbols_in_patterns_frequencies=sum(learns for _, learns in symbols.values()),
    )


def config_to_json(config: KnowledgeBaseConfig) -> str:
    """Return a knowledge base's configuration as JSON text."""
    return json.dumps(asdict(config), ensure_ascii=False, sort_keys=True)


def config_from_json(text: str) -> KnowledgeBaseConfig:
    """Read what `config_to_json` wrote."""
    fields = json.loads(text)
    return KnowledgeBaseConfig(
        nodes=tuple(fields["nodes"]),
        chunk_sizes=tuple(fields["chunk_sizes"]),
        tokenizer=fields["tokenizer"],
        segmentation=fields["segmentation"],
    )


def check_same_config(*, name: str, found: KnowledgeBaseConfig | None, wanted: KnowledgeBaseConfig) -> None:
    """Refuse to learn into a knowledge base with another configuration than it was begun with."""
    if found != wanted:
        raise StoreError(f"knowledge base {name!r} was learned with {found}, not with {wanted}")


def record_to_row(record: BlockRecord) -> tuple[object, ...]:
    """Return a ledger row: run, shard, block, done, failed, skipped, uncertain, learns, failures (two JSON texts)."""
    return (
        record.run,
        record.shard,
        record.block,
        record.done,
        record.failed,
        record.skipped,
        record.uncertain,
        json.dumps(record.learns),
        json.dumps(record.failures, ensure_ascii=False),
    )


def record_from_row(row: Sequence[object]) -> BlockRecord:
    """Read what `record_to_row` wrote."""
    run, shard, block, done, failed, skipped, uncertain, learns, failures = row
    return BlockRecord(
        run=str(run),
        shard=int(str(shard)),
        block=int(str(block)),
        done=int(str(done)),
        failed=int(str(failed)),
        skipped=int(str(skipped)),
        uncertain=int(str(uncertain)),
        learns=tuple(json.loads(str(learns))),
        failures=tuple((int(item), str(reason)) for item, reason in json.loads(str(failures))),
    )


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
    """Rows of one node, without the node's number.

    They are made before the transaction that writes them: only writing needs the file's one lock.
    """

    patterns: list[tuple[bytes, str, int, int]]
    """Raw name, events as JSON, symbols, learns."""
    symbols: list[tuple[str, int, int]]
    """Name, occurrences, learns whose pattern held it; in order of name, which the index likes."""
    totals: tuple[int, int, int]
    extras: list[PatternCount]
    """Patterns that came with emotives or metadata."""


def batch_rows(batch: Sequence[PatternCount]) -> BatchRows:
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
