"""The batching rules, held against a small simulation of how a KATO server learns."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.kato.chunking import chunks
from shardwise_jobs.engines.kato.rest_planning import Call, applied, plan_calls
from shardwise_jobs.engines.kato.stores.base import Events


def events_of_length(length: int, *, start: int) -> Events:
    return [[f"s{start + place}"] for place in range(length)]


@st.composite
def sequences_and_sizes(draw: st.DrawFn) -> tuple[list[Events], int, int]:
    chunk_size = draw(st.integers(3, 7))
    lengths = draw(st.lists(st.one_of(st.just(chunk_size), st.integers(2, chunk_size + 4)), max_size=30))
    starts = range(0, 100 * len(lengths), 100)
    sequences = [events_of_length(length, start=start) for length, start in zip(lengths, starts, strict=True)]
    return sequences, chunk_size, draw(st.integers(1, 8))


def learned_by_server(calls: list[Call], *, chunk_size: int, max_pattern_length: int | None = None) -> list[Events]:
    """What a server with the auto-learn rules of the protocol learns, its configuration changed where a call asks."""
    limit = chunk_size if max_pattern_length is None else max_pattern_length
    stm: Events = []
    learned = []
    for call in calls:
        assert stm == [], "a call must find an empty memory"
        if call.auto_learn is not None:
            limit = call.auto_learn
        for observation in call.observations():
            stm.append(observation["strings"])
            if 0 < limit <= len(stm):
                learned.append(stm)
                stm = []
        if call.learn_at_end and stm:
            learned.append(stm)
            stm = []
    assert stm == [], "the last call must leave nothing behind"
    return learned


@given(sequences_and_sizes(), st.booleans())
def test_the_calls_together_are_the_input_in_order(given: tuple[list[Events], int, int], whole: bool) -> None:
    sequences, chunk_size, batch_size = given
    calls = plan_calls(sequences, chunk_size=chunk_size, batch_size=batch_size, whole=whole)
    assert [pattern for call in calls for pattern in call.patterns] == sequences
    observed = [observation["strings"] for call in calls for observation in call.observations()]
    assert observed == [event for sequence in sequences for event in sequence]
    assert all(1 <= len(call.patterns) <= batch_size for call in calls)


@given(sequences_and_sizes())
def test_a_server_learns_every_pattern_once_and_in_order(given: tuple[list[Events], int, int]) -> None:
    sequences, chunk_size, batch_size = given
    calls = plan_calls(sequences, chunk_size=chunk_size, batch_size=batch_size, whole=False)
    assert learned_by_server(calls, chunk_size=chunk_size) == sequences


@given(sequences_and_sizes())
def test_one_pattern_a_call_needs_no_learning_by_itself(given: tuple[list[Events], int, int]) -> None:
    sequences, chunk_size, _ = given
    calls = plan_calls(sequences, chunk_size=chunk_size, batch_size=1, whole=False)
    assert all(call.learn_at_end and not call.auto_learn for call in calls)
    assert learned_by_server(calls, chunk_size=chunk_size, max_pattern_length=0) == sequences


@given(sequences_and_sizes())
def test_of_whole_patterns_only_the_batch_size_counts(given: tuple[list[Events], int, int]) -> None:
    sequences, chunk_size, batch_size = given
    calls = plan_calls(sequences, chunk_size=chunk_size, batch_size=batch_size, whole=True)
    assert len(calls) == ceil(len(sequences) / batch_size)


@given(sequences_and_sizes())
def test_else_only_odd_lengths_cost_more_calls(given: tuple[list[Events], int, int]) -> None:
    sequences, chunk_size, batch_size = given
    calls = plan_calls(sequences, chunk_size=chunk_size, batch_size=batch_size, whole=False)
    odd = sum(len(sequence) != chunk_size for sequence in sequences)
    assert len(calls) <= ceil(len(sequences) / batch_size) + 2 * odd


@pytest.mark.parametrize(
    ("tokens", "one_by_one", "in_fifties"),
    [
        (2, 0, 0),
        (3, 1, 1),
        (7, 1, 1),
        (8, 2, 1),
        (12, 2, 1),
        (36, 7, 1),
        (38, 8, 1),
        (250, 50, 1),
        (500, 100, 2),
        (503, 101, 3),
    ],
)
def test_the_published_call_counts_hold(tokens: int, one_by_one: int, in_fifties: int) -> None:
    pieces = [[[token] for token in piece] for piece in chunks([f"t{i}" for i in range(tokens)], 5)]
    assert len(plan_calls(pieces, chunk_size=5, batch_size=1, whole=True)) == one_by_one
    assert len(plan_calls(pieces, chunk_size=5, batch_size=50, whole=True)) == in_fifties


def test_equal_chunks_with_a_short_tail_are_one_plain_call() -> None:
    pieces = [events_of_length(length, start=0) for length in (5, 5, 3)]
    (call,) = plan_calls(pieces, chunk_size=5, batch_size=50, whole=False)
    assert call.auto_learn == 5
    assert call.learn_at_end


def test_a_long_chunk_goes_alone_with_learning_by_itself_switched_off() -> None:
    pieces = [events_of_length(length, start=0) for length in (5, 5, 7)]
    equal, long = plan_calls(pieces, chunk_size=5, batch_size=50, whole=False)
    assert (equal.auto_learn, equal.learn_at_end) == (5, False)
    assert (long.auto_learn, long.learn_at_end) == (0, True)


@st.composite
def lost_calls(draw: st.DrawFn) -> tuple[list[str], int, dict[str, int], set[str]]:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12))
    done = draw(st.integers(0, len(names)))
    existing = {name: draw(st.integers(0, 3)) for name in sorted(set(names))}
    looked_up = draw(st.sets(st.sampled_from(sorted(set(names)))))
    return names, done, existing, looked_up


@given(lost_calls(), st.booleans(), st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2)))
def test_the_bounds_of_a_lost_call_hold_what_it_did(
    lost: tuple[list[str], int, dict[str, int], set[str]], sole_writer: bool, learned_by_others: dict[str, int]
) -> None:
    names, done, existing, looked_up = lost
    after = Counter(existing)
    after.update(names[:done])
    if not sole_writer:
        after.update({name: count for name, count in learned_by_others.items() if name in existing})
    bounds = applied(
        names,
        before={name: existing[name] for name in looked_up},
        after={name: after[name] for name in existing},
        sole_writer=sole_writer,
    )
    assert bounds.least <= done <= bounds.most
    if not sole_writer:
        assert bounds.least == 0


@given(lost_calls())
def test_a_sole_writer_who_looked_everything_up_knows(lost: tuple[list[str], int, dict[str, int], set[str]]) -> None:
    names, done, existing, _ = lost
    after = Counter(existing)
    after.update(names[:done])
    bounds = applied(names, before=existing, after=after, sole_writer=True)
    assert (bounds.least, bounds.most) == (done, done)


def test_a_pattern_that_is_not_there_was_not_learned_by_anybody() -> None:
    bounds = applied(["a", "b"], before={}, after={"a": 0}, sole_writer=False)
    assert (bounds.least, bounds.most) == (0, 0)
