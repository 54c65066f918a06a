"""The picture of a finished run: how many patterns each level has, and how often they were seen."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure

INK = "#24292f"
COLOURS = ("#2f6f9f", "#e0803a", "#4f9d69", "#a8518a", "#8a7a3c", "#5c6bc0")


class Level(Protocol):
    """What is drawn of one node."""

    @property
    def node(self) -> str: ...
    @property
    def patterns(self) -> int: ...
    @property
    def frequency_sum(self) -> int: ...
    @property
    def histogram(self) -> Counter[int]: ...


def draw(levels: Sequence[Level], *, title: str) -> bytes:
    """Return a PNG: bars of learns and distinct patterns per level, and the frequency distribution on log axes."""
    figure = Figure(figsize=(11, 4.4), dpi=130, layout="constrained")
    figure.suptitle(f"{title}: patterns per level and how often they occur", color=INK, fontsize=13)
    counts, distribution = figure.subplots(1, 2)
    positions = range(len(levels))
    bars = (
        (-0.2, [level.frequency_sum for level in levels], "learned (sum of frequencies)", "#c3ccd6"),
        (0.2, [level.patterns for level in levels], "distinct patterns", COLOURS[0]),
    )
    for offset, heights, label, colour in bars:
        drawn = counts.bar([position + offset for position in positions], heights, 0.38, label=label, color=colour)
        counts.bar_label(drawn, labels=[f"{height:,}" for height in heights], fontsize=8, padding=2, color=INK)
    counts.set_xticks(list(positions), [level.node for level in levels])
    counts.set_ylabel("patterns")
    counts.margins(y=0.12)
    counts.legend(frameon=False, fontsize=8)
    for position, level in enumerate(levels):
        points = sorted(level.histogram.items())
        if points:
            distribution.plot(
                [frequency for frequency, _ in points],
                [patterns for _, patterns in points],
                "o-",
                markersize=4,
                linewidth=1,
                color=COLOURS[position % len(COLOURS)],
                label=level.node,
            )
    distribution.set_xscale("log")
    distribution.set_yscale("log")
    distribution.set_xlabel("frequency of a pattern")
    distribution.set_ylabel("patterns with that frequency")
    distribution.legend(frameon=False, fontsize=8)
    for axes in (counts, distribution):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e9ed", linewidth=0.8)
        axes.set_axisbelow(True)
    out = io.BytesIO()
    # No software version and no date in the file: the same run draws the same bytes.
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
