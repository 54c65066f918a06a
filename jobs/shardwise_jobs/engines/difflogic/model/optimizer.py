"""Clipping and AdamW, as the original trains its automata: always in float64, one step for the whole batch.

Sources: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101); clipping by element is
what the original does, by norm what its ports took it for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardwise.engine.errors import BadConfiguration
from shardwise_api.difflogic import ClipMode

from .gates import F64
from .logits import adamw

__all__ = ["ClipMode", "Settings", "State", "advance", "clipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How logits are changed.

    Raises:
        BadConfiguration: a value makes no sense.
    """

    lr: float
    clip: float = 100.0
    clip_mode: ClipMode = ClipMode.VALUE
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        for name in ("lr", "clip", "eps", "weight_decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise BadConfiguration(f"{name}: {getattr(self, name)} is not a number of 0 or more")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise BadConfiguration(f"{name}: {getattr(self, name)} is not within [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Logits (gates, 16), their moments, and how many steps made them."""

    logits: F64
    m: F64
    v: F64
    step: int

    @classmethod
    def fresh(cls, logits: F64) -> State:
        """Return the state before the first step."""
        return cls(logits=logits, m=np.zeros_like(logits), v=np.zeros_like(logits), step=0)


def clipped(gradient: F64, *, settings: Settings) -> F64:
    """Return the gradient (gates, 16) held within the limit."""
    if settings.clip_mode is ClipMode.VALUE:
        return np.clip(gradient, -settings.clip, settings.clip)
    norm = np.sqrt(_sum(gradient * gradient))
    return gradient * (settings.clip / norm) if norm > settings.clip else gradient


def advance(state: State, gradient: F64, *, settings: Settings) -> State:
    """Return the state after one step by the batch's whole gradient (gates, 16)."""
    gradient = clipped(gradient, settings=settings)
    step = state.step + 1
    logits, m, v = adamw(
        logits=state.logits,
        m=state.m,
        v=state.v,
        gradient=gradient,
        decay=(settings.b1, settings.b2),
        kept=(1 - _power(settings.b1, step), 1 - _power(settings.b2, step)),
        lr=settings.lr,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    return State(logits=logits, m=m, v=v, step=step)


def _power(base: float, exponent: int) -> float:
    """Return base**exponent by squaring: the power function of libraries differs between machines."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def _sum(values: F64) -> float:
    """Sum all elements one after another; libraries sum in an order of their processor's."""
    return float(np.add.accumulate(values.ravel())[-1])
