"""Whether ranks and chunks leave every bit of a training step alone, and how far it lies from a plain sum of floats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardwise_jobs.engines.difflogic.model.batch import Sample, batch_sum
from shardwise_jobs.engines.difflogic.model.gates import F64
from shardwise_jobs.engines.difflogic.model.logits import logit_gradient
from shardwise_jobs.engines.difflogic.model.optimizer import State, advance
from shardwise_jobs.engines.difflogic.model.sample import Parameters, sample_gradients
from shardwise_jobs.engines.difflogic.model.step import BatchSum, update

from .difflogic_case import Case

RANKS = (1, 2, 3, 4, 8)
CHUNKS = (1, 2, 4, None)
STEPS = 5
"""Enough for AdamW's moments to take part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equal:
    """What was found over a few steps."""

    other_bits: int
    """Ways of cutting the batch that came to other bits than one rank without chunks."""
    ways: int
    loss: float
    """Largest difference of a loss from the plain sum, sample after sample in floats."""
    logits: float
    """Largest difference of a logit from what the plain sum makes of it."""


def equality(case: Case) -> Equal:
    """Train a case for a few steps in every way, and by a plain sum."""
    ways = [(ranks, chunk) for ranks in RANKS if ranks <= len(case.x) for chunk in CHUNKS]
    states = {way: State.fresh(case.logits) for way in ways}
    plain, loss = State.fresh(case.logits), 0.0
    for _ in range(STEPS):
        soft = {}
        for (ranks, chunk), state in states.items():
            total = _sum(case, Parameters(state.logits), ranks=ranks, chunk=chunk)
            soft[ranks, chunk] = total.soft_loss
            states[ranks, chunk] = update(
                state, total, parameters=Parameters(state.logits), settings=case.experiment.optimizer
            )
        plain, plain_loss = _plain(case, plain)
        loss = max(loss, *(abs(found - plain_loss) for found in soft.values()))
    first = states[ways[0]]
    return Equal(
        other_bits=sum(_bits(state) != _bits(first) for state in states.values()),
        ways=len(ways),
        loss=loss,
        logits=float(np.abs(first.logits - plain.logits).max()),
    )


def _sum(case: Case, parameters: Parameters, *, ranks: int, chunk: int | None) -> BatchSum:
    total, size = BatchSum(gates=case.automaton.gates), len(case.x)
    for rank in reversed(range(ranks)):
        own = range(size * rank // ranks, size * (rank + 1) // ranks)
        total.merge(
            batch_sum(
                automaton=case.automaton,
                parameters=parameters,
                samples=[Sample(x=case.x[number], y=case.y[number]) for number in own],
                loss_channels=case.loss_channels,
                steps=case.experiment.rollout.steps,
                dtype="f64",
                workers=ranks,
                chunk=chunk,
            )
        )
    return total


def _plain(case: Case, state: State) -> tuple[State, float]:
    parameters = Parameters(state.logits)
    sums, loss = np.zeros((case.automaton.gates, 4)), 0.0
    for x, y in zip(case.x, case.y, strict=True):
        found = sample_gradients(
            automaton=case.automaton,
            parameters=parameters,
            x=x.astype(np.float64),
            y=y.astype(np.float64),
            loss_channels=case.loss_channels,
            steps=case.experiment.rollout.steps,
        )
        sums, loss = sums + found.sums, loss + found.soft_loss
    gradient: F64 = logit_gradient(weights=parameters.weights, sums=sums)
    return advance(state, gradient, settings=case.experiment.optimizer), loss


def _bits(state: State) -> bytes:
    return b"".join(array.tobytes() for array in (state.logits, state.m, state.v))
