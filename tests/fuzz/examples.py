"""How many examples a fuzz test tries: a few by default, as many as SHARDWISE_FUZZ_EXAMPLES says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def examples(default: int) -> settings:
    """Return the settings of a fuzz test."""
    return settings(
        max_examples=int(os.environ.get("SHARDWISE_FUZZ_EXAMPLES", default)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
