"""A training's figures in few words: what a person looks at while it learns, the same in every command."""

from __future__ import annotations

from collections.abc import Mapping

_SHOWN = {"seed": "seed", "softLoss": "soft", "hardLoss": "hard", "hardAccuracy": "accuracy", "wrong": "wrong"}
"""Metrics that say how well a training goes, and what they are called where there is little room."""
_ODD = 0.001
"""Below that, three places behind the point say nothing."""


def number(value: float) -> str:
    """Return a figure: 12,345 or 0.125 or 3.2e-07."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < _ODD else f"{value:,.3f}"


def short_metrics(metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the figures of a training by their short names; empty for a run of another kind."""
    return {short: _figure(name, metrics[name]) for name, short in _SHOWN.items() if name in metrics}


def in_a_line(metrics: Mapping[str, float]) -> str:
    """Return the figures of a training as `soft 0.125, hard 3`; empty for a run of another kind."""
    return ", ".join(f"{name} {value}" for name, value in short_metrics(metrics).items())


def _figure(name: str, value: float) -> str:
    # A seed is a name.
    return f"{value:.0f}" if name == "seed" else number(value)
