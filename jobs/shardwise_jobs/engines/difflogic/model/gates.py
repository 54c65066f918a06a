"""The 16 two-input gates, and their soft mixture collapsed to four coefficients.

Every relaxed gate is multilinear, m0 + m1 a + m2 b + m3 ab, so a mixture of 16 is one such form too: the 16-wide axis
never meets the axis of cells. Coefficients are computed once per optimiser step, always in float64.

Nothing here may depend on the processor: the softmax has an exponential of its own, made of additions and products in
a fixed order, because those of libraries differ in the last bit from one instruction set to another.

Source of the mixture: Petersen et al., "Deep Differentiable Logic Gate Networks" (arXiv 2210.08277).
"""

from __future__ import annotations

from math import factorial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

F64: TypeAlias = NDArray[np.float64]
Floats: TypeAlias = NDArray[np.floating]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Words: TypeAlias = NDArray[np.uint64]

GATES: Final = 16
PASS_THROUGH: Final = 3
"""The gate that hands on its first input."""
INITIAL_LOGIT: Final = 10.0
"""Of `PASS_THROUGH` in a new gate; the others start at 0. So a new gate is nearly its first input."""


def _truth_table() -> Ints:
    index = np.arange(GATES)
    return np.stack([(index >> shift) & 1 for shift in (3, 2, 1, 0)], axis=1).astype(np.int64)


def _forms() -> F64:
    f00, f01, f10, f11 = TRUTH.T
    return np.stack([f00, f10 - f00, f01 - f00, f00 - f01 - f10 + f11], axis=1).astype(np.float64)


TRUTH: Final = _truth_table()
"""(16, 4): row k holds f(0,0), f(0,1), f(1,0), f(1,1) of gate k, which are the bits of k, highest first."""
FORMS: Final = _forms()
"""(16, 4): row k holds m0..m3 of gate k, f(a, b) = m0 + m1 a + m2 b + m3 ab."""

LOG2_E = 1.4426950408889634
# The first part of ln 2 ends in zeros, so that its product with a whole number is exact.
LN2_HIGH = 0.693147180369123816490
LN2_LOW = 1.90821492927058770002e-10
TAYLOR = [1.0 / factorial(power) for power in range(13, -1, -1)]
VANISHED = -800.0
_NOISE = 2.0**-50


def exponential(x: F64) -> F64:
    """Return e**x for finite x <= 0 of any shape, within two units in the last place and the same on every processor.

    Halvings are taken out, and what remains within ln(2)/2 goes through a Taylor polynomial.
    """
    clamped = np.maximum(x, VANISHED)
    halvings = np.rint(clamped * LOG2_E)
    rest = (clamped - halvings * LN2_HIGH) - halvings * LN2_LOW
    value = np.full_like(rest, TAYLOR[0])
    for term in TAYLOR[1:]:
        value = value * rest + term
    return np.ldexp(value, halvings.astype(np.int32))


def softmax(logits: F64) -> F64:
    """Return the weights (..., 16) of the gates' mixture for logits (..., 16)."""
    raised = exponential(logits - logits.max(axis=-1, keepdims=True))
    return raised / halved(raised)[..., None]


def halved(values: F64) -> F64:
    """Sum the last axis, of 2**n values, by adding halves: an order of its own that no library changes."""
    width = values.shape[-1]
    while width > 1:
        width //= 2
        values = values[..., :width] + values[..., width:]
    return values[..., 0]


def collapse(weights: F64) -> F64:
    """Return c0..c3 (..., 4) of mixtures with weights (..., 16): out = c0 + c1 a + c2 b + c3 ab."""
    total = np.zeros((*weights.shape[:-1], 4))
    for gate in range(GATES):
        total = total + weights[..., gate, None] * FORMS[gate]
    return total


def in_single_precision(coefficients: F64) -> NDArray[np.float32]:
    """Return coefficients (gates, 4) as float32, those that are noise of cancellations as 0.

    Carried back through layers and time, they would become subnormal numbers, which processors compute slowly.
    """
    return np.where(np.abs(coefficients) < _NOISE, 0, coefficients).astype(np.float32)


def logit_gradient(*, weights: F64, sums: F64) -> F64:
    """Return dL/dz (..., 16) from the sums q (..., 4) of g, ga, gb, gab over all cells, steps and samples.

    Linear in `sums`: adding sums first and mapping once gives what adding the logit gradients would.
    """
    by_weight = np.zeros((*sums.shape[:-1], GATES))
    for term in range(4):
        by_weight = by_weight + sums[..., term, None] * FORMS[:, term]
    return weights * (by_weight - halved(weights * by_weight)[..., None])


def hardest(logits: F64) -> Ints:
    """Return the index (...) of each gate's strongest function; of equals, the lowest."""
    strongest: Ints = np.argmax(logits, axis=-1).astype(np.int64)
    return strongest


def new_logits(count: int) -> F64:
    """Return the logits (count, 16) of gates that have learned nothing: nearly their first input."""
    logits = np.zeros((count, GATES))
    logits[:, PASS_THROUGH] = INITIAL_LOGIT
    return logits
