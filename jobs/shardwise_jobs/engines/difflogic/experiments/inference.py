"""Trained automata at work: hard gates, any number of grids side by side, cells that may be held at zero.

Grids are copies of one neighbourhood table, one behind the other, so that one packed rollout carries them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..model import hard
from ..model.automaton import Automaton, neighbours
from ..model.gates import Bools, Ints
from ..model.wiring import PATCH
from .data import Bits

MOST_CELLS = 1 << 16
"""Of all grids that are run at once: their table of neighbours takes 72 bytes a cell."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Machine:
    """A trained circuit: wires, and per gate (gates,) the number of its function."""

    automaton: Automaton
    functions: Ints

    def run(self, grids: Bits, *, steps: int, fire: Bools | None = None) -> Bits:
        """Return grids (n, height, width, channels) of 0 and 1 after `steps` steps.

        Args:
            grids: where to start.
            steps: of the automaton.
            fire: (steps, n, height, width), which cells take their new state; None: all.
        """
        cells = grids.shape[1] * grids.shape[2]
        group = max(1, MOST_CELLS // cells)
        done = [
            self._together(
                grids[first : first + group], steps, None if fire is None else fire[:, first : first + group]
            )
            for first in range(0, len(grids), group)
        ]
        return np.concatenate(done)

    def _together(self, grids: Bits, steps: int, fire: Bools | None) -> Bits:
        count, height, width, _ = grids.shape
        cells = count * height * width
        mask = np.ones((steps, cells), dtype=np.bool_) if fire is None else fire.reshape(steps, cells)
        start = np.zeros((self.automaton.channels, cells + 1), dtype=np.bool_)
        start[:, :-1] = grids.reshape(cells, -1).T
        final = hard.packed_forward(
            automaton=self.automaton,
            table=side_by_side(count, height=height, width=width, periodic=self.automaton.periodic),
            functions=self.functions,
            start=start,
            fire=mask,
        )
        return np.ascontiguousarray(final[:, :-1].T).reshape(grids.shape).astype(np.uint8)

    def steps(self, grids: Bits) -> Iterator[Bits]:
        """Yield grids (n, height, width, channels) as they are after 1, 2, 3, … steps, for ever."""
        while True:
            grids = self.run(grids, steps=1)
            yield grids


@cache
def side_by_side(count: int, *, height: int, width: int, periodic: bool) -> Ints:
    """Return what `neighbours` says, for `count` grids that don't see each other: (9, count * cells + 1)."""
    cells = height * width
    one = neighbours(height=height, width=width, periodic=periodic)[:, :-1]
    outside = count * cells
    table = np.full((PATCH, outside + 1), outside, dtype=np.int64)
    for grid in range(count):
        table[:, grid * cells : (grid + 1) * cells] = np.where(one == cells, outside, one + grid * cells)
    # Everyone is given the same.
    table.setflags(write=False)
    return table
