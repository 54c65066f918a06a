"""The computation in plain numpy, to be read: the compiled kernels give the same bits, and tests hold them to it.

Arrays have a row per channel, gate or feature and a column per cell; states (channels, cells + 1) end in the column of
what lies outside, always zero. Cells are worked on in chunks of up to 64. In a sum over a chunk, its columns stand in
rows of eight which are added one after another, and the eight sums that remain by halves: an order that a vector unit
can keep without anyone reassociating additions. Chunks are added in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .automaton import Automaton
from .gates import F64, Bools, Floats, Ints
from .wiring import PATCH

CHUNK = 64
LANES = 8


def forward(*, automaton: Automaton, table: Ints, coefficients: Floats, start: Floats, fire: Bools) -> Floats:
    """Roll out an automaton.

    Args:
        automaton: the circuits.
        table: what `neighbours` says, (9, cells + 1).
        coefficients: flat (gates, 4), in the dtype to compute in.
        start: state (channels, cells + 1) of that dtype.
        fire: (steps, cells), which cells take their new state.

    Returns:
        All states, (steps + 1, channels, cells + 1).
    """
    states = np.zeros((len(fire) + 1, *start.shape), dtype=start.dtype)
    states[0] = start
    for step, mask in enumerate(fire):
        states[step + 1] = states[step]
        for cells, real in chunks(mask):
            pass_ = _Pass(automaton, coefficients, _patches(states[step], table, cells))
            states[step + 1][:, cells[:real]] = pass_.output[:, :real]
    return states


def backward(
    *, automaton: Automaton, table: Ints, coefficients: Floats, states: Floats, fire: Bools, gradient: Floats
) -> tuple[F64, Floats]:
    """Carry dL/d(last state) back through time, doing each chunk's forward pass anew.

    Args:
        automaton, table, coefficients, fire: as for `forward`.
        states: what `forward` returned.
        gradient: (channels, cells + 1), its last column zero.

    Returns:
        Per gate the sums of g, ga, gb, gab over cells and steps, flat (gates, 4) in float64; and dL/d(first state),
        (channels, cells + 1).
    """
    sums = np.zeros((automaton.gates, 4))
    for step in range(len(fire) - 1, -1, -1):
        by_patch = np.zeros((PATCH, *gradient.shape), dtype=gradient.dtype)
        before = gradient.copy()
        for cells, real in chunks(fire[step]):
            pass_ = _Pass(automaton, coefficients, _patches(states[step], table, cells))
            patches, own = pass_.back(gradient[:, cells], sums)
            by_patch[:, :, cells[:real]] = patches[:, :, :real]
            before[:, cells[:real]] = own[:, :real]
        for place in range(PATCH):
            before += by_patch[place][:, table[PATCH - 1 - place]]
        before[:, -1] = 0
        gradient = before
    return sums, gradient


def chunks(mask: Bools) -> Iterator[tuple[Ints, int]]:
    """Yield the numbers of the cells set in `mask`, up to 64 at a time, and how many of them are real.

    They are filled up to a multiple of eight with the cell that stands for nothing: it adds zeros to any sum.
    """
    fired = np.flatnonzero(mask)
    for first in range(0, len(fired), CHUNK):
        cells = fired[first : first + CHUNK]
        filled = np.full(-(-len(cells) // LANES) * LANES, len(mask), dtype=np.int64)
        filled[: len(cells)] = cells
        yield filled, len(cells)


def _patches(state: Floats, table: Ints, cells: Ints) -> Floats:
    """Return the neighbourhoods (9, channels, n) of cells."""
    return state[:, table[:, cells]].transpose(1, 0, 2)


def chunk_sums(values: Floats) -> Floats:
    """Sum the last axis, a multiple of eight long, in the order of this computation."""
    rows = values.reshape(*values.shape[:-1], -1, LANES)
    total = rows[..., 0, :]
    for row in range(1, rows.shape[-2]):
        total = total + rows[..., row, :]
    for width in (4, 2, 1):
        total = total[..., :width] + total[..., width:]
    return total[..., 0]


class _Pass:
    """One forward pass over a chunk of n cells, which remembers what its way back needs."""

    def __init__(self, automaton: Automaton, coefficients: Floats, patches: Floats) -> None:
        self._automaton = automaton
        self._perceive, self._update = automaton.layers(coefficients)
        self._kernels = [self._perceived(kernel, patches) for kernel in range(automaton.kernels)]
        channels, columns = patches.shape[1:]
        features = np.empty((automaton.features, columns), dtype=patches.dtype)
        features[:channels] = patches[PATCH // 2]
        for kernel, values in enumerate(self._kernels):
            _of_kernel(features, automaton, kernel)[:] = values[-1].transpose(1, 0, 2)
        self._values = [features]
        for wires, layer in zip(automaton.update_wires, self._update, strict=True):
            self._values.append(_mix(self._values[-1], wires, layer))
        self.output = self._values[-1]

    def _perceived(self, kernel: int, patches: Floats) -> list[Floats]:
        values = [patches]
        for wires, layer in zip(self._automaton.perceive_wires, self._perceive, strict=True):
            values.append(_mix(values[-1], wires, layer[kernel]))
        return values

    def back(self, gradient: Floats, sums: F64) -> tuple[Floats, Floats]:
        """Add to `sums` (gates, 4); return dL/d(patches) (9, channels, n) and dL/d(own state) (channels, n)."""
        automaton = self._automaton
        perceive_sums, update_sums = automaton.layers(sums)
        for index in range(len(automaton.update_wires) - 1, -1, -1):
            wires, layer, values = automaton.update_wires[index], self._update[index], self._values[index]
            gradient, layer_sums = _mix_back(gradient, values, wires, layer)
            update_sums[index] += layer_sums
        patches = np.zeros_like(self._kernels[0][0])
        for kernel in range(automaton.kernels):
            by_values = _of_kernel(gradient, automaton, kernel).transpose(1, 0, 2)
            for index in range(len(automaton.perceive_wires) - 1, -1, -1):
                wires, layer = automaton.perceive_wires[index], self._perceive[index][kernel]
                by_values, layer_sums = _mix_back(by_values, self._kernels[kernel][index], wires, layer)
                for channel in range(automaton.channels):
                    perceive_sums[index][kernel] += layer_sums[:, channel]
            patches += by_values
        return patches, gradient[: automaton.channels]


def _of_kernel(features: Floats, automaton: Automaton, kernel: int) -> Floats:
    """Return a view (channels, output bits, n) of one kernel's features."""
    columns = features.shape[-1]
    return features[automaton.channels :].reshape(automaton.channels, -1, automaton.kernels, columns)[:, :, kernel]


