"""The ingest benchmark's figures: a ratio read the wrong way round looks like any other, and so does an empty check."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import ingest_figures as figures
from benchmarks import ingest_rows, ingest_vectors
from benchmarks.ingest_case import chunks, entries

from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder
from tests.support import tiny_model
from tests.support.rows import row


def _measured(**values: float) -> dict[str, Any]:
    return {**values, "rounds": [values]}


KEPT = {
    figures.ONE_WORKER: _measured(seconds=9.1),
    figures.TEN_SLOTS: _measured(seconds=1.0),
    figures.FOUR_SLOTS: _measured(seconds=2.9),
    figures.MANY: _measured(seconds=18.6),
    figures.PHASES: _measured(seconds=2.0),
    figures.OVERLAPPED: _measured(seconds=1.9),
    figures.ROWS_LISTS: _measured(seconds=10.0),
    figures.ROWS_LITERALS: _measured(seconds=4.0),
    figures.ROWS_BLOCKS: _measured(seconds=0.9),
    figures.TEXTS_ONE: _measured(seconds=2.0, cpu_seconds=2.0),
    figures.TEXTS_AT_ONCE: _measured(seconds=1.9, cpu_seconds=2.1),
    figures.TEXTS_PADDED: _measured(seconds=3.0, cpu_seconds=3.0),
    figures.OTHER_BITS: {figures.TEXTS_AT_ONCE: 0},
    figures.OTHER_CUTS: {"count": 0},
}
MISSED = {
    figures.TEN_SLOTS: _measured(seconds=1.02),
    figures.FOUR_SLOTS: _measured(seconds=2.93),
    figures.MANY: _measured(seconds=18.7),
    figures.OVERLAPPED: _measured(seconds=2.1),
    figures.ROWS_BLOCKS: _measured(seconds=1.1),
    figures.OTHER_BITS: {figures.TEXTS_AT_ONCE: 1},
    figures.OTHER_CUTS: {"count": 1},
}


def test_what_four_slots_need_is_three_rounds_for_ten_chunks() -> None:
    assert figures.llm_seconds(chunks=10, slots=4, latency=0.887) == pytest.approx(2.661)
    assert figures.llm_seconds(chunks=10, slots=10, latency=2) == 2
    assert figures.llm_seconds(chunks=11, slots=10, latency=2) == 4


def test_all_promises_are_kept_by_figures_just_good_enough() -> None:
    assert [promise.line() for promise in figures.promises(KEPT) if not promise.reached] == []
    assert figures.ratios(KEPT)["rows one by one as literals, by ours"] == pytest.approx(4.44)


@pytest.mark.parametrize("name", MISSED)
def test_a_figure_just_too_bad_breaks_one_promise(name: str) -> None:
    broken = [promise for promise in figures.promises(KEPT | {name: MISSED[name]}) if not promise.reached]
    assert len(broken) == 1


def test_times_of_texts_that_got_worse_break_the_promise_of_their_kind() -> None:
    slow = {**KEPT, figures.TEXTS_AT_ONCE: _measured(seconds=2.1, cpu_seconds=2.0)}
    costly = {**KEPT, figures.TEXTS_AT_ONCE: _measured(seconds=1.0, cpu_seconds=2.3)}
    assert ["CPU" in promise.name for promise in figures.promises(slow) if not promise.reached] == [False]
    assert ["CPU" in promise.name for promise in figures.promises(costly) if not promise.reached] == [True]


def test_what_was_not_measured_was_not_reached() -> None:
    assert not any(promise.reached for promise in figures.promises({}))
    assert set(figures.ratios({}).values()) == {None}


def test_chunks_beyond_the_corpus_are_other_chunks(tmp_path: Path) -> None:
    ids = {entry.cpe_id for entry in entries(chunks(1_001), folder=tmp_path)}
    texts = {chunk["text"] for chunk in chunks(1_001)}
    assert len(ids) == len(texts) == 1_001


def test_a_vector_that_differs_in_one_bit_is_seen() -> None:
    right = np.ones((3, 4), dtype=np.float32)
    found = right.copy()
    found[1, 2] = np.nextafter(np.float32(1), np.float32(2))
    assert ingest_vectors.other_bits(found, right) == 1
    assert ingest_vectors.other_bits(np.float32(-0.0) * right, np.float32(0.0) * right) == 3


def test_every_way_of_embedding_gives_a_vector_per_text(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(tiny_model.make(tmp_path / "model"), threads=2)
    texts = [f"text {number}" for number in range(70)]
    right = embedder.embed(texts)
    for way in ingest_vectors.WAYS:
        _, vectors = ingest_vectors.measured(way, embedder=embedder, texts=texts)
        assert vectors.shape == right.shape
        assert np.allclose(vectors, right, atol=1e-5)
    embedder.close()


def test_all_ways_of_writing_rows_are_asked_alike_and_what_must_be_there_follows_from_the_rows() -> None:
    asked = {tuple(inspect.signature(way).parameters) for way in ingest_rows.WAYS.values()}
    assert asked == {("made", "uri", "store")}
    right = ingest_rows.stored([row(1), row(2)])
    assert right.rows == 2
    assert ingest_rows.stored([row(2), row(1)]) == right
    assert ingest_rows.stored([row(1), row(3)]) != right
    assert ingest_rows.stored([row(1), row(2, codes=row(3).codes)]) != right
