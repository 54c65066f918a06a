"""Sums that no grouping changes: floating-point numbers as two whole numbers each, added as integers.

Adding integers is exact, so a batch's sum has the same bits whether one process adds all samples or many add some and
an integer allreduce adds those. Two words of 64 bits reach from 2**30 down to 2**-71: a sum of gradients is neither cut
off when a training explodes nor coarse when it has nearly converged, where Adam divides small numbers by small ones.
"""

from __future__ import annotations

import numpy as np

from shardwise.engine.errors import BadInput

from .gates import F64, Ints

MOST_SAMPLES = 4096
"""So many addends always fit."""
LIMIT = 2.0**30
"""Magnitude from which a number is refused."""
_HIGH, _LOW = 20, 70
"""Bits after the point of either word."""


def to_integers(values: F64, *, what: str) -> Ints:
    """Return values (…) as whole numbers (…, 2), exact but for what lies below 2**-71.

    Raises:
        BadInput: a value is not a number, or too large; the message names `what`.
    """
    if not np.isfinite(values).all():
        raise BadInput(f"{what}: not a finite number; the training has diverged (a smaller learning rate may help)")
    if np.abs(values).max(initial=0) >= LIMIT:
        raise BadInput(f"{what}: {np.abs(values).max():.3g} is beyond 2**30; the training has diverged")
    high = np.rint(values * 2.0**_HIGH)
    # Exact: the rest is what rounding left of the value's own bits.
    low = np.rint((values - high * 2.0**-_HIGH) * 2.0**_LOW)
    return np.stack([high, low], axis=-1).astype(np.int64)


def from_integers(words: Ints) -> F64:
    """Return the numbers (…) that sums of `to_integers` (…, 2) stand for."""
    high, low = words[..., 0], words[..., 1]
    # Carry first: the same number has then the same words, and its low word no more bits than a float holds.
    carry = (low + (1 << (_LOW - _HIGH - 1))) >> (_LOW - _HIGH)
    rest = low - (carry << (_LOW - _HIGH))
    total: F64 = (high + carry).astype(np.float64) * 2.0**-_HIGH + rest.astype(np.float64) * 2.0**-_LOW
    return total
