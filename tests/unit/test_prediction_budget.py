"""A prediction's matching: difflib's blocks to the letter, within a budget of processor time."""

from __future__ import annotations

from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.kato.stores.base import Pattern
from shardwise_jobs.services.kato.nodes import PredictionTurns
from shardwise_jobs.services.kato.predictions import Budget, TooCostly, _Matcher, predict
from shardwise_jobs.services.kato.recall import PatternIndex

_SYMBOLS = st.lists(st.sampled_from("abcd"), max_size=30)


@given(_SYMBOLS, st.lists(_SYMBOLS, min_size=1, max_size=3))
def test_blocks_are_those_of_difflib(stm: list[str], patterns: list[list[str]]) -> None:
    ours = _Matcher(stm, budget=Budget(60))
    theirs = SequenceMatcher(None, "", stm, autojunk=False)
    for pattern in patterns:
        ours.set_seq1(pattern)
        theirs.set_seq1(pattern)
        assert ours.get_matching_blocks() == theirs.get_matching_blocks()


def test_what_takes_too_long_is_given_up_with_the_way_out() -> None:
    same = ["a"] * 4000
    pattern = Pattern(name="p", events=[same], length=4000, frequency=1, emotives=[], metadata={})
    snapshot = PatternIndex(version=1, patterns=[pattern]).snapshot(same, threshold=0.1)
    with pytest.raises(TooCostly, match="s of processor time"):
        predict(recall=snapshot, stm=[same], threshold=0.1, limit=1, seconds=0.05)


def test_only_some_are_worked_out_at_once() -> None:
    turns = PredictionTurns(at_once=1, seconds=0.01)
    with turns.one(), pytest.raises(TooCostly, match="too many predictions at once"), turns.one():
        raise AssertionError
    with turns.one():
        pass
