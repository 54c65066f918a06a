"""Conditions: set in place, with a transition time that moves only when the status does."""

from __future__ import annotations

from datetime import datetime

from shardwise_api.status import Condition, ConditionType, RunStatus


def set_condition(
    status: RunStatus, type_: ConditionType, *, value: bool, reason: str, now: datetime, message: str = ""
) -> None:
    """Set a condition; an unchanged one is left as it is, so that an unchanged run has an unchanged status."""
    text = "True" if value else "False"
    known = status.condition(type_)
    moved = known is None or known.status != text
    condition = Condition(
        type=type_,
        status="True" if value else "False",
        reason=reason,
        message=message,
        last_transition_time=now if known is None or moved else known.last_transition_time,
        observed_generation=status.observed_generation,
    )
    if known is None:
        status.conditions.append(condition)
    else:
        status.conditions[status.conditions.index(known)] = condition
