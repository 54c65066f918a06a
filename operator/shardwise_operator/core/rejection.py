"""A run that can't be accepted: every problem is said at once, by field, and nothing is made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shardwise_api.status import ConditionType, Phase, RunStatus

from .conditions import set_condition

INVALID_SPEC = "InvalidSpec"


def rejected(status: RunStatus | None, *, problems: Sequence[str], generation: int | None, now: datetime) -> RunStatus:
    """Return the status of a run whose spec has problems; one that has ended stays as it ended."""
    status = (status or RunStatus()).model_copy(deep=True)
    if status.finished:
        return status
    status.observed_generation = generation or status.observed_generation
    set_condition(
        status, ConditionType.ACCEPTED, value=False, reason=INVALID_SPEC, message="; ".join(problems), now=now
    )
    status.phase = Phase.REJECTED
    return status
