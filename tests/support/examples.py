"""How many examples randomized tests try: a fifth of theirs by default, all by SHARDWISE_EXAMPLES=full, or a number."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

OF_HYPOTHESIS = 100
"""What a test tries that names no number."""


def examples(full: int, **others: Any) -> settings:
    """Return the settings of a test that needs so many examples to be sure, and fewer at every change."""
    chosen = os.environ.get("SHARDWISE_EXAMPLES", "few")
    few = max(5, full // 5)
    number = {"few": few, "full": full}.get(chosen) or int(chosen)
    # A busy machine is no finding.
    return settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.too_slow], **others)
