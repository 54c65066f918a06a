"""The built-in jobs: what the original runs when nobody says otherwise."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from ..model.job import SuiteJob
from .config import parse_config

FILE = "canonical.yaml"


@cache
def canonical_jobs() -> tuple[SuiteJob, ...]:
    """Return the seven jobs of the original, in its order."""
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return tuple(entry.job() for entry in parse_config(text, name=FILE).jobs)
