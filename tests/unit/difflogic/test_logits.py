"""What is done to logits, compiled: the bits of the readable forms."""

from __future__ import annotations

import numpy as np
import pytest

from shardwise_jobs.engines.difflogic.model import gates, logits
from shardwise_jobs.engines.difflogic.model.optimizer import Settings, State, advance


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0, 400.0])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_mixtures_have_the_bits_of_the_readable_softmax_and_collapse(count: int, scale: float) -> None:
    random = np.random.default_rng(count)
    given = random.normal(size=(count, 16)) * scale + gates.new_logits(count)
    weights, coefficients = logits.mixtures(given)
    expected = gates.softmax(given)
    assert weights.tobytes() == expected.tobytes()
    assert coefficients.tobytes() == gates.collapse(expected).tobytes()


def test_weights_may_vanish_through_the_smallest_numbers_there_are() -> None:
    given = np.tile(-np.linspace(700, 760, 16), (3, 1))
    given[:, 0] = 0
    weights, _ = logits.mixtures(given)
    expected = gates.softmax(given)
    assert weights.tobytes() == expected.tobytes()
    assert ((expected > 0) & (expected < np.finfo(np.float64).tiny)).any()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e5])
def test_logit_gradients_have_the_bits_of_the_readable_form(scale: float) -> None:
    random = np.random.default_rng(2)
    weights = gates.softmax(random.normal(size=(70, 16)))
    sums = random.normal(size=(70, 4)) * scale
    expected = gates.logit_gradient(weights=weights, sums=sums)
    assert logits.logit_gradient(weights=weights, sums=sums).tobytes() == expected.tobytes()


def test_a_step_of_adamw_has_the_bits_of_its_formula() -> None:
    random = np.random.default_rng(3)
    state = State.fresh(random.normal(size=(70, 16)))
    settings = Settings(lr=0.05)
    m, v, z = state.m, state.v, state.logits
    b1, b2 = 1.0, 1.0
    for _ in range(3):
        g = random.normal(size=(70, 16))
        state = advance(state, g, settings=settings)
        b1, b2 = b1 * 0.9, b2 * 0.99
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.99 * v + (1 - 0.99) * (g * g)
        z = z - 0.05 * ((m / (1 - b1)) / (np.sqrt(v / (1 - b2)) + 1e-8) + 0.01 * z)
        assert state.m.tobytes() == m.tobytes()
        assert state.v.tobytes() == v.tobytes()
        np.testing.assert_allclose(state.logits, z, rtol=1e-15)
