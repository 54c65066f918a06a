"""The computation of `twin`, compiled: the same operations in the same order, so the same bits on every processor.

Compiled without fast-math and with no contraction, so that nothing is reassociated and no product is fused with an
addition. A circuit is one list of gates over one array of rows: its inputs, then each gate's output; layers show in
the wires alone. Kernels hold no lock of Python's, so that threads may work on samples side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba
import numpy as np

from .automaton import Automaton
from .gates import F64, Bools, Floats, Ints, Words
from .twin import CHUNK, LANES

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def forward(*, automaton: Automaton, table: Ints, coefficients: Floats, start: Floats, fire: Bools) -> Floats:
    """Roll out an automaton; arguments and result as `twin.forward`."""
    states = np.zeros((len(fire) + 1, *start.shape), dtype=start.dtype)
    states[0] = start
    _rollout(states, fire, table, *_circuits(automaton, coefficients))
    return states


def backward(
    *, automaton: Automaton, table: Ints, coefficients: Floats, states: Floats, fire: Bools, gradient: Floats
) -> tuple[F64, Floats]:
    """Carry a gradient back through time; arguments and result as `twin.backward`."""
    circuits = _circuits(automaton, coefficients)
    perceive_sums = np.zeros((*circuits[1].shape[:2], 4))
    update_sums = np.zeros((len(circuits[3]), 4))
    carried = np.ascontiguousarray(gradient, dtype=states.dtype).copy()
    _back_through_time(states, fire, table, *circuits, carried, perceive_sums, update_sums)
    ends = np.cumsum(automaton.perceive_widths)[:-1]
    return automaton.flat(np.split(perceive_sums, ends, axis=1), [update_sums]), carried


def through_words(*, values: Words, rows: Ints, masks: Words, outputs: int) -> Words:
    """Return what a circuit makes of bits, 64 to a word.

    Args:
        values: (inputs, words).
        rows: the circuit's wires as numbers of rows, (2, gates).
        masks: per gate k0..k3, 0 or all ones, (gates, 4): out = k0 ^ (k1 & a) ^ (k2 & b) ^ (k3 & a & b).
        outputs: how many of the last gates are its outputs.

    Returns:
        (outputs, words).
    """
    found = np.empty((len(values) + rows.shape[1], values.shape[1]), dtype=np.uint64)
    found[: len(values)] = values
    _words(found, len(values), rows, np.ascontiguousarray(masks))
    return found[-outputs:]


def _circuits(automaton: Automaton, coefficients: Floats) -> tuple[Ints, Floats, Ints, Floats, int]:
    """Return wires and coefficients (kernels, gates, 4) of perception, those of update, a kernel's output bits."""
    perceive, update = automaton.layers(coefficients)
    return (
        automaton.perceive_rows,
        np.ascontiguousarray(np.concatenate(perceive, axis=1)),
        automaton.update_rows,
        np.ascontiguousarray(np.concatenate(update, axis=0)),
        automaton.perceive_widths[-1],
    )


def _compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    try:
        made = numba.njit(cache=True, nogil=True, fastmath=False)(function)
    except RuntimeError:
        # Neither beside this file nor in a home can anything be written: compiled anew by each process, then.
        made = numba.njit(nogil=True, fastmath=False)(function)
    return cast("Callable[Arguments, Result]", made)


@_compiled
def _gates(values: Floats, inputs: int, wires: Ints, coefficients: Floats, columns: int) -> None:
    """Write the rows of all gates of a circuit, its inputs' rows being there."""
    for gate in range(wires.shape[1]):
        c0, c1 = coefficients[gate, 0], coefficients[gate, 1]
        c2, c3 = coefficients[gate, 2], coefficients[gate, 3]
        a, b, out = values[wires[0, gate]], values[wires[1, gate]], values[inputs + gate]
        for cell in range(columns):
            out[cell] = (c0 + c1 * a[cell]) + (c2 + c3 * a[cell]) * b[cell]


