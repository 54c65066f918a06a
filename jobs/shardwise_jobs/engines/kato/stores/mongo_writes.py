"""How a batch becomes MongoDB writes that count once, without transactions: the guard sits in the document itself.

A document remembers in `applied.<run>.<shard>` the last position that was added to it. Adding and remembering are one
atomic update, so a worker killed between any two writes can hand in its block again: what was added is found so. The
markers of one run hang on one field, hence go in one `$unset` when the run is over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from .base import Guard, PatternCount, StoreError, Totals

Document = dict[str, Any]
T = TypeVar("T")

APPLIED = "applied"
DUPLICATE_KEY = 11000
_RUN_ID = re.compile(r"[A-Za-z0-9_-]+")
# A dot would nest and a dollar would be an operator; MongoDB's manual names these two as their stand-ins.
_ESCAPED = str.maketrans({".": "\uff0e", "$": "\uff04"})
_UNESCAPED = str.maketrans({"\uff0e": ".", "\uff04": "$"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one document gains; it is inserted when missing."""

    key: Document
    update: Document
    pushes_emotives: bool = False


def checked_run(run: str) -> str:
    """Return a run id that can be part of a field's path and of a ledger row's id."""
    if not _RUN_ID.fullmatch(run):
        raise StoreError(f"run id {run!r}: only letters, digits, '-' and '_' can guard writes")
    return run


def run_marker(run: str) -> str:
    """Return the field that holds all markers of a run."""
    return f"{APPLIED}.{checked_run(run)}"


def shard_marker(guard: Guard) -> str:
    """Return the field that holds the last position of one shard."""
    return f"{run_marker(guard.run)}.{guard.shard}"


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def metadata_field(key: str) -> str:
    """Return a metadata key as a field name that is not read as a path."""
    if not key or "\0" in key:
        raise StoreError(f"metadata key {key!r}: a field of MongoDB can't have this name")
    return key.translate(_ESCAPED)


def metadata_key(field: str) -> str:
    """Return the metadata key that `metadata_field` was given."""
    return field.translate(_UNESCAPED)


def pattern_changes(batch: Sequence[PatternCount], *, persistence: int) -> list[Change]:
    """Return the changes of patterns_kb, each name once."""
    changes = [_pattern_change(pattern, persistence=persistence) for pattern in batch]
    if len({pattern.name for pattern in batch}) != len(batch):
        # The guard would take the second for a repeat of the first and drop it.
        raise ValueError("a name occurs twice in one batch of patterns")
    return changes


def _pattern_change(pattern: PatternCount, *, persistence: int) -> Change:
    on_insert: Document = {
        "pattern_data": pattern.events,
        "length": sum(map(len, pattern.events)),
        "emotives": {},
        "metadata": {},
    }
    update: Document = {"$inc": {"frequency": pattern.count}, "$setOnInsert": on_insert}
    if pattern.emotives:
        del on_insert["emotives"]
        update["$push"] = {"emotives": {"$each": [dict(e) for e in pattern.emotives], "$slice": -persistence}}
    if pattern.metadata:
        del on_insert["metadata"]
        update["$addToSet"] = {
            f"metadata.{metadata_field(key)}": {"$each": list(values)} for key, values in pattern.metadata.items()
        }
    return Change(key={"name": pattern.name}, update=update, pushes_emotives=bool(pattern.emotives))


def symbol_changes(counts: Mapping[str, tuple[int, int]]) -> list[Change]:
    """Return the changes of symbols_kb."""
    for symbol in counts:
        try:
            symbol.encode()
        except UnicodeEncodeError as error:
            raise StoreError(f"symbol {symbol!r} is not Unicode text: {error.reason}") from error
    return [
        Change(key={"name": symbol}, update={"$inc": {"frequency": occurrences, "pattern_member_frequency": learns}})
        for symbol, (occurrences, learns) in counts.items()
    ]


def totals_change(totals: Totals) -> Change:
    """Return the change of the totals document, the last that a batch writes to its node."""
    return Change(
        key={"class": "totals"},
        update={
            "$inc": {
                "total_pattern_frequencies": totals.total_pattern_frequencies,
                "total_symbol_frequencies": totals.total_symbol_frequencies,
                "total_symbols_in_patterns_frequencies": totals.total_symbols_in_patterns_frequencies,
            }
        },
    )


def apply_changes(
    collection: Collection[Document], changes: Sequence[Change], *, guard: Guard | None, bulk_size: int
) -> int:
    """Write all changes that the guard lets through; return how many those were."""
    return sum(_apply_chunk(collection, chunk, guard=guard) for chunk in chunks(changes, bulk_size))


def _apply_chunk(collection: Collection[Document], changes: Sequence[Change], *, guard: Guard | None) -> int:
    applied, refused = _send(collection, changes, guard=guard, first=True)
    if refused:
        # A duplicate key says that the document exists, not that it has the marker: another shard may have inserted
        # it in between. The same update without upsert tells the two apart, and applies what was only a lost race.
        more, _ = _send(collection, [changes[index] for index in refused], guard=guard, first=False)
        applied += more
    return applied


def _send(
    collection: Collection[Document], changes: Sequence[Change], *, guard: Guard | None, first: bool
) -> tuple[int, list[int]]:
    pushing = [change for change in changes if change.pushes_emotives]
    if pushing:
        collection.bulk_write([_emotives_as_list(change) for change in pushing], ordered=False)
    operations = [_guarded(change, guard=guard, upsert=first) for change in changes]
    try:
        result = collection.bulk_write(operations, ordered=False)
    except BulkWriteError as error:
        errors = error.details["writeErrors"]
        worth_another = first and all(e["code"] == DUPLICATE_KEY or changes[e["index"]].pushes_emotives for e in errors)
        if error.details.get("writeConcernErrors") or not worth_another:
            raise
        return error.details["nMatched"] + error.details["nUpserted"], [e["index"] for e in errors]
    return result.matched_count + result.upserted_count, []


def _guarded(change: Change, *, guard: Guard | None, upsert: bool) -> UpdateOne:
    if guard is None:
        return UpdateOne(change.key, change.update, upsert=upsert)
    marker = shard_marker(guard)
    return UpdateOne(
        {**change.key, marker: {"$not": {"$gte": guard.position}}},
        {**change.update, "$max": {marker: guard.position}},
        upsert=upsert,
    )


def _emotives_as_list(change: Change) -> UpdateOne:
    # KATO inserts {} where it later expects a list, and nothing can be pushed on {}. The second condition leaves a
    # list alone that holds an empty object, which the first would match too.
    return UpdateOne({**change.key, "emotives": {}, "emotives.0": {"$exists": False}}, {"$set": {"emotives": []}})
