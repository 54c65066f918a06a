"""Losses and gradients are those of the 16-gate form, written apart, to the last digits."""

from __future__ import annotations

import numpy as np
import pytest

from shardwise_jobs.engines.difflogic.model.gates import logit_gradient
from shardwise_jobs.engines.difflogic.model.sample import Parameters
from tests.support.automata import automaton, batch
from tests.support.automata_peer import loss, slope


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("periodic", [False, True])
def test_losses_and_gradients_are_those_of_the_slow_form(periodic: bool, asynchronous: bool) -> None:
    given = batch(of=automaton(periodic=periodic), height=4, width=3, steps=2, asynchronous=asynchronous)
    result = given.sample(1)
    assert result.soft_loss == pytest.approx(loss(given, 1, given.logits + 0j).real, rel=1e-12)

    gradient = logit_gradient(weights=Parameters(given.logits).weights, sums=result.sums)
    random = np.random.default_rng(5)
    for _ in range(4):
        direction = random.normal(size=gradient.shape)
        scale = float(np.abs(gradient * direction).sum())
        assert float((gradient * direction).sum()) == pytest.approx(slope(given, 1, direction), abs=1e-12 * scale)


def test_each_logit_has_the_gradient_of_the_slow_form() -> None:
    given = batch(of=automaton(channels=2, kernels=1, update=(4, 3, 2)), height=2, width=3, steps=2, asynchronous=True)
    gradient = logit_gradient(weights=Parameters(given.logits).weights, sums=given.sample(0).sums)
    slopes = np.empty_like(gradient)
    for place in np.ndindex(gradient.shape):
        direction = np.zeros_like(gradient)
        direction[place] = 1
        slopes[place] = slope(given, 0, direction)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-10, atol=1e-14)
