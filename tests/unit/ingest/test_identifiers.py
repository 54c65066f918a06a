"""Ids follow from a chunk alone: the same chunk has the same id everywhere, and no two different ones share it."""

from __future__ import annotations

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.ingest import Dedup
from shardwise_jobs.engines.ingest.identifiers import chunk_sha256, cpe_id, faiss_id

TEXT = "DNA replication copies genetic information."


def _id(
    *, dataset: str = "pydocs", document: str = "bio.txt", index: int = 0, text: str = TEXT, dedup: str = "position"
) -> uuid.UUID:
    return cpe_id(dataset_source=dataset, document=document, chunk_index=index, text=text, dedup=Dedup(dedup))


def test_an_id_is_the_same_for_ever() -> None:
    # Rows of earlier versions are known by these.
    assert str(_id()) == "ad757e56-c328-5d21-8db6-b075c557c42f"
    assert str(_id(dedup="content")) == "079ecd40-0cff-5dab-acf7-f0d28d57ea65"
    assert faiss_id(_id()) == 1652566014983463190


def test_an_id_is_a_name_based_uuid() -> None:
    assert (_id().version, _id().variant) == (5, uuid.RFC_4122)


@pytest.mark.parametrize("change", [{"dataset": "other"}, {"document": "other"}, {"index": 1}, {"text": "other"}])
def test_by_position_every_part_makes_another_id(change: dict[str, str | int]) -> None:
    assert _id(**change) != _id()  # type: ignore[arg-type]


def test_by_content_only_data_set_and_text_count() -> None:
    assert _id(dedup="content") == _id(dedup="content", document="other", index=7)
    assert _id(dedup="content") != _id(dedup="content", text="other")
    assert _id(dedup="content") != _id(dedup="content", dataset="other")
    assert _id(dedup="content") != _id()


PLACES = st.tuples(st.text(alphabet="ab\x1f01", max_size=4), st.integers(0, 30), st.text(alphabet="ab\x1f", max_size=3))


@given(PLACES, PLACES)
def test_no_two_places_are_taken_for_one(one: tuple[str, int, str], other: tuple[str, int, str]) -> None:
    ids = [_id(document=document, index=index, text=text) for document, index, text in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)


@given(st.uuids())
def test_a_vector_id_is_a_positive_64_bit_number_of_the_row_id_alone(row: uuid.UUID) -> None:
    found = faiss_id(row)
    assert 0 <= found < 2**63
    assert found == int(hashlib.sha256(row.bytes).hexdigest()[:16], 16) % 2**63


def test_a_text_is_hashed_as_utf8() -> None:
    assert chunk_sha256("é") == hashlib.sha256(b"\xc3\xa9").hexdigest()