@_compiled
def _words(values: Words, inputs: int, rows: Ints, masks: Words) -> None:
    for gate in range(rows.shape[1]):
        k0, k1, k2, k3 = masks[gate, 0], masks[gate, 1], masks[gate, 2], masks[gate, 3]
        a, b, out = values[rows[0, gate]], values[rows[1, gate]], values[inputs + gate]
        for word in range(values.shape[1]):
            out[word] = (k0 ^ (k1 & a[word])) ^ ((k2 ^ (k3 & a[word])) & b[word])


@_compiled
def _gates_back(
    values: Floats,
    grads: Floats,
    inputs: int,
    wires: Ints,
    coefficients: Floats,
    columns: int,
    terms: Floats,
    sums: F64,
) -> None:
    """Carry gradients from the last gate to the inputs, adding each gate's four sums to `sums`.

    Rows of `grads` are zero but for the gates nobody in the circuit reads.
    """
    for gate in range(wires.shape[1] - 1, -1, -1):
        c1, c2, c3 = coefficients[gate, 1], coefficients[gate, 2], coefficients[gate, 3]
        a, b, g = values[wires[0, gate]], values[wires[1, gate]], grads[inputs + gate]
        by_a, by_b = grads[wires[0, gate]], grads[wires[1, gate]]
        for cell in range(columns):
            by_a[cell] += g[cell] * (c1 + c3 * b[cell])
            by_b[cell] += g[cell] * (c2 + c3 * a[cell])
        for lane in range(8):
            ga = g[lane] * a[lane]
            terms[0, lane] = g[lane]
            terms[1, lane] = ga
            terms[2, lane] = g[lane] * b[lane]
            terms[3, lane] = ga * b[lane]
        for start in range(8, columns, 8):
            for lane in range(8):
                cell = start + lane
                ga = g[cell] * a[cell]
                terms[0, lane] += g[cell]
                terms[1, lane] += ga
                terms[2, lane] += g[cell] * b[cell]
                terms[3, lane] += ga * b[cell]
        for term in range(4):
            t = terms[term]
            sums[gate, term] += ((t[0] + t[4]) + (t[2] + t[6])) + ((t[1] + t[5]) + (t[3] + t[7]))


@_compiled
def _perceive(
    values: Floats, own: Floats, features: Floats, wires: Ints, coefficients: Floats, columns: int, bits: int
) -> None:
    """From neighbourhoods in values (channels, kernels, 9 + gates, n), compute perception and lay out the features."""
    channels, kernels = values.shape[0], values.shape[1]
    first = 9 + wires.shape[1] - bits
    for channel in range(channels):
        features[channel, :columns] = own[channel, :columns]
        for kernel in range(kernels):
            _gates(values[channel, kernel], 9, wires, coefficients[kernel], columns)
            for bit in range(bits):
                row = channels + (channel * bits + bit) * kernels + kernel
                features[row, :columns] = values[channel, kernel, first + bit, :columns]


@_compiled
def _gather(values: Floats, own: Floats, state: Floats, table: Ints, cells: Ints, columns: int) -> None:
    """Lay the neighbourhoods of cells before every channel's kernels."""
    for channel in range(values.shape[0]):
        for place in range(9):
            for cell in range(columns):
                values[channel, 0, place, cell] = state[channel, table[place, cells[cell]]]
        for kernel in range(1, values.shape[1]):
            values[channel, kernel, :9, :columns] = values[channel, 0, :9, :columns]
        own[channel, :columns] = values[channel, 0, 4, :columns]


