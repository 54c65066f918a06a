"""Links: neighbours within a document, the same from every shard's point of view, unless the sender gave some."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.ingest.chunk import Chunk
from shardwise_jobs.engines.ingest.identifiers import Links, Place, linked, links_of


def _id(name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, name)


def _place(document: str, index: int, name: str) -> Place:
    return Place(document=document, chunk_index=index, cpe_id=_id(name))


def _links(*, parent: str | None = None, child: str | None = None) -> Links:
    return Links(
        parents=() if parent is None else (str(_id(parent)),), children=() if child is None else (str(_id(child)),)
    )


def test_a_documents_chunks_are_linked_in_order_whatever_stands_between() -> None:
    found = links_of([_place("d", 0, "a"), _place("e", 0, "x"), _place("d", 1, "b"), _place("d", 2, "c")])
    assert found == [_links(child="b"), Links(), _links(parent="a", child="c"), _links(parent="b")]


def test_the_index_counts_before_the_place_in_the_input() -> None:
    found = links_of([_place("d", 5, "last"), _place("d", 1, "first")])
    assert found == [_links(parent="first"), _links(child="last")]


def test_without_indexes_the_input_gives_the_order() -> None:
    found = links_of([_place("d", 0, "a"), _place("d", 0, "b"), _place("d", 0, "c")])
    assert found == [_links(child="b"), _links(parent="a", child="c"), _links(parent="b")]


def test_a_failed_chunk_is_nobodys_neighbour() -> None:
    assert links_of([_place("d", 0, "a"), None, _place("d", 2, "c")]) == [
        _links(child="c"),
        Links(),
        _links(parent="a"),
    ]


def test_a_chunk_that_comes_twice_is_not_its_own_neighbour() -> None:
    found = links_of([_place("d", 0, "a"), _place("d", 0, "a"), _place("d", 1, "b")])
    assert found == [_links(child="b"), _links(child="b"), _links(parent="a")]


@given(st.lists(st.tuples(st.sampled_from("de"), st.integers(0, 3), st.sampled_from("abcdef")), max_size=12))
def test_links_point_both_ways(entries: list[tuple[str, int, str]]) -> None:
    # A name belongs to one document, as the document is a part of an id.
    places = [_place(document, index, f"{document}{name}") for document, index, name in entries]
    found = {str(place.cpe_id): links for place, links in zip(places, links_of(places), strict=True)}
    for own, links in found.items():
        assert own not in links.parents + links.children
        assert all(found[parent].children == (own,) for parent in links.parents)
        assert all(found[child].parents == (own,) for child in links.children)


def test_what_the_sender_gave_stands_even_when_it_is_one_empty_list() -> None:
    neighbours = _links(parent="a", child="c")
    assert linked(Chunk(text="b"), neighbours) == neighbours
    assert linked(Chunk(text="b", parent_cpe_ids=["p"]), neighbours) == Links(parents=("p",))
    assert linked(Chunk(text="b", child_cpe_ids=["x", "y"]), neighbours) == Links(children=("x", "y"))
    assert linked(Chunk(text="b", parent_cpe_ids=[]), neighbours) == Links()
