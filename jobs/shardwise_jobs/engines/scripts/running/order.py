"""The order in which jobs are begun: the longest first, so that none of the long ones is left for the end.

How long a job takes is known from earlier runs only. What was never seen to end comes first: it may be the longest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..model.job import SuiteJob
from ..model.records import Status

_SUMMARIES = "training_summary_*.json"
_NEWEST = 20
"""Summaries that are looked at; a job that is in none of them counts as unknown."""


def longest_first(jobs: Sequence[SuiteJob], *, seconds: Mapping[str, float]) -> list[SuiteJob]:
    """Return jobs by falling duration; those that are equally long, or all unknown, as they were."""
    return sorted(jobs, key=lambda job: -seconds.get(job.id, float("inf")))


def known_seconds(summaries: Path) -> dict[str, float]:
    """Return how long each job took when it last succeeded, by id, as the summaries in a folder say."""
    found: dict[str, float] = {}
    # Their names begin with the time, so they sort by it.
    for path in sorted(summaries.glob(_SUMMARIES), reverse=True)[:_NEWEST]:
        for job in _jobs(path):
            if job.get("status") == Status.SUCCESS and isinstance(job.get("duration_sec"), int | float):
                found.setdefault(str(job.get("id")), float(job["duration_sec"]))
    return found


def _jobs(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        # Not ours, or somebody's edit: an order is no reason to fail.
        return []
    jobs = content.get("jobs") if isinstance(content, dict) else None
    return [job for job in jobs if isinstance(job, dict)] if isinstance(jobs, list) else []
