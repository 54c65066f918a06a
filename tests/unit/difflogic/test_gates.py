"""Gates and their soft mixture: truth tables, worked examples of the specification, and an exponential of our own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.difflogic.model.gates import (
    F64,
    FORMS,
    TRUTH,
    collapse,
    exponential,
    halved,
    hardest,
    logit_gradient,
    new_logits,
    softmax,
)
from shardwise_jobs.engines.difflogic.model.optimizer import Settings, State, advance

BY_NAME: list[tuple[str, Callable[[bool, bool], bool]]] = [
    ("FALSE", lambda a, b: False),
    ("AND", lambda a, b: a and b),
    ("A and not B", lambda a, b: a and not b),
    ("A", lambda a, b: a),
    ("not A and B", lambda a, b: not a and b),
    ("B", lambda a, b: b),
    ("XOR", lambda a, b: a != b),
    ("OR", lambda a, b: a or b),
    ("NOR", lambda a, b: not (a or b)),
    ("XNOR", lambda a, b: a == b),
    ("not B", lambda a, b: not b),
    ("A or not B", lambda a, b: a or not b),
    ("not A", lambda a, b: not a),
    ("not A or B", lambda a, b: not a or b),
    ("NAND", lambda a, b: not (a and b)),
    ("TRUE", lambda a, b: True),
]
# f(.25, .8), df/da, df/db as the specification's table has them.
RELAXED = [
    (0, 0, 0),
    (0.2, 0.8, 0.25),
    (0.05, 0.2, -0.25),
    (0.25, 1, 0),
    (0.6, -0.8, 0.75),
    (0.8, 0, 1),
    (0.65, -0.6, 0.5),
    (0.85, 0.2, 0.75),
    (0.15, -0.2, -0.75),
    (0.35, 0.6, -0.5),
    (0.2, 0, -1),
    (0.4, 0.8, -0.75),
    (0.75, -1, 0),
    (0.95, -0.2, 0.25),
    (0.8, -0.8, -0.25),
    (1, 0, 0),
]
A, B = 0.25, 0.8


def gate(c: np.ndarray, a: float, b: float) -> float:
    return float(c[0] + c[1] * a + c[2] * b + c[3] * a * b)


def slopes(c: np.ndarray, a: float, b: float) -> tuple[float, float]:
    return float(c[1] + c[3] * b), float(c[2] + c[3] * a)


@pytest.mark.parametrize("number", range(16), ids=[name for name, _ in BY_NAME])
class TestEachGate:
    def test_has_the_truth_table_of_its_name(self, number: int) -> None:
        function = BY_NAME[number][1]
        for a in (False, True):
            for b in (False, True):
                assert TRUTH[number][2 * a + b] == function(a, b)
                assert gate(FORMS[number], a, b) == function(a, b)

    def test_has_the_bits_of_its_number_as_its_truth_table(self, number: int) -> None:
        assert int("".join(map(str, TRUTH[number])), 2) == number

    def test_has_the_relaxed_value_and_slopes_of_the_specification(self, number: int) -> None:
        value, by_a, by_b = RELAXED[number]
        assert gate(FORMS[number], A, B) == pytest.approx(value, abs=1e-15)
        assert slopes(FORMS[number], A, B) == pytest.approx((by_a, by_b), abs=1e-15)


FINITE = st.floats(-40, 40)
LOGITS = st.lists(FINITE, min_size=16, max_size=16).map(np.array)
UNIT = st.floats(0, 1)


@given(logits=LOGITS, a=UNIT, b=UNIT)
def test_the_collapsed_form_is_the_weighted_sum_of_all_gates(logits: np.ndarray, a: float, b: float) -> None:
    weights = softmax(logits)
    whole = sum(weights[k] * gate(FORMS[k], a, b) for k in range(16))
    assert gate(collapse(weights), a, b) == pytest.approx(whole, abs=1e-14)


@given(logits=LOGITS, sums=st.lists(FINITE, min_size=4, max_size=4).map(np.array))
def test_logit_gradients_of_a_gate_sum_to_zero(logits: np.ndarray, sums: np.ndarray) -> None:
    gradient = logit_gradient(weights=softmax(logits), sums=sums)
    assert abs(gradient.sum()) <= 1e-12 * max(np.abs(sums).max(), 1e-300)


@given(x=st.floats(-700, 0))
def test_the_exponential_is_within_two_units_in_the_last_place(x: float) -> None:
    assert abs(float(exponential(np.array(x))) - math.exp(x)) <= 2 * math.ulp(math.exp(x))


def test_the_exponential_of_zero_is_one_and_that_of_far_below_is_zero() -> None:
    assert exponential(np.array([0.0, -800.0, -1e6])).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(("logits", "strongest"), [(np.zeros(16), 0), (new_logits(1)[0], 3), (-np.arange(16.0), 0)])
def test_of_equal_functions_the_hard_gate_takes_the_lowest(logits: np.ndarray, strongest: int) -> None:
    assert hardest(logits) == strongest


def test_halves_are_added_in_the_order_they_are_said_to_be() -> None:
    values = np.array([1e16, 1.0, -1e16, 1.0])
    assert halved(values) == (values[0] + values[2]) + (values[1] + values[3]) == 2.0


def test_example_a_a_new_gate_is_nearly_its_first_input() -> None:
    weights = softmax(new_logits(1)[0])
    c = collapse(weights)
    assert weights[3] == pytest.approx(0.999319464497523, abs=1e-14)
    assert weights[0] == pytest.approx(4.536903349847e-05, rel=1e-12)
    assert c == pytest.approx([3.629522679877721e-04, 0.9992740954640245, 0, 0], abs=1e-17, rel=1e-15)
    assert gate(c, A, B) == pytest.approx(0.2501814761339939, abs=1e-12)
    by_a, by_b = slopes(c, A, B)
    assert by_a == pytest.approx(0.9992740954640245, abs=1e-12)
    assert abs(by_b) < 1e-15
    gradient = logit_gradient(weights=weights, sums=np.array([1, A, B, A * B]))
    told = {0: -1.1350491771e-05, 1: -2.2766850717e-06, 3: -1.8135263304e-04, 7: 2.7213186702e-05, 15: 3.4018541727e-05}
    for k, expected in told.items():
        assert gradient[k] == pytest.approx(expected, rel=1e-9)


@given(a=UNIT, b=UNIT)
def test_example_b_equal_logits_say_one_half_to_everything(a: float, b: float) -> None:
    c = collapse(softmax(np.zeros(16)))
    assert c.tolist() == [0.5, 0, 0, 0]
    assert gate(c, a, b) == 0.5


class TestExampleC:
    LOGITS: F64 = 0.1 * np.arange(16, dtype=np.float64)
    TOLD = (
        ".012820352852 .009407670017 .014343381578 .010036776080 -.000154359341 -.007273187421 -.002150929998 "
        "-.011052273142 .021341595724 .012990285842 .023139134443 .012630928458 -.011070683903 -.028042111465 "
        "-.017889154409 -.039077425316"
    )

    def test_forward(self) -> None:
        weights = softmax(self.LOGITS)
        c = collapse(weights)
        assert weights[[0, 15]] == pytest.approx([0.026605124062887158, 0.11923589372762962], abs=1e-15)
        told = [0.6899744811276125, -0.14014048381513458, -0.09128682101516043, 0.06643201118162254]
        assert c == pytest.approx(told, abs=1e-15)
        assert gate(c, A, B) == pytest.approx(0.5951963055980249, abs=1e-12)
        assert slopes(c, A, B) == pytest.approx((-0.08699487486983655, -0.0746788182197548), abs=1e-12)

    def test_backward_and_the_first_step_of_the_optimiser(self) -> None:
        weights = softmax(self.LOGITS)
        out = gate(collapse(weights), A, B)
        assert (out - 1) ** 2 == pytest.approx(0.1638660310014876, abs=1e-12)
        g = 2 * (out - 1)
        assert g == pytest.approx(-0.8096073888039501, abs=1e-12)
        gradient = logit_gradient(weights=weights, sums=g * np.array([1, A, B, A * B]))
        assert gradient == pytest.approx([float(word) for word in self.TOLD.split()], abs=6e-13)

        new = advance(State.fresh(self.LOGITS), gradient, settings=Settings(lr=0.05)).logits
        told = [-0.04999996099954379, 0.24985004981674377, 1.5492499872048922]
        assert new[[0, 3, 15]] == pytest.approx(told, abs=1e-12)

    def test_example_d_its_hard_gate_is_true(self) -> None:
        assert hardest(self.LOGITS) == 15
