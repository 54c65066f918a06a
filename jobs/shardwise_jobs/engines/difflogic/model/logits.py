"""What happens to logits once per optimiser step, compiled: the operations of `gates` and of AdamW in their order.

Done by numpy, these few passes over 16 numbers for each gate would take longer than all samples of Game of Life.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .gates import F64, FORMS, GATES, LN2_HIGH, LN2_LOW, LOG2_E, TAYLOR, VANISHED

_HALF_WAY = 1.5 * 2.0**52
_BIAS = 1023
_FRACTION_BITS = 52
_FRACTION = 2**52 - 1
_MIDDLE = 2**51
_BLOCK = 64


def mixtures(logits: F64) -> tuple[F64, F64]:
    """Return `gates.softmax` (gates, 16) of logits, and `gates.collapse` (gates, 4) of that."""
    weights, coefficients = np.empty(logits.shape), np.empty((len(logits), 4))
    _mixtures(np.ascontiguousarray(logits, dtype=np.float64), _TERMS, _FORMS, weights, coefficients)
    return weights, coefficients


def logit_gradient(*, weights: F64, sums: F64) -> F64:
    """Return `gates.logit_gradient` (gates, 16)."""
    gradient = np.empty_like(weights)
    _logit_gradient(np.ascontiguousarray(weights), np.ascontiguousarray(sums), _FORMS, gradient)
    return gradient


def adamw(
    *, logits: F64, m: F64, v: F64, gradient: F64, decay: tuple[float, float], kept: tuple[float, float], lr: float,
    eps: float, weight_decay: float,
) -> tuple[F64, F64, F64]:  # fmt: skip
    """Return logits and moments, of any one shape, after a step.

    Args:
        logits, m, v, gradient: before it, and the clipped gradient.
        decay: b1 and b2.
        kept: what of either moment is there by now, 1 - b1**step and 1 - b2**step.
        lr, eps, weight_decay: of the settings.
    """
    arrays = [np.ascontiguousarray(array, dtype=np.float64) for array in (logits, m, v, gradient)]
    new = [np.empty(logits.shape) for _ in range(3)]
    flat = [array.reshape(-1) for array in (*arrays, *new)]
    _adamw(
        flat[0], flat[1], flat[2], flat[3], flat[4], flat[5], flat[6],
        decay[0], decay[1], kept[0], kept[1], lr, eps, weight_decay,
    )  # fmt: skip
    return new[0], new[1], new[2]


_TERMS = np.array(TAYLOR)
_FORMS = np.ascontiguousarray(FORMS)


@compiled
def _mixtures(logits: F64, taylor: F64, forms: F64, weights: F64, coefficients: F64) -> None:
    rest = np.empty(_BLOCK * GATES, dtype=np.float64)
    turned = np.empty(_BLOCK * GATES, dtype=np.float64)
    bits = turned.view(np.int64)
    first = np.empty(_BLOCK * GATES, dtype=np.int64)
    second = np.empty(_BLOCK * GATES, dtype=np.int64)
    low, high = first.view(np.float64), second.view(np.float64)
    for start in range(0, logits.shape[0], _BLOCK):
        gates = min(_BLOCK, logits.shape[0] - start)
        for gate in range(gates):
            largest = logits[start + gate, 0]
            for k in range(1, GATES):
                largest = max(largest, logits[start + gate, k])
            for k in range(GATES):
                rest[gate * GATES + k] = max(logits[start + gate, k] - largest, VANISHED)
        for place in range(gates * GATES):
            x = rest[place]
            moved = x * LOG2_E + _HALF_WAY
            turned[place] = moved
            halvings = moved - _HALF_WAY
            rest[place] = (x - halvings * LN2_HIGH) - halvings * LN2_LOW
        for place in range(gates * GATES):
            # The sum's fraction is the whole number and half of all its bits. Two steps: one could leave the normal
            # numbers too early.
            count = (bits[place] & _FRACTION) - _MIDDLE
            half = count >> 1
            first[place] = (half + _BIAS) << _FRACTION_BITS
            second[place] = (count - half + _BIAS) << _FRACTION_BITS
        for place in range(gates * GATES):
            x = rest[place]
            value = taylor[0]
            for term in range(1, 14):
                value = value * x + taylor[term]
            rest[place] = (value * low[place]) * high[place]
        for gate in range(gates):
            row = start + gate
            raised = rest[gate * GATES : (gate + 1) * GATES]
            total = _halved(raised)
            for k in range(GATES):
                weights[row, k] = raised[k] / total
            c0, c1, c2, c3 = 0.0, 0.0, 0.0, 0.0
            for k in range(GATES):
                weight = weights[row, k]
                c0 = c0 + weight * forms[k, 0]
                c1 = c1 + weight * forms[k, 1]
                c2 = c2 + weight * forms[k, 2]
                c3 = c3 + weight * forms[k, 3]
            coefficients[row, 0], coefficients[row, 1] = c0, c1
            coefficients[row, 2], coefficients[row, 3] = c2, c3


@compiled
def _halved(v: F64) -> float:
    a0, a1, a2, a3 = v[0] + v[8], v[1] + v[9], v[2] + v[10], v[3] + v[11]
    a4, a5, a6, a7 = v[4] + v[12], v[5] + v[13], v[6] + v[14], v[7] + v[15]
    b0, b1, b2, b3 = a0 + a4, a1 + a5, a2 + a6, a3 + a7
    found: float = (b0 + b2) + (b1 + b3)
    return found


@compiled
def _logit_gradient(weights: F64, sums: F64, forms: F64, gradient: F64) -> None:
    scratch = np.empty(GATES, dtype=np.float64)
    across = np.ascontiguousarray(forms.T)
    for gate in range(weights.shape[0]):
        q0, q1, q2, q3 = sums[gate, 0], sums[gate, 1], sums[gate, 2], sums[gate, 3]
        for k in range(GATES):
            # From zero, as the readable form begins.
            by_weight = (((0.0 + q0 * across[0, k]) + q1 * across[1, k]) + q2 * across[2, k]) + q3 * across[3, k]
            gradient[gate, k] = by_weight
            scratch[k] = weights[gate, k] * by_weight
        mean = _halved(scratch)
        for k in range(GATES):
            gradient[gate, k] = weights[gate, k] * (gradient[gate, k] - mean)


@compiled
def _adamw(
    logits: F64, m: F64, v: F64, gradient: F64, new_logits: F64, new_m: F64, new_v: F64, b1: float, b2: float,
    kept1: float, kept2: float, lr: float, eps: float, weight_decay: float,
) -> None:  # fmt: skip
    for place in range(logits.shape[0]):
        g = gradient[place]
        mean = b1 * m[place] + (1 - b1) * g
        square = b2 * v[place] + (1 - b2) * (g * g)
        new_m[place], new_v[place] = mean, square
        spread = np.sqrt(square / kept2) + eps
        new_logits[place] = logits[place] - lr * ((mean / kept1) / spread + weight_decay * logits[place])
