"""One sample's share of a training step: a pure function, so that any process may compute any sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from shardwise_jobs.errors import BadInput

from . import hard, kernels
from .automaton import Automaton, neighbours
from .gates import F64, FORMS, Bools, Floats, Ints, collapse, hardest, softmax

DTYPES = {"f32": np.float32, "f64": np.float64}


class Backend(Protocol):
    """What computes: the module `twin`, or the module `kernels`."""

    def forward(self, *, automaton: Automaton, table: Ints, coefficients: Floats, start: Floats, fire: Bools) -> Floats:
        """As `twin.forward`."""
        ...

    def backward(
        self,
        *,
        automaton: Automaton,
        table: Ints,
        coefficients: Floats,
        states: Floats,
        fire: Bools,
        gradient: Floats,
    ) -> tuple[F64, Floats]:
        """As `twin.backward`."""
        ...


@dataclass(frozen=True, eq=False)
class Parameters:
    """Logits (gates, 16), and what all samples, cells and steps share of them, computed once per optimiser step."""

    logits: F64

    @cached_property
    def weights(self) -> F64:
        """Softmax of the logits, (gates, 16)."""
        return softmax(self.logits)

    @cached_property
    def coefficients(self) -> F64:
        """Of the soft gates, (gates, 4)."""
        return collapse(self.weights)

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
        backend: module with `forward` and `backward`; None takes the compiled one.

    Raises:
        BadInput: the loss is not a finite number.
    """
    backend = kernels if backend is None else backend
    height, width, _ = x.shape
    table = neighbours(height=height, width=width, periodic=automaton.periodic)
    mask = np.ones((steps, height * width), dtype=np.bool_) if fire is None else fire.reshape(steps, -1)
    start = to_state(x, dtype=dtype)
    target = to_state(y, dtype=dtype)
    coefficients = parameters.coefficients.astype(DTYPES[dtype])

    states = backend.forward(automaton=automaton, table=table, coefficients=coefficients, start=start, fire=mask)
    soft_loss = squared_error(states[-1], target, loss_channels)
    if not np.isfinite(soft_loss):
        raise BadInput(f"the soft loss is {soft_loss}")
    gradient = np.zeros_like(start)
    gradient[loss_channels] = 2 * (states[-1] - target)[loss_channels]
    sums, _ = backend.backward(
        automaton=automaton, table=table, coefficients=coefficients, states=states, fire=mask, gradient=gradient
    )
    final_hard = _hard_rollout(automaton, parameters, table, start, mask, backend)
    return SampleResult(
        sums=sums,
        soft_loss=soft_loss,
        hard_loss=squared_error(final_hard, target, loss_channels),
        final_soft=to_grid(states[-1], height=height, width=width),
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


def _hard_rollout(
    automaton: Automaton, parameters: Parameters, table: Ints, start: Floats, fire: Bools, backend: Backend
) -> Floats:
    if np.isin(start, (0, 1)).all():
        final = hard.packed_forward(
            automaton=automaton, table=table, functions=parameters.functions, start=start.astype(np.bool_), fire=fire
        )
        return final.astype(start.dtype)
    # Not bits: the strongest functions are taken in their relaxed form.
    chosen = FORMS[parameters.functions].astype(start.dtype)
    states: Floats = backend.forward(automaton=automaton, table=table, coefficients=chosen, start=start, fire=fire)
    last: Floats = states[-1]
    return last
