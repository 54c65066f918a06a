"""One training step of a batch: samples side by side or one after another, sums that do not notice, one update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from shardwise.engine.errors import BadConfiguration

from .fixed_point import MOST_SAMPLES, from_integers, to_integers
from .gates import F64, Ints
from .logits import logit_gradient
from .optimizer import Settings, State, advance
from .sample import Parameters, SampleResult

Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True, eq=False)
class BatchSum:
    """Sums over samples as whole numbers: of any samples in any order, and of other such sums."""

    gates: int
    words: Ints = field(init=False)
    """(gates * 4 + 3, 2): the four sums of every gate, the soft loss, the hard loss, the right bits of the hard
    rollouts. Add by integers, anywhere."""
    samples: int = 0

    def __post_init__(self) -> None:
        self.words = np.zeros((self.gates * 4 + 3, 2), dtype=np.int64)

    def add(self, result: SampleResult) -> None:
        """Add a sample.

        Raises:
            BadInput: it holds something not finite.
            BadConfiguration: more samples than an exact sum can hold.
        """
        self._count(1)
        numbers = np.concatenate([result.sums.ravel(), [result.soft_loss, result.hard_loss, result.right]])
        self.words += to_integers(numbers, what="sums of gradients or losses")

    def merge(self, other: BatchSum) -> None:
        """Add another group of samples. Raises BadConfiguration as `add`."""
        self._count(other.samples)
        self.words += other.words

    def _count(self, samples: int) -> None:
        self.samples += samples
        if self.samples > MOST_SAMPLES:
            raise BadConfiguration(f"batchSize: an exact sum holds at most {MOST_SAMPLES} samples")

    @property
    def sums(self) -> F64:
        """Per gate the sums of g, ga, gb, gab over the batch, (gates, 4)."""
        return from_integers(self.words[:-3]).reshape(self.gates, 4)

    @property
    def soft_loss(self) -> float:
        """Of the batch: a sum, no mean."""
        return float(from_integers(self.words[-3]))

    @property
    def hard_loss(self) -> float:
        """Of the batch: a sum, no mean."""
        return float(from_integers(self.words[-2]))

    @property
    def right(self) -> int:
        """Bits of the loss channels that the hard rollouts got right."""
        return int(from_integers(self.words[-1]))


def computed(work: Sequence[Callable[[], Result]], *, workers: int) -> Iterable[Result]:
    """Yield results in their order, at most `workers` in flight; 1 computes them one after another here."""
    if workers <= 1 or len(work) <= 1:
        yield from (one() for one in work)
        return
    with ThreadPoolExecutor(max_workers=workers) as pool:
        yield from pool.map(lambda one: one(), work)


def gradient_of(batch: BatchSum, *, parameters: Parameters) -> F64:
    """Return dL/dz (gates, 16) of a batch, before clipping."""
    return logit_gradient(weights=parameters.weights, sums=batch.sums)


def update(state: State, batch: BatchSum, *, parameters: Parameters, settings: Settings) -> State:
    """Return the state after the optimiser step of a batch whose samples were computed with `parameters`."""
    return advance(state, gradient_of(batch, parameters=parameters), settings=settings)
