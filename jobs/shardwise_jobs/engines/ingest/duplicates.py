"""Chunks that count as done because another one writes their row, when that one has failed.

No worker can know it: whoever writes the row may be in another shard, and come later. So the end of a run looks, and
only when there are such chunks and somebody's row may be missing: it takes another pass over the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shardwise_api.runs import IngestRunSpec
from shardwise_api.wire import PrepareResult

from .ledger import LedgerSum, blocks_of, items_of_block
from .source import MAX_LISTED, ChunkFiles, Duplicate
from .stores import RowStore

_MAX_REASON = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """What became of the chunks that write no row."""

    worked: int
    """Those in committed blocks."""
    lost: int = 0
    """Those of them that are no rows."""
    failures: tuple[tuple[int, str], ...] = ()
    """The first few of these: (item, reason)."""


def duplicates_of(
    source: ChunkFiles,
    *,
    spec: IngestRunSpec,
    store: RowStore,
    run: str,
    prepared: PrepareResult,
    missing: Mapping[int, int],
    done: LedgerSum,
) -> Duplicates:
    """Look up the rows of a run's duplicates. `missing` is how many blocks of which shard were never committed.

    Raises:
        InputChanged: the input is not the one that was worked; it may also be gone, see `ChunkFiles.entries`.
    """
    total = prepared.items_total
    assert total is not None
    found = int(prepared.details.get("duplicates", 0))
    # What can't be ingested at all writes no row that another chunk would be.
    all_written = not missing and done.failed == int(prepared.details.get("failed", 0))
    if not found or all_written:
        return Duplicates(worked=found)
    unworked = _unworked(spec, store=store, run=run, missing=missing, total=total)
    worked = [each for each in source.duplicates(fingerprint=prepared.input_fingerprint) if each.item not in unworked]
    rows = store.known(cpe_ids=list({each.cpe_id for each in worked}))
    lost = [each for each in worked if each.cpe_id not in rows]
    reasons = dict(done.failures)
    return Duplicates(
        worked=len(worked),
        lost=len(lost),
        failures=tuple((each.item, _reason(each, reasons)) for each in lost[:MAX_LISTED]),
    )


def _unworked(
    spec: IngestRunSpec, *, store: RowStore, run: str, missing: Mapping[int, int], total: int
) -> frozenset[int]:
    return frozenset(
        item
        for shard in missing
        for block in set(range(blocks_of(spec, shard=shard, total=total)))
        - store.committed_blocks(run=run, shard=shard)
        for item in items_of_block(spec, shard=shard, block=block, total=total)
    )


def _reason(lost: Duplicate, reasons: Mapping[int, str]) -> str:
    # Of a block with many failures the ledger has the first few.
    why = f": {reasons[lost.writer]}" if lost.writer in reasons else ", which is no row"
    return f"the same chunk as item {lost.writer}{why}"[:_MAX_REASON]
