"""The computation of `reference`, compiled, as the rest of the engine calls it: whole batches, and single rollouts.

Room to work in is kept from one call to the next: asking for it anew would cost as much as a small batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import jit_kernels
from .automaton import Automaton
from .circuit import Circuit
from .gates import F64, FORMS, TRUTH, Bools, Floats, Ints, Words, in_single_precision
from .llvm_kernels import ALIGNMENT, CHUNK, WORDS

WORD = 64
"""Cells in a word."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """What a batch's samples came to."""

    words: Ints
    """Exact sums (gates * 4 + 3, 2), as `BatchSum.words`."""
    failed: int | None
    """The first sample with a sum that is not finite or too large; after it, nothing was computed."""
    last_soft: Floats
    """Last states, (samples, channels, cells + 1)."""
    last_hard: Floats
    sums: F64
    """Per gate the sums of g, ga, gb, gab of the last sample, (gates, 4)."""


def samples(
    *,
    automaton: Automaton,
    table: Ints,
    coefficients: F64,
    functions: Ints,
    starts: Floats,
    targets: Floats,
    loss_channels: Ints,
    fire: Bools | None,
    steps: int,
) -> Results:
    """Compute gradients and losses of samples, each for itself, and their exact sum.

    Args:
        automaton: the circuits.
        table: what `neighbours` says, (9, cells + 1).
        coefficients: of the soft gates, flat (gates, 4).
        functions: numbers of the hard gates' functions, flat (gates,).
        starts: states (samples, channels, cells + 1) of the dtype to compute in.
        targets: of the same shape and dtype.
        loss_channels: those that count.
        fire: (samples, steps, cells); None: everyone fires.
        steps: how many the automaton takes.
    """
    circuit, dtype = automaton.circuit, starts.dtype
    room = Room.taken(automaton, cells=starts.shape[2] - 1, steps=steps, dtype=dtype)
    found = Results(
        words=np.zeros((automaton.gates * 4 + 3, 2), dtype=np.int64),
        failed=None,
        last_soft=np.zeros_like(starts),
        last_hard=np.zeros_like(starts),
        sums=np.zeros((automaton.gates, 4)),
    )
    soft = coefficients if dtype == np.float64 else in_single_precision(coefficients)
    bits = ((starts == 0) | (starts == 1)).all(axis=(1, 2))
    masks = np.zeros((1, steps, starts.shape[2] - 1), dtype=np.bool_) if fire is None else np.ascontiguousarray(fire)
    failed = jit_kernels.batch(
        starts, targets,
        masks, fire is None, bits,
        np.ascontiguousarray(loss_channels, dtype=np.int64), table,
        circuit.kept, circuit.reused, circuit.back, circuit.output_places,
        soft, FORMS[functions].astype(dtype), masks_of(functions),
        room.values, room.grads, room.word, room.words, room.packed, room.trail, room.fired, room.gradient,
        room.by_patch, found.sums, found.words, found.last_soft, found.last_hard, np.empty((len(starts), 2)),
    )  # fmt: skip
    room.give_back(automaton)
    return (
        found
        if failed < 0
        else Results(
            words=found.words, failed=failed, last_soft=found.last_soft, last_hard=found.last_hard, sums=found.sums
        )
    )


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
    """Compute one sample; arguments and result as `reference.sample`."""
    found = samples(
        automaton=automaton,
        table=table,
        coefficients=coefficients,
        functions=functions,
        starts=start[None],
        targets=target[None],
        loss_channels=loss_channels,
        fire=None if fire.all() else fire[None],
        steps=len(fire),
    )
    return found.sums, found.last_soft[0], found.last_hard[0]


def forward(*, automaton: Automaton, table: Ints, coefficients: Floats, start: Floats, fire: Bools) -> Floats:
    """Roll out an automaton; arguments and result as `reference.forward`."""
    states = np.zeros((len(fire) + 1, *start.shape), dtype=start.dtype)
    states[0] = start
    room = Room.taken(automaton, cells=start.shape[1] - 1, steps=1, dtype=start.dtype)
    everyone = bool(fire.all())
    own = np.ascontiguousarray(coefficients, dtype=start.dtype)
    for step, mask in enumerate(np.ascontiguousarray(fire)):
        jit_kernels.step_forward(
            states[step], states[step + 1], mask, everyone, table, automaton.circuit.reused, own, room.values,
            room.fired,
        )  # fmt: skip
    room.give_back(automaton)
    return states


def hard_forward(*, automaton: Automaton, table: Ints, functions: Ints, start: Bools, fire: Bools) -> Bools:
    """Roll out by truth tables, 64 cells at a time; arguments and result as `hard.forward`."""
    state = start.copy()
    state[:, -1] = False
    cells = start.shape[1] - 1
    places = automaton.circuit.reused_places
    jit_kernels.hard_rollout(
        state, np.ascontiguousarray(fire), bool(fire.all()), table, automaton.circuit.reused, masks_of(functions),
        aligned((places, 1), np.uint64), aligned((places, WORDS), np.uint64),
        np.zeros((automaton.channels, words_in(cells)), dtype=np.uint64),
    )  # fmt: skip
    return state


def masks_of(functions: Ints) -> Words:
    """Return masks (gates, 4), each 0 or all ones: out = k0 ^ (k1 & a) ^ (k2 & b) ^ (k3 & a & b)."""
    return _MASKS[functions]


def words_in(cells: int) -> int:
    """Return how many words hold the cells, in whole blocks of them."""
    return 1 if cells <= WORD else -(-cells // (WORD * WORDS)) * WORDS


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return zeros that start where the widest vector may."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


class Room:
    """Arrays that one thread works in."""

    def __init__(self, circuit: Circuit, *, cells: int, steps: int, dtype: np.dtype[np.generic]) -> None:
        channels = circuit.outputs
        self._key = (cells, steps, dtype.char)
        self.values = aligned((circuit.rows, CHUNK), dtype)
        self.grads = aligned((circuit.back_places, CHUNK), dtype)
        # Adding to it changes nothing, not even the sign of a zero.
        self.grads[:] = -0.0
        self.word = aligned((circuit.reused_places, 1), np.uint64)
        self.words = aligned((circuit.reused_places, WORDS), np.uint64)
        self.packed = np.zeros((channels, words_in(cells)), dtype=np.uint64)
        self.trail = np.zeros((steps, channels, cells + 1), dtype=dtype)
        self.fired = np.zeros(-(-cells // CHUNK) * CHUNK, dtype=np.int64)
        self.gradient = np.zeros((channels, cells + 1), dtype=dtype)
        self.by_patch = np.zeros((9, channels, cells + 1), dtype=dtype)

    @classmethod
    def taken(cls, automaton: Automaton, *, cells: int, steps: int, dtype: np.dtype[np.generic]) -> Room:
        """Return room that nobody works in."""
        free = automaton.rooms.setdefault((cells, steps, dtype.char), [])
        try:
            found: Room = free.pop()
        except IndexError:
            return cls(automaton.circuit, cells=cells, steps=steps, dtype=dtype)
        return found

    def give_back(self, automaton: Automaton) -> None:
        """Leave it to the next call."""
        automaton.rooms[self._key].append(self)


def _all_masks() -> Words:
    f00, f01, f10, f11 = TRUTH.T
    chosen = np.stack([f00, f00 ^ f10, f00 ^ f01, f00 ^ f01 ^ f10 ^ f11], axis=1)
    return np.where(chosen.astype(np.bool_), np.uint64(2**64 - 1), np.uint64(0))


_MASKS = _all_masks()
