"""The DiffLogic benchmark's figures: a ratio read the wrong way round looks like any other."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.difflogic_figures import differences
from benchmarks.difflogic_rank import float_forward
from benchmarks.figures import Promise, ratio, summary

from shardwise_jobs.engines.difflogic.model import hard
from shardwise_jobs.engines.difflogic.model.automaton import neighbours
from shardwise_jobs.engines.difflogic.model.sample import Parameters
from tests.support.automata import automaton, batch


def test_a_ratio_is_that_of_the_same_round_and_its_median() -> None:
    above = summary([{"cpu_ms": 10.0}, {"cpu_ms": 30.0}, {"cpu_ms": 8.0}])
    below = summary([{"cpu_ms": 1.0}, {"cpu_ms": 2.0}, {"cpu_ms": 2.0}])
    assert ratio(above, below, "cpu_ms") == 10
    assert ratio(below, above, "cpu_ms") == pytest.approx(0.1)
    assert ratio(None, below, "cpu_ms") is None
    assert above["cpu_ms"] == 10


@pytest.mark.parametrize(
    ("promise", "reached", "line"),
    [
        (Promise(name="speed", value=20.0, at_least=20), True, "PASS  speed: 20 (promise: ≥ 20)"),
        (Promise(name="speed", value=19.9, at_least=20), False, "MISS  speed: 19.9 (promise: ≥ 20)"),
        (Promise(name="memory", value=0.1, at_most=0.2), True, "PASS  memory: 0.1 (promise: ≤ 0.2)"),
        (Promise(name="memory", value=0.3, at_most=0.2), False, "MISS  memory: 0.3 (promise: ≤ 0.2)"),
        (Promise(name="speed", value=None, at_least=2), False, "MISS  speed: not measured (promise: ≥ 2)"),
    ],
)
def test_a_promise_is_kept_at_its_limit_and_not_beyond(promise: Promise, reached: bool, line: str) -> None:
    assert promise.reached is reached
    assert promise.document()["reached"] is reached
    assert promise.line() == line


def test_differences_are_relative_to_the_largest_gradient_and_to_losses_of_one_or_more() -> None:
    peers = {"gradient": np.array([4.0, 0.001]), "losses": np.array([100.0, 0.0])}
    ours = {"gradient": np.array([4.0, 0.003]), "losses": np.array([101.0, 0.02])}
    assert differences(ours, peers) == pytest.approx({"gradient": 0.0005, "losses": 0.02})
    assert differences(peers, peers) == {"gradient": 0, "losses": 0}


def test_the_floating_point_form_of_the_hard_forward_is_the_truth_tables() -> None:
    given = batch(of=automaton(periodic=True), height=4, width=5, steps=1, bits=True)
    functions = Parameters(given.logits).functions
    table = neighbours(height=4, width=5, periodic=True)
    start = np.zeros((3, 21))
    start[:, :20] = given.x[0].reshape(20, 3).T
    by_tables = hard.forward(
        automaton=given.automaton,
        table=table,
        functions=functions,
        start=start == 1,
        fire=np.ones((1, 20), dtype=np.bool_),
    )
    by_numbers = float_forward(given.automaton, table=table, functions=functions, start=start)
    assert np.array_equal(by_numbers, by_tables)
