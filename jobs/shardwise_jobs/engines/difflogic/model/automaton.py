"""The shape of an automaton: its circuits' wires, and where each gate's numbers stand in flat arrays.

Parameters, coefficients and sums are flat, (gates, n): perception layer by layer, in a layer kernel by kernel, then
the update circuit. What goes over a network, into a checkpoint or a digest has this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadConfiguration

from .circuit import Circuit
from .gates import Ints
from .wiring import CENTRE, PATCH

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, kw_only=True, eq=False)
class Automaton:
    """Circuits without their parameters.

    Every channel's neighbourhood goes through `kernels` perception circuits of the same wires; the update circuit
    reads the cell's own state and then all features, channel slowest, then output bit, then kernel.

    Raises:
        BadConfiguration: sizes or wires don't fit; the message names them.
    """

    channels: int
    kernels: int
    periodic: bool
    perceive_wires: tuple[Ints, ...]
    """Per layer (2, gates)."""
    update_wires: tuple[Ints, ...]
    rooms: dict[Any, list[Any]] = field(default_factory=dict, init=False, repr=False)
    """What `kernels` works in, kept from one call to the next."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.kernels < 1:
            raise BadConfiguration(f"{self.channels} channels, {self.kernels} kernels: at least one each is needed")
        _check_wires("perceive_wires", self.perceive_wires, PATCH)
        _check_wires("update_wires", self.update_wires, self.features)
        last = self.update_wires[-1].shape[1]
        if last != self.channels:
            raise BadConfiguration(
                f"update_wires_{len(self.update_wires) - 1}: {last} gates, but a cell has {self.channels} channels"
            )

    @property
    def perceive_widths(self) -> tuple[int, ...]:
        """Gates per perception layer of one kernel."""
        return tuple(wires.shape[1] for wires in self.perceive_wires)

    @property
    def update_widths(self) -> tuple[int, ...]:
        """Gates per layer of the update circuit."""
        return tuple(wires.shape[1] for wires in self.update_wires)

    @cached_property
    def perceive_rows(self) -> Ints:
        """Wires (2, gates) of a kernel as numbers of rows: the 9 places first, then the output of each gate."""
        return _rows(self.perceive_wires, PATCH)

    @cached_property
    def update_rows(self) -> Ints:
        """Wires (2, gates) of the update circuit as numbers of rows: features first, then the output of each gate."""
        return _rows(self.update_wires, self.features)

    @cached_property
    def circuit(self) -> Circuit:
        """All gates that one cell's step evaluates, as one list."""
        inputs, own = self.channels * PATCH, sum(self.perceive_widths)
        perceive, update = self.layers(np.arange(self.gates)[:, None])
        parameters = np.concatenate([layer[..., 0] for layer in perceive], axis=1)
        wires, features = [], np.empty(self.features, dtype=np.int64)
        features[: self.channels] = np.arange(self.channels) * PATCH + CENTRE
        # By channel, output bit and kernel.
        perceived = features[self.channels :].reshape(self.channels, -1, self.kernels)
        start = inputs
        for channel in range(self.channels):
            for kernel in range(self.kernels):
                rows = self.perceive_rows
                wires.append(np.where(rows < PATCH, rows + channel * PATCH, rows - PATCH + start))
                start += own
                perceived[channel, :, kernel] = np.arange(start - self.perceive_widths[-1], start)
        sources = np.concatenate([features, np.arange(start, start + sum(self.update_widths))])
        wires.append(sources[self.update_rows])
        return Circuit(
            inputs=inputs,
            outputs=self.channels,
            wires=np.concatenate(wires, axis=1),
            parameters=np.concatenate([np.tile(parameters.ravel(), self.channels), *(layer[:, 0] for layer in update)]),
        )

    @property
    def features(self) -> int:
        """Inputs of the update circuit."""
        return self.channels * (1 + self.kernels * self.perceive_widths[-1])

    @property
    def gates(self) -> int:
        """Gates with parameters of their own."""
        return self.kernels * sum(self.perceive_widths) + sum(self.update_widths)

    @property
    def evaluations(self) -> int:
        """Gate evaluations per cell and step."""
        return self.channels * self.kernels * sum(self.perceive_widths) + sum(self.update_widths)

    def layers(self, flat: NDArray[Number]) -> tuple[list[NDArray[Number]], list[NDArray[Number]]]:
        """Return views of a flat (gates, n): perception layers (kernels, gates, n), update layers (gates, n)."""
        perceive, update = [], []
        start = 0
        for width in self.perceive_widths:
            end = start + self.kernels * width
            perceive.append(flat[start:end].reshape(self.kernels, width, *flat.shape[1:]))
            start = end
        for width in self.update_widths:
            update.append(flat[start : start + width])
            start += width
        return perceive, update

    def flat(self, perceive: Sequence[NDArray[Number]], update: Sequence[NDArray[Number]]) -> NDArray[Number]:
        """Return the flat form of layers: the inverse of `layers`."""
        return np.concatenate([layer.reshape(-1, layer.shape[-1]) for layer in (*perceive, *update)])


@cache
def neighbours(*, height: int, width: int, periodic: bool) -> Ints:
    """Return which cell stands at each place of each cell's neighbourhood, (9, cells + 1), cells row by row.

    Cell number height * width stands for nothing: it is what lies outside, is always zero, and sees only itself.
    Read with its places reversed, the table says who sees a cell: place p sees what sees it at place 8 - p.
    """
    cells = height * width
    y, x = np.divmod(np.arange(cells), width)
    table = np.full((PATCH, cells + 1), cells, dtype=np.int64)
    for place in range(PATCH):
        there_y, there_x = y + place // 3 - 1, x + place % 3 - 1
        inside = (there_y >= 0) & (there_y < height) & (there_x >= 0) & (there_x < width)
        number = (there_y % height) * width + there_x % width
        table[place, :cells] = number if periodic else np.where(inside, number, cells)
    # Everyone is given the same.
    table.setflags(write=False)
    return table


def _rows(layers: Sequence[Ints], inputs: int) -> Ints:
    absolute, start = [], 0
    for wires in layers:
        absolute.append(wires + start)
        start += inputs
        inputs = wires.shape[1]
    return np.ascontiguousarray(np.concatenate(absolute, axis=1))


def _check_wires(name: str, layers: tuple[Ints, ...], inputs: int) -> None:
    if not layers:
        raise BadConfiguration(f"{name}: no layer")
    for index, wires in enumerate(layers):
        if wires.ndim != 2 or wires.shape[0] != 2 or wires.shape[1] < 1:
            raise BadConfiguration(f"{name}_{index}: shape {wires.shape}, expected (2, gates)")
        if wires.min() < 0 or wires.max() >= inputs:
            raise BadConfiguration(
                f"{name}_{index}: wires from {wires.min()} to {wires.max()}, but the layer has inputs 0 to {inputs - 1}"
            )
        inputs = wires.shape[1]
