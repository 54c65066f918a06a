"""What the ingest benchmark's measurements come to, and the LLM's own limit that they are held against."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .figures import Json, Promise, ratio
from .ingest_case import LATENCY_SECONDS

ONE_WORKER, TEN_SLOTS, FOUR_SLOTS, MANY = (
    "10 chunks one by one",
    "10 chunks, 10 workers, 10 slots",
    "10 chunks, 10 workers, 4 slots",
    "200 chunks, 10 workers, 10 slots",
)
PHASES, OVERLAPPED = "96 chunks phase by phase", "96 chunks overlapped"
ROWS_LISTS, ROWS_LITERALS, ROWS_BLOCKS = "rows one by one, lists", "rows one by one, literals", "rows in blocks"
TEXTS_ONE, TEXTS_AT_ONCE, TEXTS_PADDED = "texts one by one", "texts at once", "texts in padded batches"
OTHER_BITS, OTHER_CUTS = "vectors with other bits", "runs with another result"


def llm_seconds(*, chunks: int, slots: int, latency: float = LATENCY_SECONDS) -> float:
    """Return the least time in which an LLM with so many slots answers: it is full in every round but the last."""
    return math.ceil(chunks / slots) * latency


def promises(found: Mapping[str, Json]) -> list[Promise]:
    """Return what was promised, as found; a measurement that is missing is a promise not kept."""
    get = found.get
    alone = get(OTHER_BITS, {}).get(TEXTS_AT_ONCE)
    return [
        Promise(name="10 chunks, 10 slots: one by one, by ours",
                value=ratio(get(ONE_WORKER), get(TEN_SLOTS), "seconds"), at_least=9),
        Promise(name="10 chunks, 4 slots: time, by what the slots need",
                value=_against(get(FOUR_SLOTS), chunks=10, slots=4), at_most=1.1),
        Promise(name="200 chunks, 10 slots: chunks per second, by slots / latency",
                value=_share(get(MANY), chunks=200, slots=10), at_least=0.95),
        Promise(name="rows into PostgreSQL: time row by row, the original's way, by ours",
                value=ratio(get(ROWS_LISTS), get(ROWS_BLOCKS), "seconds"), at_least=10),
        Promise(name="vectors: time one by one, by several at once",
                value=ratio(get(TEXTS_ONE), get(TEXTS_AT_ONCE), "seconds"), at_least=1),
        Promise(name="vectors: CPU time several at once, by one by one",
                value=ratio(get(TEXTS_AT_ONCE), get(TEXTS_ONE), "cpu_seconds"), at_most=1.1),
        Promise(name="vectors that have other bits alone than among others", value=alone, at_most=0),
        Promise(name="pipeline: time phase by phase, by overlapped",
                value=ratio(get(PHASES), get(OVERLAPPED), "seconds"), at_least=1),
        Promise(name="runs cut otherwise: with another digest, index, neighbour or distance",
                value=get(OTHER_CUTS, {}).get("count"), at_most=0),
    ]  # fmt: skip


def ratios(found: Mapping[str, Json]) -> Json:
    """Return what is worth knowing and was promised to nobody."""
    get = found.get
    shown = {
        "rows one by one as literals, by ours": ratio(get(ROWS_LITERALS), get(ROWS_BLOCKS), "seconds"),
        "vectors in padded batches, time, by several at once": ratio(get(TEXTS_PADDED), get(TEXTS_AT_ONCE), "seconds"),
        "vectors in padded batches, CPU time, by several at once": ratio(
            get(TEXTS_PADDED), get(TEXTS_AT_ONCE), "cpu_seconds"
        ),
    }
    return {name: None if value is None else round(value, 2) for name, value in shown.items()}


def _against(measured: Json | None, *, chunks: int, slots: int) -> float | None:
    return None if measured is None else float(measured["seconds"] / llm_seconds(chunks=chunks, slots=slots))


def _share(measured: Json | None, *, chunks: int, slots: int) -> float | None:
    return None if measured is None else float(chunks / measured["seconds"] / (slots / LATENCY_SECONDS))
