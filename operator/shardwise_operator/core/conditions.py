"""Conditions: set in place, with a transition time that moves only when the status does.

Reasons and messages may come from a worker, and what a worker says must never be what a status can't hold.
"""

from __future__ import annotations

import re
from datetime import datetime

from shardwise_api.status import Condition, ConditionType, RunStatus

MAX_MESSAGE_CHARACTERS = 1024
"""A run's status stays small, whatever a worker has to say; its log has all of it."""
_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]{0,254}[A-Za-z0-9_])?")


def shortened(text: str, *, limit: int = MAX_MESSAGE_CHARACTERS) -> str:
    """Return a text of at most `limit` characters, cut where it is longer."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


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
        reason=reason if _REASON.fullmatch(reason) else "Unknown",
        message=shortened(message),
        last_transition_time=now if known is None or moved else known.last_transition_time,
        observed_generation=status.observed_generation,
    )
    if known is None:
        status.conditions.append(condition)
    else:
        status.conditions[status.conditions.index(known)] = condition
