"""Which two outputs of the layer before each gate reads: drawn once, then fixed; only logits are trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shardwise.engine.errors import BadConfiguration

from .gates import Ints
from .rng import Shuffler

PATCH = 9
"""Cells of a 3x3 neighbourhood, row by row."""
CENTRE = 4


def first_kernel(*, gates: int, shuffler: Shuffler | None) -> Ints:
    """Return wires (2, gates) of the first perception layer: a is a neighbour, b always the centre.

    Args:
        gates: at most the eight neighbours there are.
        shuffler: None leaves the neighbours in their order.

    Raises:
        BadConfiguration: more gates than neighbours.
    """
    neighbours = np.array([place for place in range(PATCH) if place != CENTRE], dtype=np.int64)
    if not 1 <= gates <= len(neighbours):
        raise BadConfiguration(f"perception widths: the first is {gates}, and a cell has {len(neighbours)} neighbours")
    if shuffler is not None:
        neighbours = neighbours[shuffler.permutation(len(neighbours))]
    return np.stack([neighbours[:gates], np.full(gates, CENTRE, dtype=np.int64)])


def unique(*, inputs: int, gates: int, shuffler: Shuffler | None) -> Ints:
    """Return wires (2, gates) in which no pair comes twice: (0,1),(2,3),… then (1,2),(3,4),… then those farther apart.

    Raises:
        BadConfiguration: too few gates to read every input, or more than there are pairs.
    """
    if 2 * gates < inputs:
        raise BadConfiguration(f"widths: {gates} gates can't read {inputs} inputs")
    pairs = [(first, first + 1) for start in (0, 1) for first in range(start, inputs - 1, 2)]
    offset = 2
    while len(pairs) < gates and offset < inputs:
        pairs += [(first, first + offset) for first in range(inputs - offset)]
        offset += 1
    if len(pairs) < gates:
        raise BadConfiguration(f"widths: {inputs} inputs make {len(pairs)} pairs, too few for {gates} gates")
    wires = np.array(pairs[:gates], dtype=np.int64).T
    return wires if shuffler is None else wires[:, shuffler.permutation(gates)]


def perception(widths: Sequence[int], *, shuffler: Shuffler | None) -> tuple[Ints, ...]:
    """Return the wires of all perception layers; every kernel has the same."""
    layers = [first_kernel(gates=widths[0], shuffler=shuffler)]
    layers += _chain(widths[0], widths[1:], shuffler)
    return tuple(layers)


def update(widths: Sequence[int], *, inputs: int, shuffler: Shuffler | None) -> tuple[Ints, ...]:
    """Return the wires of all layers of the update circuit."""
    return tuple(_chain(inputs, widths, shuffler))


def _chain(inputs: int, widths: Sequence[int], shuffler: Shuffler | None) -> list[Ints]:
    layers = []
    for width in widths:
        layers.append(unique(inputs=inputs, gates=width, shuffler=shuffler))
        inputs = width
    return layers
