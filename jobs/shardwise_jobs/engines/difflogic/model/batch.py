"""A batch's share of one process: the samples it is given, computed side by side, as one exact sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadInput

from . import kernels
from .automaton import Automaton, neighbours
from .gates import Bools, Floats, Ints
from .sample import DTYPES, Parameters
from .step import BatchSum, computed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """An initial grid, its target and its fire mask."""

    x: NDArray[np.uint8]
    """(height, width, channels) of 0 and 1."""
    y: NDArray[np.uint8]
    fire: Bools | None = None
    """(steps, height, width), which cells take their new state; None: all."""


def batch_sum(
    *,
    automaton: Automaton,
    parameters: Parameters,
    samples: Sequence[Sample],
    loss_channels: Ints,
    steps: int,
    dtype: str,
    workers: int = 1,
    chunk: int | None = None,
) -> BatchSum:
    """Return the sums of samples: the same bits for any number of workers and any size of chunks.

    Args:
        automaton: the circuits.
        parameters: of all gates.
        samples: any number of any batch's, all of one shape.
        loss_channels: those that count.
        steps: how many the automaton takes.
        dtype: f32 or f64, to compute in.
        workers: samples computed at the same time, at most.
        chunk: samples between which workers wait for each other; None: all.

    Raises:
        BadInput: a loss or a gradient is not finite.
        BadConfiguration: more samples than an exact sum can hold.
    """
    total = BatchSum(gates=automaton.gates)
    if not samples:
        return total
    size = len(samples) if chunk is None else max(chunk, 1)
    for first in range(0, len(samples), size):
        group = samples[first : first + size]
        shares = [group[len(group) * part // workers : len(group) * (part + 1) // workers] for part in range(workers)]
        work = [
            partial(
                _summed, automaton=automaton, parameters=parameters, samples=share, loss_channels=loss_channels,
                steps=steps, dtype=dtype,
            )
            for share in shares
            if share
        ]  # fmt: skip
        for result in computed(work, workers=workers):
            total.merge(result)
    return total


def _summed(
    *,
    automaton: Automaton,
    parameters: Parameters,
    samples: Sequence[Sample],
    loss_channels: Ints,
    steps: int,
    dtype: str,
) -> BatchSum:
    height, width, _ = samples[0].x.shape
    fire = None
    if any(sample.fire is not None for sample in samples):
        everyone = np.ones((steps, height, width), dtype=np.bool_)
        masks = [everyone if sample.fire is None else sample.fire for sample in samples]
        fire = np.stack(masks).reshape(len(samples), steps, -1)
    found = kernels.samples(
        automaton=automaton,
        table=neighbours(height=height, width=width, periodic=automaton.periodic),
        coefficients=parameters.coefficients,
        functions=parameters.functions,
        starts=_states([sample.x for sample in samples], dtype),
        targets=_states([sample.y for sample in samples], dtype),
        loss_channels=loss_channels,
        fire=fire,
        steps=steps,
    )
    if found.failed is not None:
        raise BadInput("a gradient or a loss is not a finite number below 2**30; the training has diverged")
    total = BatchSum(gates=automaton.gates)
    total.words += found.words
    total.samples = len(samples)
    return total


def _states(grids: Sequence[NDArray[np.uint8]], dtype: str) -> Floats:
    stacked = np.stack(grids)
    samples, height, width, channels = stacked.shape
    states = np.zeros((samples, channels, height * width + 1), dtype=DTYPES[dtype])
    states[:, :, :-1] = stacked.reshape(samples, -1, channels).transpose(0, 2, 1)
    return states
