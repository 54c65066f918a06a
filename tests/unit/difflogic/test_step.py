"""A batch's step: sums that no grouping changes, clipping and AdamW, and a loss that goes down."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.engine.errors import BadConfiguration, BadInput
from shardwise_jobs.engines.difflogic.model.fixed_point import from_integers, to_integers
from shardwise_jobs.engines.difflogic.model.gates import F64, new_logits
from shardwise_jobs.engines.difflogic.model.optimizer import ClipMode, Settings, State, advance, clipped
from shardwise_jobs.engines.difflogic.model.sample import Parameters, SampleResult
from shardwise_jobs.engines.difflogic.model.step import BatchSum, computed, update
from tests.support.automata import automaton, batch

GIVEN = batch(samples=8, height=4, width=4)
RESULTS = [GIVEN.sample(number) for number in range(8)]


def summed(results: Sequence[SampleResult]) -> BatchSum:
    total = BatchSum(gates=GIVEN.automaton.gates)
    for result in results:
        total.add(result)
    return total


class TestExactSums:
    @given(order=st.permutations(range(8)), cuts=st.lists(st.integers(0, 8), max_size=4))
    def test_any_grouping_of_samples_gives_the_same_bits(self, order: list[int], cuts: list[int]) -> None:
        edges = [0, *sorted(cuts), 8]
        total = BatchSum(gates=GIVEN.automaton.gates)
        for start, end in pairwise(edges):
            total.merge(summed([RESULTS[number] for number in order[start:end]]))
        plain = summed(RESULTS)
        assert total.words.tobytes() == plain.words.tobytes()
        assert (total.samples, total.soft_loss, total.hard_loss) == (8, plain.soft_loss, plain.hard_loss)

    @pytest.mark.parametrize("workers", [2, 3, 8])
    def test_threads_give_the_bits_of_one_after_another(self, workers: int) -> None:
        work = [partial(GIVEN.sample, number) for number in range(8)]
        assert summed(list(computed(work, workers=workers))).words.tobytes() == summed(RESULTS).words.tobytes()

    def test_they_are_within_the_specifications_bounds_of_plain_sums(self) -> None:
        total = summed(RESULTS)
        assert abs(total.soft_loss - sum(result.soft_loss for result in RESULTS)) < 1e-10
        assert abs(total.hard_loss - sum(result.hard_loss for result in RESULTS)) < 1e-10
        np.testing.assert_allclose(total.sums, sum(result.sums for result in RESULTS), rtol=1e-12, atol=1e-13)

    NUMBERS = st.lists(st.floats(-(2.0**29), 2.0**29), min_size=1, max_size=60)

    @given(numbers=NUMBERS)
    def test_they_are_the_true_sum_but_for_a_unit_in_the_last_place(self, numbers: list[float]) -> None:
        words = to_integers(np.array(numbers), what="x").sum(axis=0)
        true = math.fsum(numbers)
        assert abs(float(from_integers(words)) - true) <= math.ulp(true) + len(numbers) * 2.0**-71

    @given(numbers=NUMBERS)
    def test_whole_numbers_stand_for_the_numbers_exactly_down_to_their_resolution(self, numbers: list[float]) -> None:
        for number, (high, low) in zip(numbers, to_integers(np.array(numbers), what="x").tolist(), strict=True):
            stands_for = Fraction(high, 2**20) + Fraction(low, 2**70)
            assert abs(stands_for - Fraction(number)) <= Fraction(1, 2**71)
            assert abs(low) <= 2**49

    def test_as_many_addends_as_allowed_never_overflow(self) -> None:
        words = to_integers(np.array([2.0**30 - 2.0**-22, -(2.0**30) + 2.0**-22, 2.0**-21, -(2.0**-21)]), what="x")
        assert np.abs(words.astype(object) * 4096).max() < 2**63

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2.0**30])
    def test_what_has_diverged_is_refused_by_name(self, bad: float) -> None:
        with pytest.raises(BadInput, match=r"gradients: .* diverged"):
            to_integers(np.array([0.0, bad]), what="gradients")

    def test_more_samples_than_a_sum_holds_are_refused(self) -> None:
        total, half = summed(RESULTS[:1]), summed(RESULTS[:1])
        half.samples = 4096
        with pytest.raises(BadConfiguration, match="batchSize"):
            total.merge(half)


def plain_adamw(logits: F64, gradients: Sequence[F64], *, lr: float, clip: float, norm: bool) -> F64:
    """One number after another, as the formulas stand in the specification."""
    flat = [float(z) for z in logits.ravel()]
    m, v = [0.0] * len(flat), [0.0] * len(flat)
    for t, gradient in enumerate(gradients, start=1):
        g = [float(value) for value in gradient.ravel()]
        length = math.sqrt(math.fsum(value**2 for value in g))
        if not norm:
            g = [min(max(value, -clip), clip) for value in g]
        elif length > clip:
            g = [value * clip / length for value in g]
        for i, value in enumerate(g):
            m[i] = 0.9 * m[i] + 0.1 * value
            v[i] = 0.99 * v[i] + 0.01 * value**2
            moved = (m[i] / (1 - 0.9**t)) / (math.sqrt(v[i] / (1 - 0.99**t)) + 1e-8)
            flat[i] -= lr * (moved + 0.01 * flat[i])
    return np.array(flat).reshape(logits.shape)


class TestOptimiser:
    @pytest.mark.parametrize("mode", list(ClipMode))
    def test_steps_are_those_of_the_formulas(self, mode: ClipMode) -> None:
        random = np.random.default_rng(3)
        logits = random.normal(size=(5, 16))
        gradients = [random.normal(size=(5, 16)) * scale for scale in (1e-9, 1.0, 400.0, 3.0)]
        state = State.fresh(logits)
        settings = Settings(lr=0.05, clip_mode=mode)
        for gradient in gradients:
            state = advance(state, gradient, settings=settings)
        expected = plain_adamw(logits, gradients, lr=0.05, clip=100, norm=mode is ClipMode.GLOBAL_NORM)
        np.testing.assert_allclose(state.logits, expected, rtol=1e-12, atol=1e-13)
        assert state.step == 4

    def test_clipping_holds_elements_or_the_norm(self) -> None:
        gradient = np.array([[300.0, -400.0, 1.0]])
        assert clipped(gradient, settings=Settings(lr=1)).tolist() == [[100.0, -100.0, 1.0]]
        by_norm = clipped(gradient, settings=Settings(lr=1, clip_mode=ClipMode.GLOBAL_NORM))
        assert np.linalg.norm(by_norm) == pytest.approx(100)
        assert by_norm[0, 0] / by_norm[0, 1] == pytest.approx(-0.75)

    def test_a_norm_within_the_limit_is_left_alone(self) -> None:
        gradient = np.array([[30.0, -40.0]])
        assert np.array_equal(clipped(gradient, settings=Settings(lr=1, clip_mode=ClipMode.GLOBAL_NORM)), gradient)

    @pytest.mark.parametrize(
        ("name", "value"), [("lr", -1), ("clip", math.nan), ("b1", 1), ("b2", -0.1), ("eps", math.inf)]
    )
    def test_settings_that_make_no_sense_are_refused_by_name(self, name: str, value: float) -> None:
        changes: dict[str, Any] = {name: value}
        with pytest.raises(BadConfiguration, match=f"^{name}: "):
            dataclasses.replace(Settings(lr=0.1), **changes)


def test_training_lowers_the_loss() -> None:
    given = batch(of=automaton(periodic=True), samples=4, height=4, width=4, steps=1, bits=True)
    given = given.but(logits=new_logits(given.automaton.gates))
    state, losses = State.fresh(given.logits), []
    for _ in range(40):
        total = BatchSum(gates=given.automaton.gates)
        now = given.but(logits=state.logits)
        for number in range(4):
            total.add(now.sample(number))
        losses.append(total.soft_loss)
        state = update(state, total, parameters=Parameters(state.logits), settings=Settings(lr=0.1))
    assert losses[-1] < 0.8 * losses[0]
