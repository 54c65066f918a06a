"""The index finds what went in, says what it is, and is never taken for what it is not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from shardwise.engine.errors import BadConfiguration, BadInput
from shardwise.engine.files import OutputFolder
from shardwise_api.ingest import IndexKind
from shardwise_jobs.engines.ingest.codes import DENSE_WIDTH, Codes
from shardwise_jobs.engines.ingest.embed.base import Vectors, unit
from shardwise_jobs.engines.ingest.index import INDEX_FILE, MANIFEST_FILE, IndexFailed, VectorIndex, lists_for
from shardwise_jobs.engines.ingest.stores import Row, StoredVector
from tests.support.rows import MODEL, row, rows, stored

FUSED = MODEL.dimension + DENSE_WIDTH


def _ordered(made: Sequence[Row]) -> list[Row]:
    return sorted(made, key=lambda one: one.cpe_id.bytes)


def _build(
    made: Sequence[Row], *, kind: IndexKind = IndexKind.FLAT, count: int | None = None, tmd_weight: float = 1.0
) -> VectorIndex:
    return VectorIndex.build(
        stored(made),
        count=len(made) if count is None else count,
        dimension=FUSED,
        kind=kind,
        tmd_weight=tmd_weight,
        model=MODEL.name,
        dataset="tests",
    )


def _content(index: VectorIndex, folder: Path) -> bytes:
    index.write(OutputFolder(folder.as_uri()))
    return (folder / INDEX_FILE).read_bytes()


KINDS = pytest.mark.parametrize("kind", list(IndexKind))


@KINDS
def test_every_row_is_its_own_nearest(kind: IndexKind) -> None:
    made = _ordered(rows(range(300)))
    index = _build(made, kind=kind)
    for one in made:
        best = index.search(one.concept_vec, k=1, codes=one.codes)[0]
        assert best.faiss_id == one.faiss_id
        assert best.score == pytest.approx(1.0, abs=1e-6)


def test_scores_are_cosines_of_the_fused_vectors_best_first() -> None:
    made = rows(range(50))
    asked = row(1000)
    wanted = sorted(((float(unit(one.fused_vec) @ unit(asked.fused_vec)), one.faiss_id) for one in made), reverse=True)[
        :7
    ]
    hits = _build(_ordered(made)).search(asked.concept_vec, k=7, codes=asked.codes)
    assert [hit.faiss_id for hit in hits] == [faiss_id for _, faiss_id in wanted]
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in wanted], abs=1e-6)


@KINDS
def test_without_codes_the_text_alone_is_compared(kind: IndexKind) -> None:
    # The nearest by text has most of the codes' bits set, which makes its fused vector a long one.
    near = row(1, codes=Codes(15, 31, 63))
    others = [row(number, codes=Codes(0, 0, 0)) for number in range(2, 30)]
    index = _build(_ordered([near, *others]), kind=kind)
    hits = index.search(near.concept_vec, k=29)
    assert hits[0].faiss_id == near.faiss_id
    cosines = {one.faiss_id: float(one.concept_vec @ near.concept_vec) for one in (near, *others)}
    assert {hit.faiss_id: hit.score for hit in hits} == pytest.approx(cosines, abs=1e-5)


@KINDS
@pytest.mark.parametrize("weight", [0.25, 4.0])
def test_a_question_with_codes_is_weighed_as_the_index_is(kind: IndexKind, weight: float, tmp_path: Path) -> None:
    made = _ordered(rows(range(120)))
    _content(_build(made, kind=kind, tmd_weight=weight), tmp_path)
    index = VectorIndex.read(tmp_path.as_uri())
    assert index.manifest.tmd_weight == weight
    for one in made[:20]:
        best = index.search(one.concept_vec, k=1, codes=one.codes)[0]
        assert best.faiss_id == one.faiss_id
        assert best.score == pytest.approx(1.0, abs=1e-6)


def test_the_weight_says_whether_text_or_codes_lead_to_a_row() -> None:
    asked = row(1)
    by_text = row(2, concept_vec=asked.concept_vec, codes=Codes(0, 0, 0))
    by_codes = row(3, concept_vec=-asked.concept_vec, codes=Codes(15, 31, 63))
    for weight, nearest in ((0.0, by_text), (0.1, by_text), (10.0, by_codes)):
        index = _build(_ordered([by_text, by_codes]), tmd_weight=weight)
        assert index.search(asked.concept_vec, k=1, codes=Codes(15, 31, 63))[0].faiss_id == nearest.faiss_id
        assert index.search(asked.concept_vec, k=1)[0].faiss_id == by_text.faiss_id


def test_more_than_there_are_is_all_there_are() -> None:
    made = _ordered(rows(range(3)))
    index = _build(made)
    for codes in (None, Codes(0, 0, 0)):
        assert {hit.faiss_id for hit in index.search(made[0].concept_vec, k=10, codes=codes)} == {
            one.faiss_id for one in made
        }


@KINDS
def test_no_rows_make_an_empty_index(kind: IndexKind) -> None:
    index = _build([], kind=kind)
    assert index.manifest.ntotal == 0
    assert index.search(row(1).concept_vec, k=5) == []


@KINDS
def test_the_same_rows_make_the_same_bytes(kind: IndexKind, tmp_path: Path) -> None:
    made = _ordered(rows(range(400)))
    one, other = (_content(_build(made, kind=kind), tmp_path / name) for name in ("one", "other"))
    assert one == other


def test_inverted_lists_that_are_all_looked_into_find_what_the_exact_index_finds() -> None:
    made = _ordered(rows(range(400)))
    exact, lists = _build(made), _build(made, kind=IndexKind.IVF)
    assert lists.manifest.nlist == lists.manifest.nprobe == 10
    for asked in rows(range(1000, 1020)):
        found = [
            {hit.faiss_id for hit in index.search(asked.concept_vec, k=10, codes=asked.codes)}
            for index in (exact, lists)
        ]
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("count", "lists"),
    [
        (0, 1),
        (39, 1),
        (400, 10),
        (7_999, 199),
        (8_000, 200),
        (19_999, 200),
        (20_000, 500),
        (30_000, 512),
        (1 << 20, 1024),
    ],
)
def test_lists_are_few_enough_to_be_trained(count: int, lists: int) -> None:
    assert lists_for(count) == lists


def test_equal_vectors_of_two_rows_are_no_fault() -> None:
    twin = replace(row(2), concept_vec=row(1).concept_vec, codes=row(1).codes)
    index = _build(_ordered([row(1), twin]))
    hits = index.search(twin.concept_vec, k=2, codes=twin.codes)
    assert [hit.faiss_id for hit in hits] == sorted((row(1).faiss_id, twin.faiss_id))


@KINDS
@pytest.mark.parametrize("count", [0, 250, 5000])
def test_what_comes_is_in_the_index_whatever_was_counted_before(kind: IndexKind, count: int, tmp_path: Path) -> None:
    # Somebody else may be writing rows of the data set while the index is built.
    made = _ordered(rows(range(300)))
    index, other = _build(made, kind=kind, count=count), _build(made, kind=kind)
    assert index.manifest == other.manifest
    assert _content(index, tmp_path / "one") == _content(other, tmp_path / "other")


def test_two_vectors_with_one_id_are_refused() -> None:
    with pytest.raises(IndexFailed, match="2 vectors with 1 ids"):
        _build([row(1), row(1)])


def test_a_vector_of_another_width_is_refused_by_its_row() -> None:
    wide = replace(row(1), concept_vec=np.ones(9, dtype=np.float32))
    with pytest.raises(IndexFailed, match=f"{wide.cpe_id} has a vector of 25 numbers, not 24"):
        _build([wide])


@KINDS
def test_a_written_index_answers_as_before_and_its_manifest_says_what_it_is(kind: IndexKind, tmp_path: Path) -> None:
    made = _ordered(rows(range(120)))
    index = _build(made, kind=kind)
    content = _content(index, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [INDEX_FILE, MANIFEST_FILE]
    manifest = json.loads((tmp_path / MANIFEST_FILE).read_text())
    ids = b"".join(one.faiss_id.to_bytes(8, "big") for one in made)
    assert (manifest["sha256"], manifest["ids_sha256"]) == (
        hashlib.sha256(content).hexdigest(),
        hashlib.sha256(ids).hexdigest(),
    )
    assert (manifest["dim"], manifest["ntotal"], manifest["model"]) == (FUSED, 120, MODEL.name)
    again = VectorIndex.read(tmp_path.as_uri())
    assert again.manifest == index.manifest
    for codes in (None, Codes(1, 1, 1)):
        asked = row(1000).concept_vec
        assert again.search(asked, k=5, codes=codes) == index.search(asked, k=5, codes=codes)


def test_an_index_that_is_not_its_manifest_s_is_refused(tmp_path: Path) -> None:
    _content(_build(_ordered(rows(range(5)))), tmp_path)
    (tmp_path / INDEX_FILE).write_bytes((tmp_path / INDEX_FILE).read_bytes()[:-1])
    with pytest.raises(BadInput, match="sha256"):
        VectorIndex.read(tmp_path.as_uri())


def test_a_folder_without_an_index_is_bad_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=MANIFEST_FILE):
        VectorIndex.read(tmp_path.as_uri())


def test_something_else_in_place_of_a_manifest_is_refused(tmp_path: Path) -> None:
    _content(_build(_ordered(rows(range(5)))), tmp_path)
    (tmp_path / MANIFEST_FILE).write_text('{"kind": "Flat"}')
    with pytest.raises(BadInput, match="no manifest"):
        VectorIndex.read(tmp_path.as_uri())


def test_a_question_of_another_width_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="it has 8 numbers for a text, the embedding made 9"):
        _build([row(1)]).search(np.ones(9, dtype=np.float32), k=1)


def _random(count: int, *, dimension: int, seed: int) -> tuple[list[StoredVector], Vectors]:
    """Return vectors of texts with codes that have nothing to do with them, in order of ids, and the texts' part."""
    dice = np.random.default_rng(seed)
    texts = unit(dice.standard_normal((count, dimension)).astype(np.float32))
    bits = dice.integers(0, 2, (count, DENSE_WIDTH)).astype(np.float32)
    bits[:, -1] = 0
    return [_vector(number, fused) for number, fused in enumerate(np.hstack([texts, bits]))], texts


