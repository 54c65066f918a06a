"""Small automata with random parameters, for tests of DiffLogic."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardwise_jobs.engines.difflogic.model import wiring
from shardwise_jobs.engines.difflogic.model.automaton import Automaton
from shardwise_jobs.engines.difflogic.model.gates import F64, Bools
from shardwise_jobs.engines.difflogic.model.rng import Shuffler
from shardwise_jobs.engines.difflogic.model.sample import Backend, Parameters, SampleResult, sample_gradients


def automaton(
    *,
    channels: int = 3,
    kernels: int = 2,
    perceive: Sequence[int] = (8, 4, 2),
    update: Sequence[int] = (8, 8, 4, 3),
    periodic: bool = False,
    seed: int = 3,
) -> Automaton:
    """An automaton with random wires."""
    shuffler = Shuffler(seed)
    return Automaton(
        channels=channels,
        kernels=kernels,
        periodic=periodic,
        perceive_wires=wiring.perception(perceive, shuffler=shuffler),
        update_wires=wiring.update(update, inputs=channels * (1 + kernels * perceive[-1]), shuffler=shuffler),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Random samples for an automaton, and what a step of it needs."""

    automaton: Automaton
    logits: F64
    x: F64
    y: F64
    fire: Bools | None
    steps: int

    def sample(self, number: int, *, dtype: str = "f64", backend: Backend | None = None) -> SampleResult:
        """Compute one sample."""
        return sample_gradients(
            automaton=self.automaton,
            parameters=Parameters(self.logits),
            x=self.x[number],
            y=self.y[number],
            loss_channels=np.arange(self.automaton.channels)[::2],
            steps=self.steps,
            fire=None if self.fire is None else self.fire[number],
            dtype=dtype,
            backend=backend,
        )

    def but(self, **changes: Any) -> Batch:
        """The same with other fields."""
        return dataclasses.replace(self, **changes)


def batch(
    *,
    of: Automaton | None = None,
    samples: int = 2,
    height: int = 5,
    width: int = 7,
    steps: int = 3,
    asynchronous: bool = False,
    bits: bool = False,
    seed: int = 1,
) -> Batch:
    """Random samples, in [0, 1] or 0 and 1, for an automaton with random logits."""
    of = automaton() if of is None else of
    random = np.random.default_rng(seed)
    shape = (samples, height, width, of.channels)
    x, y = random.random(shape), random.random(shape)
    return Batch(
        automaton=of,
        logits=random.normal(size=(of.gates, 16)),
        x=np.rint(x) if bits else x,
        y=np.rint(y),
        fire=random.random((samples, steps, height, width)) <= 0.6 if asynchronous else None,
        steps=steps,
    )
