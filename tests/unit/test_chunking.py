"""Chunk sizes are those of KATO's hierarchical learner, token for token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.kato.chunking import chunk_sizes, chunks, sentences


@pytest.mark.parametrize(
    ("tokens", "sizes"),
    [
        (0, []),
        (2, []),
        (3, [3]),
        (5, [5]),
        (6, [6]),
        (7, [7]),
        (8, [5, 3]),
        (12, [5, 7]),
        (35, [5] * 7),
        (36, [5] * 6 + [6]),
        (38, [5] * 7 + [3]),
        (250, [5] * 50),
        (500, [5] * 100),
        (503, [5] * 100 + [3]),
    ],
)
def test_chunks_of_five_have_the_sizes_of_the_specification(tokens: int, sizes: list[int]) -> None:
    assert chunk_sizes(tokens, 5) == sizes


COUNTS, SIZES = st.integers(0, 3000), st.integers(3, 1000)


@given(tokens=COUNTS, size=SIZES)
def test_chunks_hold_all_tokens_or_none(tokens: int, size: int) -> None:
    assert sum(chunk_sizes(tokens, size)) == (tokens if tokens >= 3 else 0)


@given(tokens=COUNTS, size=SIZES)
def test_no_chunk_is_under_three_tokens_or_more_than_two_over_its_size(tokens: int, size: int) -> None:
    sizes = chunk_sizes(tokens, size)
    assert all(3 <= chunk <= size + 2 for chunk in sizes)
    assert all(chunk == size for chunk in sizes[:-1])


@given(tokens=st.lists(st.text(max_size=3), max_size=60), size=st.integers(3, 12))
def test_chunks_keep_the_order_of_tokens(tokens: list[str], size: int) -> None:
    cut = chunks(tokens, size)
    assert [token for chunk in cut for token in chunk] == (tokens if len(tokens) >= 3 else [])
    assert [len(chunk) for chunk in cut] == chunk_sizes(len(tokens), size)


def test_gpt2_tokens_are_cut_where_the_next_token_leads_with_a_space() -> None:
    tokens = ["The", "Ġcat", "Ġsat", ".", "ĠIt", "Ġpaid", "Ġ3", ".", "14", "Ġeuros", "!", "ĠReally", "?"]
    assert sentences(tokens, minimum=1) == [
        ["The", "Ġcat", "Ġsat", "."],
        ["ĠIt", "Ġpaid", "Ġ3", ".", "14", "Ġeuros", "!"],
        ["ĠReally", "?"],
    ]


def test_a_stop_with_a_space_before_it_ends_a_sentence_too() -> None:
    assert sentences(["Yes", "Ġ.", "ĠNo", "▁!"], minimum=1) == [["Yes", "Ġ."], ["ĠNo", "▁!"]]


def test_bert_tokens_are_cut_unless_the_next_token_continues_a_word() -> None:
    tokens = ["version", "2", ".", "##0", "is", "out", ".", "it", "works", "!"]
    assert sentences(tokens, minimum=1) == [["version", "2", ".", "##0", "is", "out", "."], ["it", "works", "!"]]


def test_only_a_token_that_is_nothing_but_a_stop_ends_a_sentence() -> None:
    assert sentences(["a", "...", "Ġb", "e.g.", "Ġc"], minimum=1) == [["a", "...", "Ġb", "e.g.", "Ġc"]]


def test_what_follows_the_last_stop_is_a_sentence_of_its_own() -> None:
    assert sentences(["a", "Ġb", ".", "Ġc", "Ġd", "Ġe"], minimum=3) == [["a", "Ġb", "."], ["Ġc", "Ġd", "Ġe"]]


def test_sentences_under_the_minimum_are_dropped() -> None:
    assert sentences(["No", ".", "ĠI", "Ġdo", "Ġnot", ".", "ĠOh"], minimum=3) == [["ĠI", "Ġdo", "Ġnot", "."]]


def test_how_a_tokenizer_marks_words_can_be_told_where_the_tokens_do_not_show_it() -> None:
    tokens = ["example", ".", "org"]
    assert sentences(tokens, minimum=1, marks_starts=True) == [tokens]
    assert sentences(tokens, minimum=1, marks_starts=False) == [["example", "."], ["org"]]


@given(tokens=st.lists(st.sampled_from([".", "!", "?", "Ġ.", "a", "Ġb", "##c", "▁d"]), max_size=30))
def test_sentences_hold_every_token_once_and_in_order(tokens: list[str]) -> None:
    assert [token for piece in sentences(tokens, minimum=1) for token in piece] == tokens