def _mix(values: Floats, wires: Ints, coefficients: Floats) -> Floats:
    """Return a layer's outputs (gates, …) for inputs (inputs, …) and coefficients (gates, 4)."""
    a, b = values[wires[0]], values[wires[1]]
    c0, c1, c2, c3 = _columns(coefficients, a.ndim)
    mixed: Floats = (c0 + c1 * a) + (c2 + c3 * a) * b
    return mixed


def _mix_back(gradient: Floats, values: Floats, wires: Ints, coefficients: Floats) -> tuple[Floats, Floats]:
    """Return dL/d(inputs) (inputs, …) and per gate the sums of g, ga, gb, gab over columns, (gates, …, 4)."""
    a, b = values[wires[0]], values[wires[1]]
    _, c1, c2, c3 = _columns(coefficients, a.ndim)
    by_a, by_b = gradient * (c1 + c3 * b), gradient * (c2 + c3 * a)
    by_values = np.zeros_like(values)
    for gate in range(wires.shape[1] - 1, -1, -1):
        by_values[wires[0, gate]] += by_a[gate]
        by_values[wires[1, gate]] += by_b[gate]
    ga = gradient * a
    terms = [chunk_sums(term) for term in (gradient, ga, gradient * b, ga * b)]
    return by_values, np.stack(terms, axis=-1)


def _columns(coefficients: Floats, dimensions: int) -> list[Floats]:
    shape = (len(coefficients), *[1] * (dimensions - 1))
    return [coefficients[:, term].reshape(shape) for term in range(4)]
