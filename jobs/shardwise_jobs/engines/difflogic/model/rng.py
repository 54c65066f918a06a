"""Random numbers that belong to a place, not to a moment: any process can draw any sample's numbers anew.

Philox 4x64 with key (seed, stream) and counter (0, sample, step, 0). Only its raw words are used; the step from words
to uniforms and permutations is written here, because libraries promise the stability of raw words alone.

Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from .gates import F64, Bools, Ints

FIRE_RATE = 0.6
"""Share of cells that an asynchronous step replaces."""


class Stream(IntEnum):
    """What numbers are for; each has a stream of its own."""

    WIRING = 0
    DATA = 1
    FIRE = 2
    EVALUATION = 3


def words(count: int, *, seed: int, stream: Stream, sample: int = 0, step: int = 0) -> NDArray[np.uint64]:
    """Return `count` words of 64 random bits; seed, sample and step are below 2**64."""
    return np.atleast_1d(_source(seed=seed, stream=stream, sample=sample, step=step).random_raw(count))


def uniforms(count: int, *, seed: int, stream: Stream, sample: int = 0, step: int = 0) -> F64:
    """Return `count` numbers in [0, 1), multiples of 2**-53."""
    raw = words(count, seed=seed, stream=stream, sample=sample, step=step)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bits(count: int, *, seed: int, stream: Stream, sample: int = 0, step: int = 0) -> Bools:
    """Return `count` fair bits: the highest of each word."""
    raw = words(count, seed=seed, stream=stream, sample=sample, step=step)
    return (raw >> np.uint64(63)).astype(np.bool_)


def below(limit: int, count: int, *, seed: int, stream: Stream, sample: int = 0, step: int = 0) -> Ints:
    """Return `count` whole numbers in [0, limit), limit at most 2**32."""
    raw = words(count, seed=seed, stream=stream, sample=sample, step=step)
    # The high half times the limit, without its low half: biased by less than limit / 2**32.
    return (((raw >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)


def fire_masks(
    *, steps: int, height: int, width: int, seed: int, sample: int, step: int, rate: float = FIRE_RATE
) -> Bools:
    """Return which cells fire, (steps, height, width), in one sample's rollout at one optimiser step."""
    drawn = uniforms(steps * height * width, seed=seed, stream=Stream.FIRE, sample=sample, step=step)
    return (drawn <= rate).reshape(steps, height, width)


class Shuffler:
    """Permutations for wiring, from one sequence of words: its user asks for them in the order of the layers."""

    def __init__(self, seed: int) -> None:
        self._source = _source(seed=seed, stream=Stream.WIRING, sample=0, step=0)

    def permutation(self, length: int) -> Ints:
        """Return the numbers below `length` in a random order."""
        raw = np.atleast_1d(self._source.random_raw(length))
        return np.argsort(raw, kind="stable").astype(np.int64)


def _source(*, seed: int, stream: Stream, sample: int, step: int) -> np.random.Philox:
    key = np.array([seed, stream], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, sample, step, 0], dtype=np.uint64))
