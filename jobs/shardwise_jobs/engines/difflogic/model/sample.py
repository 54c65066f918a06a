"""One sample's share of a training step: a pure function, so that any process may compute any sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from shardwise.engine.errors import BadInput

from . import kernels
from .automaton import Automaton, neighbours
from .gates import F64, Bools, Floats, Ints, hardest
from .logits import mixtures

DTYPES = {"f32": np.float32, "f64": np.float64}


class Backend(Protocol):
    """What computes: the module `reference`, or the module `kernels`."""

    def sample(
        self,
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
        """As `reference.sample`."""
        ...


@dataclass(frozen=True, eq=False)
class Parameters:
    """Logits (gates, 16), and what all samples, cells and steps share of them, computed once per optimiser step."""

    logits: F64

    @cached_property
    def _mixtures(self) -> tuple[F64, F64]:
        return mixtures(self.logits)

    @property
    def weights(self) -> F64:
        """Softmax of the logits, (gates, 16)."""
        return self._mixtures[0]

    @property
    def coefficients(self) -> F64:
        """Of the soft gates, (gates, 4)."""
        return self._mixtures[1]

    @cached_property
    def functions(self) -> Ints:
        """Numbers of the hard gates' functions, (gates,)."""
        return hardest(self.logits)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleResult:
    """What a sample adds to its batch."""

    sums: F64
    """Per gate the sums of g, ga, gb, gab over cells and steps, (gates, 4)."""
    soft_loss: float
    hard_loss: float
    right: int
    """Bits of the loss channels that are those of the target after the hard rollout."""
    final_soft: Floats
    """(height, width, channels), in the dtype computed in."""
    final_hard: Floats


def sample_gradients(
    *,
    automaton: Automaton,
    parameters: Parameters,
    x: Floats,
    y: Floats,
    loss_channels: Ints,
    steps: int,
    fire: Bools | None = None,
    dtype: str = "f64",
    backend: Backend | None = None,
) -> SampleResult:
    """Return one sample's sums of gradients and its losses; nothing outside is changed.

    Args:
        automaton: the circuits.
        parameters: of all gates.
        x: initial grid (height, width, channels), within [0, 1].
        y: target of the same shape.
        loss_channels: those that count; loss is the sum of (x_T - y)**2 over them and all cells.
        steps: how many the automaton takes.
        fire: (steps, height, width), which cells take their new state; None for all.
        dtype: f32 or f64, of states and gradients within the sample; sums are always float64.
        backend: module with `sample`; None takes the compiled one.

    Raises:
        BadInput: the loss is not a finite number.
    """
    backend = kernels if backend is None else backend
    height, width, _ = x.shape
    table = neighbours(height=height, width=width, periodic=automaton.periodic)
    mask = np.ones((steps, height * width), dtype=np.bool_) if fire is None else fire.reshape(steps, -1)
    start = to_state(x, dtype=dtype)
    target = to_state(y, dtype=dtype)
    sums, last, final_hard = backend.sample(
        automaton=automaton,
        table=table,
        coefficients=parameters.coefficients,
        functions=parameters.functions,
        start=start,
        target=target,
        loss_channels=loss_channels,
        fire=mask,
    )
    soft_loss = squared_error(last, target, loss_channels)
    if not np.isfinite(soft_loss):
        raise BadInput(f"the soft loss is {soft_loss}")
    return SampleResult(
        sums=sums,
        soft_loss=soft_loss,
        hard_loss=squared_error(final_hard, target, loss_channels),
        right=int(np.count_nonzero(final_hard[loss_channels, :-1] == target[loss_channels, :-1])),
        final_soft=to_grid(last, height=height, width=width),
        final_hard=to_grid(final_hard, height=height, width=width),
    )


def to_state(grid: Floats, *, dtype: str) -> Floats:
    """Return a grid (height, width, channels) as a state (channels, cells + 1), its last column zero."""
    height, width, channels = grid.shape
    state = np.zeros((channels, height * width + 1), dtype=DTYPES[dtype])
    state[:, :-1] = grid.reshape(-1, channels).T
    return state


def to_grid(state: Floats, *, height: int, width: int) -> Floats:
    """Return a state (channels, cells + 1) as a grid (height, width, channels)."""
    return np.ascontiguousarray(state[:, :-1].T).reshape(height, width, -1)


def squared_error(state: Floats, target: Floats, channels: Ints) -> float:
    """Sum (state - target)**2 over channels and cells: in float64, one after another."""
    difference = state[channels].astype(np.float64) - target[channels].astype(np.float64)
    return float(np.add.accumulate((difference * difference).ravel())[-1])
