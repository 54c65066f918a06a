"""The computation in plain numpy, to be read: the compiled kernels give the same bits, and tests hold them to it.

Arrays have a row per channel, gate or input and a column per cell; states (channels, cells + 1) end in the column of
what lies outside, always zero. Cells are worked on in chunks of 32, filled up with that column. A sum over a chunk adds
its second half to its first, and so on: an order that a vector unit can keep without anyone reassociating additions.
Chunks are added in float64, one after another. Gradients begin as -0.0: adding that leaves any number as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import hard
from .automaton import Automaton
from .circuit import Circuit
from .gates import F64, FORMS, Bools, Floats, Ints, halved, in_single_precision
from .llvm_kernels import CHUNK
from .wiring import PATCH


def sample(
    *,
    automaton: Automaton,
    table: Ints,
    coefficients: F64,
    functions: Ints,
    start: Floats,
    target: Floats,
    loss_channels: Ints,
    fire: Bools,
) -> tuple[F64, Floats, Floats]:
    """Roll a sample out softly and hard, and carry the soft loss back.

    Args:
        automaton: the circuits.
        table: what `neighbours` says, (9, cells + 1).
        coefficients: of the soft gates, flat (gates, 4).
        functions: numbers of the hard gates' functions, flat (gates,).
        start: state (channels, cells + 1) of the dtype to compute in.
        target: of the same shape and dtype.
        loss_channels: those that count.
        fire: (steps, cells), which cells take their new state.

    Returns:
        Per gate the sums of g, ga, gb, gab over cells and steps, flat (gates, 4); the last soft and hard state.
    """
    dtype = start.dtype
    soft = coefficients if dtype == np.float64 else in_single_precision(coefficients)
    states = forward(automaton=automaton, table=table, coefficients=soft, start=start, fire=fire)
    gradient = np.zeros_like(start)
    gradient[loss_channels] = 2 * (states[-1] - target)[loss_channels]
    sums, _ = backward(automaton=automaton, table=table, coefficients=soft, states=states, fire=fire, gradient=gradient)
    if np.isin(start, (0, 1)).all():
        last = hard.forward(automaton=automaton, table=table, functions=functions, start=start == 1, fire=fire)
        return sums, states[-1], last.astype(dtype)
    # Not bits: the strongest functions are taken in their relaxed form.
    certain = FORMS[functions].astype(dtype)
    relaxed = forward(automaton=automaton, table=table, coefficients=certain, start=start, fire=fire)
    return sums, states[-1], relaxed[-1]


def forward(*, automaton: Automaton, table: Ints, coefficients: Floats, start: Floats, fire: Bools) -> Floats:
    """Roll out an automaton.

    Args:
        automaton, table, start, fire: as for `sample`.
        coefficients: flat (gates, 4), in the dtype to compute in.

    Returns:
        All states, (steps + 1, channels, cells + 1).
    """
    states = np.zeros((len(fire) + 1, *start.shape), dtype=start.dtype)
    states[0] = start
    for step, mask in enumerate(fire):
        states[step + 1] = states[step]
        for cells, real in chunks(mask):
            rows = _rows(automaton.circuit, coefficients, states[step][:, table[:, cells]])
            states[step + 1][:, cells[:real]] = rows[-automaton.channels :, :real]
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
    circuit = automaton.circuit
    sums = np.zeros((automaton.gates, 4))
    for step in range(len(fire) - 1, -1, -1):
        by_patch = np.zeros((automaton.channels, PATCH, gradient.shape[1]), dtype=gradient.dtype)
        before = gradient.copy()
        before[:, :-1][:, fire[step]] = 0
        for cells, real in chunks(fire[step]):
            rows = _rows(circuit, coefficients, states[step][:, table[:, cells]])
            slopes = _slopes(circuit, coefficients, rows, gradient[:, cells], sums)
            by_patch[:, :, cells[:real]] = slopes.reshape(automaton.channels, PATCH, -1)[:, :, :real]
        for place in range(PATCH):
            before += by_patch[:, place][:, table[PATCH - 1 - place]]
        before[:, -1] = 0
        gradient = before
    return sums, gradient


def chunks(mask: Bools) -> Iterator[tuple[Ints, int]]:
    """Yield the numbers of the cells set in `mask`, a chunk at a time, and how many of them are real.

    They are filled up with the cell that stands for nothing: it adds zeros to any sum.
    """
    fired = np.flatnonzero(mask)
    for first in range(0, len(fired), CHUNK):
        cells = fired[first : first + CHUNK]
        filled = np.full(CHUNK, len(mask), dtype=np.int64)
        filled[: len(cells)] = cells
        yield filled, len(cells)


def _rows(circuit: Circuit, coefficients: Floats, patches: Floats) -> Floats:
    """Return the inputs and every gate's output (rows, n) for neighbourhoods (channels, 9, n)."""
    rows = np.empty((circuit.rows, patches.shape[2]), dtype=patches.dtype)
    rows[: circuit.inputs] = patches.reshape(circuit.inputs, -1)
    for gate in range(circuit.gates):
        a, b = rows[circuit.wires[:, gate]]
        c0, c1, c2, c3 = coefficients[circuit.parameters[gate]]
        rows[circuit.inputs + gate] = (c0 + c1 * a) + (c2 + c3 * a) * b
    return rows


def _slopes(circuit: Circuit, coefficients: Floats, rows: Floats, gradient: Floats, sums: F64) -> Floats:
    """Return dL/d(inputs) (inputs, n) for dL/d(outputs) (outputs, n), adding each gate's sums to `sums`."""
    slopes = np.full_like(rows, -0.0)
    slopes[-circuit.outputs :] = gradient
    for gate in range(circuit.gates - 1, -1, -1):
        first, second = circuit.wires[:, gate]
        a, b, g = rows[first], rows[second], slopes[circuit.inputs + gate]
        _, c1, c2, c3 = coefficients[circuit.parameters[gate]]
        slopes[first] += g * (c1 + c3 * b)
        slopes[second] += g * (c2 + c3 * a)
        ga = g * a
        sums[circuit.parameters[gate]] += halved(np.stack([g, ga, g * b, ga * b]))
    return slopes[: circuit.inputs]
