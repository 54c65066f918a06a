"""Ledger rows to and from columns, the same for both stores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from shardwise_api.terminal import sanitize

from .base import BlockRecord
from .rows import dump

LEDGER_COLUMNS = ("run_uid", "shard", "batch_no", "state", "n_chunks", "n_failed", "n_inserted", "failures", "millis")
COMMITTED = "committed"


def record_to_row(record: BlockRecord, *, inserted: int) -> tuple[Any, ...]:
    """Return the values of LEDGER_COLUMNS; failures and millis are JSON texts."""
    return (
        record.run,
        record.shard,
        record.block,
        COMMITTED,
        record.chunks,
        record.failed,
        inserted,
        # Whoever made a reason: it must not cost the block that it is of.
        dump([(item, sanitize(reason)) for item, reason in record.failures]),
        dump(dict(record.millis)),
    )


def record_from_row(row: Sequence[Any]) -> BlockRecord:
    """Read what `record_to_row` made."""
    run, shard, block, _, chunks, failed, inserted, failures, millis = row
    return BlockRecord(
        run=run,
        shard=shard,
        block=block,
        chunks=chunks,
        failed=failed,
        inserted=inserted,
        failures=tuple((int(item), str(reason)) for item, reason in json.loads(failures)),
        millis=json.loads(millis),
    )
