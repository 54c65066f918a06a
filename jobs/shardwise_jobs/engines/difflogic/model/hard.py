"""The automaton after training: each gate is its strongest function, cells are bits, and 64 of them share a word."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .automaton import Automaton, Number
from .gates import TRUTH, Bools, Ints, Words
from .wiring import PATCH

WORD = 64


def forward(*, automaton: Automaton, table: Ints, functions: Ints, start: Bools, fire: Bools) -> Bools:
    """Roll out by the gates' truth tables, cell by cell: the form to read, and to hold the packed one against.

    Args:
        automaton: the circuits.
        table: what `neighbours` says, (9, cells + 1).
        functions: flat (gates,), numbers of the gates' functions.
        start: state (channels, cells + 1), its last column unset.
        fire: (steps, cells).

    Returns:
        The last state, (channels, cells + 1).
    """
    perceive, update = automaton.layers(functions)
    state = start
    for mask in fire:
        patches = state[:, table].transpose(1, 0, 2)
        features = _features(
            automaton,
            patches,
            [
                _looked_up(patches, automaton.perceive_wires, [layer[kernel] for layer in perceive])
                for kernel in range(automaton.kernels)
            ],
        )
        state = _replaced(state, _looked_up(features, automaton.update_wires, update), mask)
    return state


def packed_forward(*, automaton: Automaton, table: Ints, functions: Ints, start: Bools, fire: Bools) -> Bools:
    """Roll out as `forward` does, 64 cells at a time."""
    return kernels.hard_forward(automaton=automaton, table=table, functions=functions, start=start, fire=fire)


def pack(cells: Bools) -> Words:
    """Return bits (…, n) as words (…, ceil(n / 64)), the first cell lowest; what fills the last word is 0."""
    count = cells.shape[-1]
    filled = np.zeros((*cells.shape[:-1], -(-count // WORD) * WORD), dtype=np.bool_)
    filled[..., :count] = cells
    return np.packbits(filled, axis=-1, bitorder="little").view("<u8").astype(np.uint64)


def unpack(words: Words, *, count: int) -> Bools:
    """Return the first `count` bits (…, count) of words (…, n)."""
    raw = np.ascontiguousarray(words.astype("<u8")).view(np.uint8)
    return np.unpackbits(raw, axis=-1, count=count, bitorder="little").astype(np.bool_)


def _replaced(state: Bools, new: Bools, mask: Bools) -> Bools:
    replaced = state.copy()
    replaced[:, :-1] = np.where(mask, new[:, :-1], state[:, :-1])
    return replaced


def _features(automaton: Automaton, patches: NDArray[Number], kernels: list[NDArray[Number]]) -> NDArray[Number]:
    # Channel slowest, then output bit, then kernel.
    stacked = np.stack(kernels, axis=-1).transpose(1, 0, 3, 2)
    columns = patches.shape[-1]
    return np.concatenate([patches[PATCH // 2], stacked.reshape(-1, columns)])


def _looked_up(values: Bools, layers: tuple[Ints, ...], functions: list[Ints]) -> Bools:
    for wires, layer in zip(layers, functions, strict=True):
        place = 2 * values[wires[0]].astype(np.int64) + values[wires[1]]
        own = layer.reshape(-1, *[1] * (place.ndim - 1))
        values = TRUTH[own, place].astype(np.bool_)
    return values
