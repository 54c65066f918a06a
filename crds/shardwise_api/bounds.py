"""Bounds of values that come from outside: from a worker, a Job or an annotation.

What a worker reports ends in a status, which an API server takes or refuses as a whole: one number that it can't hold
would keep a run from its end. So such values are bounded where they are read, by these types, and nowhere else.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator

MAX_COUNT = 2**53
"""Above that, JSON readers and metrics lose the last digit."""
MAX_DEPTH = 32
_INT32 = 2**31
_INT64 = 2**63


def count(value: int) -> int:
    """Return a count as it is; raise ValueError when it is none."""
    if not 0 <= value <= MAX_COUNT:
        raise ValueError("must be from 0 to 2^53")
    return value


def clamped(value: float) -> int:
    """Return the count nearest to a number: a sum or a quotient of counts may be more than one."""
    return int(max(0, min(MAX_COUNT, value)))


def _int32(value: int) -> int:
    if not -_INT32 <= value < _INT32:
        raise ValueError("must fit in 32 bits")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    _check(value, "", MAX_DEPTH)
    return value


def _check(value: Any, path: str, depth: int) -> None:
    if depth < 0:
        raise ValueError(f"{path[:100]}: nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _check(item, f"{path}.{key}", depth - 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth - 1)
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise ValueError(f"{path[:100]}: must fit in 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path[:100]}: must be a finite number")


# Validators and no schema constraints: the schema of a stored status stays as it is.
Count = Annotated[int, AfterValidator(count)]
Int32 = Annotated[int, AfterValidator(_int32)]
Finite = Annotated[float, AfterValidator(_finite)]
PlainDocument = Annotated[dict[str, Any], AfterValidator(_plain)]
"""A JSON object that a status can hold, whatever is in it."""
