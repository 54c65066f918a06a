"""The picture of a training: how its losses fell, and how much of the hard circuit was right meanwhile."""

from __future__ import annotations

import io

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..model.gates import F64

INK, SOFT, HARD = "#24292f", "#2f6f9f", "#e0803a"


def draw(history: F64, *, title: str, note: str = "") -> bytes:
    """Return a PNG of loss curves.

    Args:
        history: rows of step, soft loss, hard loss, hard accuracy (0 to 1), (n, 4).
        title: above it.
        note: below the title, such as what the last trial found.
    """
    steps, soft, hard, accuracy = history.T if len(history) else np.zeros((4, 0))
    figure = Figure(figsize=(9, 6.2), dpi=130, layout="constrained")
    figure.suptitle(f"{title}\n{note}" if note else title, color=INK, fontsize=12)
    losses, right = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for values, colour, label in ((hard, HARD, "hard circuit"), (soft, SOFT, "soft circuit")):
        _curve(losses, steps, values, colour=colour, label=label)
    # A loss of 0 has no place on this axis: the curve has a gap there.
    losses.set_yscale("log", nonpositive="mask")
    losses.set_ylabel("loss of a batch")
    _curve(right, steps, 100 * accuracy, colour=HARD, label="hard circuit")
    right.set_ylabel("right bits, %")
    right.set_xlabel("optimiser step")
    right.margins(y=0.08)
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (losses, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e9ed", linewidth=0.8)
        axes.set_axisbelow(True)
    losses.legend(frameon=False, fontsize=9)
    out = io.BytesIO()
    # No software version and no date in the file: the same run draws the same bytes.
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _curve(axes: Axes, steps: F64, values: F64, *, colour: str, label: str) -> None:
    """Draw every value faintly, and the mean around each strongly: batches differ more than a training moves."""
    marker = "." if len(steps) < 3 else ""
    if len(steps) < 40:
        axes.plot(steps, values, color=colour, linewidth=1.4, marker=marker, label=label)
        return
    axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
    window = max(len(steps) // 60, 5)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    middle = np.arange(len(values))
    first, last = np.maximum(middle - window, 0), np.minimum(middle + window + 1, len(values))
    axes.plot(steps, (sums[last] - sums[first]) / (last - first), color=colour, linewidth=1.8, label=label)