def _vector(number: int, fused: Vectors) -> StoredVector:
    return StoredVector(cpe_id=UUID(int=number), faiss_id=number, fused=fused)


def _index_of(vectors: Sequence[StoredVector], *, kind: IndexKind, tmd_weight: float = 1.0) -> VectorIndex:
    return VectorIndex.build(
        vectors,
        count=len(vectors),
        dimension=len(vectors[0].fused),
        kind=kind,
        tmd_weight=tmd_weight,
        model=MODEL.name,
        dataset="tests",
    )


@KINDS
@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_without_codes_the_nearest_texts_are_found_in_whatever_lists_their_codes_have_put_them(
    kind: IndexKind, weight: float
) -> None:
    vectors, texts = _random(4_000, dimension=32, seed=1)
    index = _index_of(vectors, kind=kind, tmd_weight=weight)
    assert kind is IndexKind.FLAT or index.manifest.nlist > index.manifest.nprobe
    for asked in unit(np.random.default_rng(2).standard_normal((20, 32)).astype(np.float32)):
        wanted = np.argsort(-(texts @ asked))[:10]
        assert [hit.faiss_id for hit in index.search(asked, k=10)] == wanted.tolist()


def test_with_codes_lists_that_are_not_looked_into_cost_nothing_and_give_nothing() -> None:
    vectors, texts = _random(4_000, dimension=32, seed=1)
    index = _index_of(vectors, kind=IndexKind.IVF)
    index.manifest = replace(index.manifest, nprobe=1)
    found = index.search(texts[7], k=4_000, codes=Codes(0, 0, 0))
    assert 0 < len(found) < 4_000
    assert len(index.search(texts[7], k=4_000)) == 4_000


def test_without_codes_a_text_is_found_behind_any_number_of_texts_whose_codes_are_lighter() -> None:
    # A row's length divides its inner product: the nearest one, with all bits set, is the last of all of them.
    asked, aside = np.eye(8, dtype=np.float32)[:2]
    light = np.zeros(DENSE_WIDTH, dtype=np.float32)
    near = _vector(0, np.concatenate([asked, Codes(15, 31, 63).dense()]))
    others = unit(np.float32(0.9) * asked + np.linspace(0.5, 1, 20_100, dtype=np.float32)[:, None] * aside)
    vectors = [near, *(_vector(number, np.concatenate([text, light])) for number, text in enumerate(others, start=1))]
    index = _index_of(vectors, kind=IndexKind.FLAT)
    assert [hit.faiss_id for hit in index.search(asked, k=3)] == [0, 1, 2]