@_compiled
def _chunk(fired: Ints, first: int, nothing: int, cells: Ints) -> int:
    """Write up to 64 numbers of fired cells, filled up to a multiple of eight; return how many are real."""
    real: int = min(CHUNK, fired.shape[0] - first)
    for cell in range(real):
        cells[cell] = fired[first + cell]
    for cell in range(real, (real + LANES - 1) // LANES * LANES):
        cells[cell] = nothing
    return real


@_compiled
def _rollout(
    states: Floats, fire: Bools, table: Ints, p_wires: Ints, p: Floats, u_wires: Ints, u: Floats, bits: int
) -> None:
    channels, nothing = states.shape[1], states.shape[2] - 1
    kernels, inputs = p.shape[0], channels * (1 + p.shape[0] * bits)
    values = np.empty((channels, kernels, 9 + p_wires.shape[1], CHUNK), dtype=states.dtype)
    own = np.empty((channels, CHUNK), dtype=states.dtype)
    update = np.empty((inputs + u_wires.shape[1], CHUNK), dtype=states.dtype)
    cells = np.empty(CHUNK, dtype=np.int64)
    outputs = update.shape[0] - channels
    for step in range(fire.shape[0]):
        states[step + 1] = states[step]
        fired = np.flatnonzero(fire[step])
        for first in range(0, fired.shape[0], CHUNK):
            real = _chunk(fired, first, nothing, cells)
            columns = (real + LANES - 1) // LANES * LANES
            _gather(values, own, states[step], table, cells, columns)
            _perceive(values, own, update, p_wires, p, columns, bits)
            _gates(update, inputs, u_wires, u, columns)
            for channel in range(channels):
                for cell in range(real):
                    states[step + 1, channel, cells[cell]] = update[outputs + channel, cell]


@_compiled
def _back_through_time(
    states: Floats,
    fire: Bools,
    table: Ints,
    p_wires: Ints,
    p: Floats,
    u_wires: Ints,
    u: Floats,
    bits: int,
    gradient: Floats,
    p_sums: F64,
    u_sums: F64,
) -> None:
    """Turn `gradient` of the last state into that of the first, adding to the gates' sums."""
    channels, nothing = states.shape[1], states.shape[2] - 1
    kernels, inputs = p.shape[0], channels * (1 + p.shape[0] * bits)
    values = np.empty((channels, kernels, 9 + p_wires.shape[1], CHUNK), dtype=states.dtype)
    own = np.empty((channels, CHUNK), dtype=states.dtype)
    update = np.empty((inputs + u_wires.shape[1], CHUNK), dtype=states.dtype)
    p_grads = np.zeros((9 + p_wires.shape[1], CHUNK), dtype=states.dtype)
    u_grads = np.zeros((inputs + u_wires.shape[1], CHUNK), dtype=states.dtype)
    terms = np.empty((4, LANES), dtype=states.dtype)
    cells = np.empty(CHUNK, dtype=np.int64)
    by_patch = np.zeros((9, channels, nothing + 1), dtype=states.dtype)
    before = np.empty_like(gradient)
    u_out, p_out = update.shape[0] - channels, p_grads.shape[0] - bits
    for step in range(fire.shape[0] - 1, -1, -1):
        before[:] = gradient
        by_patch[:] = 0
        fired = np.flatnonzero(fire[step])
        for first in range(0, fired.shape[0], CHUNK):
            real = _chunk(fired, first, nothing, cells)
            columns = (real + LANES - 1) // LANES * LANES
            _gather(values, own, states[step], table, cells, columns)
            _perceive(values, own, update, p_wires, p, columns, bits)
            _gates(update, inputs, u_wires, u, columns)
            u_grads[:, :columns] = 0
            for channel in range(channels):
                for cell in range(columns):
                    u_grads[u_out + channel, cell] = gradient[channel, cells[cell]]
            _gates_back(update, u_grads, inputs, u_wires, u, columns, terms, u_sums)
            for channel in range(channels):
                for cell in range(real):
                    before[channel, cells[cell]] = u_grads[channel, cell]
                for kernel in range(kernels):
                    p_grads[:p_out, :columns] = 0
                    for bit in range(bits):
                        row = channels + (channel * bits + bit) * kernels + kernel
                        p_grads[p_out + bit, :columns] = u_grads[row, :columns]
                    _gates_back(values[channel, kernel], p_grads, 9, p_wires, p[kernel], columns, terms, p_sums[kernel])
                    for place in range(9):
                        for cell in range(real):
                            by_patch[place, channel, cells[cell]] += p_grads[place, cell]
        for channel in range(channels):
            for place in range(9):
                for cell in range(nothing):
                    before[channel, cell] += by_patch[place, channel, table[8 - place, cell]]
        gradient[:] = before
