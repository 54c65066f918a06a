"""How many threads may compute at once: a container's CPU limit is not what the machine shows."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def processors(*, cgroups: Path = _CGROUPS) -> int:
    """Return the processors this process may use, at least 1: its affinity, or its CPU limit when that is less."""
    limit = _limit(cgroups)
    allowed = len(os.sched_getaffinity(0))
    return max(1, allowed if limit is None else min(allowed, math.ceil(limit)))


def _limit(cgroups: Path) -> float | None:
    # In a container its own group is the root of what it sees; version 2 first, then version 1.
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((cgroups / name).read_text(encoding="ascii") for name in names).split()
            quota, period = (float(word) for word in words)
        except (OSError, ValueError):  # not there, or "max"
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None
