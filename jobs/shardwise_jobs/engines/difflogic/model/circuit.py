"""An automaton's rule as one list of gates, and where each gate's numbers lie while the list is worked through.

A cell's new state is a function of its neighbourhood: rows 0 to 9 * channels - 1 hold that, channel by channel, and
every gate adds a row. Perception comes first, channel by channel and kernel by kernel, then the update circuit, whose
wires lead straight to the outputs of perception. Which gates share parameters is one more number for each.

Most rows are needed for a short while only. So rows share places in memory, dealt out here once, and what a processor
works on stays in its cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .gates import Ints

Table = NDArray[np.int32]
PATCH = 9
CENTRE = 4
NOTHING = 0
"""The place in memory of gradients that nobody has added to: it holds -0.0, which changes no sum."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Circuit:
    """All gates that one cell's step evaluates, in their order."""

    inputs: int
    """Rows of the neighbourhood: row 9 * channel + place."""
    outputs: int
    """Gates at the end of the list that are the new state."""
    wires: Ints
    """(2, gates), numbers of rows: inputs first, then the output of each gate."""
    parameters: Ints
    """(gates,), whose parameters each gate has."""

    @property
    def gates(self) -> int:
        """Gates of the list; several may share parameters."""
        return int(self.wires.shape[1])

    @property
    def rows(self) -> int:
        """Inputs and gates."""
        return self.inputs + self.gates

    @cached_property
    def kept(self) -> Table:
        """How to go forward keeping every row: per gate the places of a, b and output, and its parameters."""
        outputs = np.arange(self.inputs, self.rows)
        return _table(self.wires[0], self.wires[1], outputs, self.parameters)

    @cached_property
    def _reused(self) -> tuple[Table, int]:
        last = np.full(self.rows, -1)
        for gate, (a, b) in enumerate(self.wires.T):
            last[[a, b]] = gate
        last[-self.outputs :] = self.gates
        places = list(range(self.inputs)) + [0] * self.gates
        pool = _Pool(self.inputs)
        for gate, (a, b) in enumerate(self.wires.T):
            row = self.inputs + gate
            places[row] = pool.take()
            for done in {a, b, row}:
                if last[done] <= gate:
                    pool.give(places[done])
        found = np.array(places)
        return _table(found[self.wires[0]], found[self.wires[1]], found[self.inputs :], self.parameters), pool.size

    @property
    def reused(self) -> Table:
        """As `kept`, but rows that are done with give their place to others."""
        return self._reused[0]

    @property
    def reused_places(self) -> int:
        """Places that `reused` needs; the inputs' are the first."""
        return self._reused[1]

    @cached_property
    def _back(self) -> tuple[Table, int]:
        place = {row: 1 + row for row in range(self.inputs)}
        pool = _Pool(1 + self.inputs)
        for row in range(self.rows - self.outputs, self.rows):
            place[row] = pool.take()
        touched = set(range(self.rows - self.outputs, self.rows))
        lines = []
        for gate in range(self.gates - 1, -1, -1):
            row = self.inputs + gate
            own = place.get(row, NOTHING)
            line = [*map(int, self.wires[:, gate]), own]
            for source in self.wires[:, gate]:
                before = NOTHING
                if source in touched:
                    before = place[int(source)]
                elif source >= self.inputs:
                    place[int(source)] = pool.take()
                touched.add(int(source))
                line += [before, place[int(source)]]
            lines.append([*line, int(self.parameters[gate])])
            if own != NOTHING:
                pool.give(own)
        return np.array(lines, dtype=np.int32), pool.size

    @property
    def back(self) -> Table:
        """How to go back, a line for each gate from the last to the first.

        Its numbers: rows of a and b; place of its gradient; for a, then for b, the place that holds the gradient so
        far and the place to write it to; its parameters. Gradients of the inputs end in places 1, 2, …; those of the
        outputs are expected where `output_places` says.
        """
        return self._back[0]

    @property
    def back_places(self) -> int:
        """Places that `back` needs."""
        return self._back[1]

    @property
    def output_places(self) -> Table:
        """Where gradients of the outputs are expected, (outputs,)."""
        return np.ascontiguousarray(self.back[: self.outputs, 2][::-1])


class _Pool:
    """Places in memory: the one given back last is the first to be taken."""

    def __init__(self, first: int) -> None:
        self.size = first
        self._free: list[int] = []

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self.size += 1
        return self.size - 1

    def give(self, place: int) -> None:
        self._free.append(place)


def _table(*columns: Ints) -> Table:
    return np.ascontiguousarray(np.stack(columns, axis=1).astype(np.int32))
