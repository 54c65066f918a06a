"""From texts to answers: rows of any number of shards make one index, and questions find what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shardwise.engine.errors import BadConfiguration, WorkError
from shardwise.engine.files import OutputFolder
from shardwise_api.ingest import IndexKind
from shardwise_jobs.engines.ingest.codes import DENSE_WIDTH, Codes
from shardwise_jobs.engines.ingest.embed import Embedder, onnx_model
from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder
from shardwise_jobs.engines.ingest.index import INDEX_FILE, VectorIndex, search
from shardwise_jobs.engines.ingest.stores import Row, RowStore, VectorModel, open_store
from tests.support import minilm
from tests.support.require import missing
from tests.support.rows import DATASET, digests, new_run, record, row

TEXTS = [
    "DNA replication copies genetic information.",
    "The stock market fell sharply on Monday.",
    "Photosynthesis turns sunlight into chemical energy.",
    "A binary search halves the interval in every step.",
    "The French Revolution began in 1789.",
    "Water boils at lower temperatures on high mountains.",
    "The defendant was acquitted by the jury.",
    "Impressionist painters worked in the open air.",
    "Vaccines train the immune system.",
    "The derivative of a constant is zero.",
]


@pytest.fixture(scope="module")
def embedder() -> Iterator[Embedder]:
    try:
        opened = OnnxEmbedder(minilm.model_folder(), threads=2)
    except WorkError as error:
        missing(f"the embedding model ({error})", onnx_model.HOW_TO_GET)
    yield opened
    opened.close()


def _rows(embedder: Embedder) -> list[Row]:
    return [
        row(number, source_chunk=text, concept_vec=vector, embed_model=embedder.name)
        for number, (text, vector) in enumerate(zip(TEXTS, embedder.embed(TEXTS), strict=True))
    ]


def _filled(uri: str, embedder: Embedder, *, shards: int) -> RowStore:
    store = open_store(uri)
    store.prepare(model=VectorModel(name=embedder.name, dimension=embedder.dimension))
    run, made = new_run(), _rows(embedder)
    # The last shard first, and two rows a block: no order of writing is the order of ids.
    for shard in reversed(range(shards)):
        mine = made[shard::shards]
        for block in range(0, len(mine), 2):
            part = mine[block : block + 2]
            store.commit_block(rows=part, record=record(run=run, shard=shard, block=block, chunks=len(part)))
    return store


def _index(store: RowStore, embedder: Embedder, *, kind: IndexKind = IndexKind.FLAT) -> VectorIndex:
    return VectorIndex.build(
        store.vectors(dataset=DATASET),
        count=store.counts(dataset=DATASET).vectors,
        dimension=embedder.dimension + DENSE_WIDTH,
        kind=kind,
        model=embedder.name,
        dataset=DATASET,
    )


@pytest.mark.parametrize("kind", list(IndexKind))
def test_any_number_of_shards_in_any_store_makes_the_same_index(
    postgres: object, embedder: Embedder, kind: IndexKind, tmp_path: Path
) -> None:
    seen = set()
    for shards in (1, 2, 4):
        for uri in (f"sqlite:///{tmp_path / f'{shards}.db'}", postgres.new_database()):  # type: ignore[attr-defined]
            store = _filled(uri, embedder, shards=shards)
            folder = tmp_path / f"{shards}-{uri[:4]}"
            _index(store, embedder, kind=kind).write(OutputFolder(folder.as_uri()))
            seen.add((*digests(store), (folder / INDEX_FILE).read_bytes()))
            store.close()
    assert len(seen) == 1


def test_a_question_finds_what_it_means(uri: str, embedder: Embedder, tmp_path: Path) -> None:
    store = _filled(uri, embedder, shards=2)
    _index(store, embedder).write(OutputFolder(tmp_path.as_uri()))
    index = VectorIndex.read(tmp_path.as_uri())
    for question, answer in (
        ("How is the genome duplicated?", 0),
        ("share prices", 1),
        ("algorithm for sorted arrays", 3),
        ("Why does cooking take longer at altitude?", 5),
        ("calculus", 9),
    ):
        found = search(question, index=index, store=store, embedder=embedder, k=3)
        assert found[0].row.source_chunk == TEXTS[answer]
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        vector = embedder.embed([question])[0]
        assert found[0].score == pytest.approx(float(vector @ found[0].row.concept_vec), abs=1e-5)
    store.close()


def test_a_question_with_codes_is_led_to_rows_of_these_codes(uri: str, embedder: Embedder) -> None:
    store = _filled(uri, embedder, shards=1)
    codes = Codes(7, 7, 7)
    found = search("anything", index=_index(store, embedder), store=store, embedder=embedder, k=1, codes=codes)
    assert found[0].row.codes == codes
    store.close()


def test_an_index_of_another_model_is_refused_with_both_names(embedder: Embedder, tmp_path: Path) -> None:
    store = _filled(f"sqlite:///{tmp_path / 'rows.db'}", embedder, shards=1)
    index = VectorIndex.build(
        store.vectors(), count=len(TEXTS), dimension=400, kind=IndexKind.FLAT, model="test:other", dataset=DATASET
    )
    with pytest.raises(BadConfiguration, match=f"of test:other, the text would be embedded by {embedder.name}"):
        search("anything", index=index, store=store, embedder=embedder)
    store.close()


def test_an_index_of_other_rows_than_the_store_s_is_refused(embedder: Embedder, tmp_path: Path) -> None:
    store = _filled(f"sqlite:///{tmp_path / 'rows.db'}", embedder, shards=1)
    index = _index(store, embedder)
    empty = open_store(f"sqlite:///{tmp_path / 'empty.db'}")
    empty.prepare(model=VectorModel(name=embedder.name, dimension=embedder.dimension))
    with pytest.raises(BadConfiguration, match="3 of 3 hits are no rows of this store"):
        search("anything", index=index, store=empty, embedder=embedder, k=3)
    empty.close()
    store.close()


def test_vectors_of_the_model_are_exact_in_both_stores(uri: str, embedder: Embedder) -> None:
    store = _filled(uri, embedder, shards=1)
    wanted = {one.cpe_id: one.concept_vec for one in _rows(embedder)}
    for found in store.rows():
        assert np.array_equal(found.concept_vec, wanted[found.cpe_id])
    store.close()
