"""A pruned circuit as a picture: inputs at the left as neighbourhoods, gates in columns by depth, outputs at the right.

Drawn as text of five gates would be read, and as a map where there are hundreds.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from .netlist import PLACES, Gate, Netlist, leaf

INK, FAINT, WIRE, INVERTED = "#24292f", "#c3ccd6", "#5b6672", "#d1495b"
COLOURS = {
    "AND": "#2f6f9f",
    "OR": "#e0803a",
    "XOR": "#4f9d69",
    "NAND": "#7fb2d6",
    "NOR": "#f2bd90",
    "XNOR": "#9fd3b0",
}
"""By kind; AND and OR with an inverted input are those with a red wire."""
_LETTERS = dict.fromkeys(("NAND", "NOR", "XNOR"), INK)
_KIND_OF = {1: "AND", 2: "AND", 6: "XOR", 7: "OR", 8: "NOR", 9: "XNOR", 11: "OR", 14: "NAND"}
_NEGATED = (2, 11)
FEW_GATES = 130
"""Up to so many are drawn large, with their names."""
FEW_OUTPUTS = 40
"""Up to so many have their names."""
MOST_PIXELS = 2600
_HEAD = 1.0
"""Inches for title and legend."""
_SWEEPS = 12


@dataclass(slots=True)
class _Drawing:
    """Nodes by their column, and wires between them."""

    columns: list[list[str]] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    wires: list[tuple[str, str, bool]] = field(default_factory=list)
    """From, to, inverted."""
    places: dict[str, tuple[float, float]] = field(default_factory=dict)


def draw(netlist: Netlist, *, title: str, kind: str) -> bytes:
    """Return a picture of a circuit.

    Args:
        netlist: what is drawn; perception gates once for every channel that reads them.
        title: above it.
        kind: png or svg. The same circuit makes the same bytes.
    """
    drawing = _drawing(netlist)
    patches = _channels(drawing)
    few = len(drawing.kinds) <= FEW_GATES
    tallest = max(len(column) for column in drawing.columns)
    height = min(max((0.62 if few else 0.2) * tallest + 1.6, 4.4), 22.0)
    gap = 1.25 if few else max(0.75, min(1.4, 0.05 * tallest))
    _place(drawing, patches, height=height)
    left = _patch_width(patches, height)
    width = min(max(left + gap * (len(drawing.columns) - 1) + 1.1, 9.0), 34.0)
    where = {name: (left + x * gap, y) for name, (x, y) in drawing.places.items()}
    where |= _patch_cells(patches, height)

    figure = Figure(figsize=(width, height), dpi=min(110, MOST_PIXELS / max(width, height)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    _draw_patches(axes, drawing, patches, height)
    _draw_wires(axes, drawing, where, few=few)
    _draw_gates(axes, drawing, where, few=few, channels=netlist.channels)
    _draw_outputs(axes, netlist, where, named=len(netlist.outputs) <= FEW_OUTPUTS)
    axes.text(0.2, height - 0.12, title, color=INK, fontsize=11, va="top")
    if len(drawing.kinds) != netlist.gates:
        told = "perception gates are drawn once for each channel that they read"
        axes.text(0.2, height - 0.4, told, color=WIRE, fontsize=8, va="top")
    _legend(axes, drawing, top=height - 0.5)
    out = io.BytesIO()
    # No date, no version, and names within the file that don't change: the same run draws the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "shardwise"}):
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


def size(netlist: Netlist) -> int:
    """Return how many gates a picture of a circuit shows."""
    return len(_drawing(netlist).kinds)


def _drawing(netlist: Netlist) -> _Drawing:
    drawing = _Drawing()
    templates = {gate.name: gate for gate in netlist.perceive}
    depth: dict[str, int] = {}

    def reached(name: str) -> int:
        """Add an input of the update circuit, with the perception gates behind it."""
        if name in depth:
            return depth[name]
        found = leaf(name)
        assert found is not None
        signal, channel = found
        if signal in templates:
            add(templates[signal], name, lambda wire: f"{wire}.c{channel}")
        else:
            depth[name] = 0
        return depth[name]

    def add(gate: Gate, name: str, named: Callable[[str], str]) -> None:
        sources = [named(gate.a), named(gate.b)]
        depth[name] = 1 + max(depth[source] if source in depth else reached(source) for source in sources)
        drawing.kinds[name] = _KIND_OF[gate.function]
        drawing.wires.append((sources[0], name, False))
        drawing.wires.append((sources[1], name, gate.function in _NEGATED))

    for gate in netlist.update:
        add(gate, gate.name, str)
    for output in netlist.outputs:
        if output.source not in ("0", "1"):
            if output.source not in depth:
                reached(output.source)
            drawing.wires.append((output.source, f"new.c{output.channel}", output.inverted))
    deepest = max(depth.values(), default=0)
    drawing.columns = [[] for _ in range(deepest + 2)]
    for name, column in _pulled(drawing, depth).items():
        drawing.columns[column].append(name)
    drawing.columns[-1] = [f"new.c{output.channel}" for output in netlist.outputs]
    return drawing


def _pulled(drawing: _Drawing, depth: dict[str, int]) -> dict[str, int]:
    """Return columns in which a gate stands just before its first reader: fewer long wires cross the picture."""
    readers = defaultdict(list)
    for source, target, _ in drawing.wires:
        readers[source].append(target)
    columns = dict(depth)
    for name in sorted(depth, key=lambda name: -depth[name]):
        found = [columns[reader] for reader in readers[name] if reader in columns]
        if depth[name] and found and len(found) == len(readers[name]):
            columns[name] = min(found) - 1
    return columns


def _channels(drawing: _Drawing) -> list[int]:
    """Return the channels whose neighbourhoods are drawn."""
    found = (leaf(name) for name in drawing.columns[0])
    return sorted({place[1] for place in found if place is not None})


def _grid(patches: list[int], height: float) -> tuple[int, float]:
    """Return how many neighbourhoods stand side by side, and the side of one."""
    room = height - _HEAD - 0.2
    for across in range(1, 9):
        rows = -(-len(patches) // across)
        side = min(1.8, 0.85 * room / max(rows, 1))
        if side >= 0.75 or across == 8:
            return across, side
    raise AssertionError


def _patch_width(patches: list[int], height: float) -> float:
    across, side = _grid(patches, height)
    return 0.3 + across * side * 1.25


def _place(drawing: _Drawing, patches: list[int], *, height: float) -> None:
    """Give every gate and output a place: in its column, near the middle of what it is wired to."""
    near = defaultdict(list)
    for source, target, _ in drawing.wires:
        near[source].append(target)
        near[target].append(source)
    y = {name: centre[1] for name, centre in _patch_cells(patches, height).items()}
    middle = (height - _HEAD) / 2
    for sweep in range(_SWEEPS):
        columns = list(enumerate(drawing.columns))[1:]
        for number, column in columns if sweep % 2 == 0 else reversed(columns):
            wished = {
                name: float(np.mean([y[other] for other in near[name] if other in y] or [middle])) for name in column
            }
            column.sort(key=lambda name: (wished[name], name))
            step = min((height - _HEAD - 0.3) / max(len(column), 1), 1.1)
            centre = float(np.mean(list(wished.values()))) if column else middle
            half = step * (len(column) - 1) / 2
            centre = min(max(centre, 0.3 + half), height - _HEAD - 0.1 - half)
            for index, name in enumerate(column):
                y[name] = centre - half + step * index
                drawing.places[name] = (float(number), y[name])


def _patch_cells(patches: list[int], height: float) -> dict[str, tuple[float, float]]:
    """Return the middle of every place of every neighbourhood."""
    across, side = _grid(patches, height)
    rows = -(-len(patches) // across) if patches else 1
    pitch = (height - _HEAD - 0.1) / rows
    cells = {}
    for index, channel in enumerate(patches):
        x = 0.2 + (index % across) * side * 1.25
        y = height - _HEAD - pitch * (index // across + 0.5)
        for place, name in enumerate(PLACES):
            cells[f"{name}.c{channel}"] = (x + side * (place % 3 + 0.5) / 3, y + side * (1 - place // 3) / 3)
    return cells


def _draw_patches(axes: Axes, drawing: _Drawing, patches: list[int], height: float) -> None:
    _, side = _grid(patches, height)
    cells = _patch_cells(patches, height)
    used = set(drawing.columns[0]) | {source for source, _, _ in drawing.wires}
    dots = [place for name, place in cells.items() if name in used]
    axes.scatter([x for x, _ in dots], [y for _, y in dots], s=9 * side, color=WIRE, linewidths=0, zorder=3)
    for name, (x, y) in cells.items():
        colour = "#e9eef3" if name in used else "white"
        axes.add_patch(
            Rectangle(
                (x - side / 6, y - side / 6), side / 3, side / 3, facecolor=colour, edgecolor=FAINT, linewidth=0.8
            )
        )
        place, _, channel = name.partition(".")
        if side >= 1:
            axes.text(x, y + side / 10, place, fontsize=min(7.5, 5.2 * side), color=INK, ha="center", va="center")
        if place == "n" and len(patches) > 1:
            axes.text(x, y + side / 5, channel, fontsize=7, color=INK, ha="center", va="bottom")


def _draw_wires(axes: Axes, drawing: _Drawing, where: dict[str, tuple[float, float]], *, few: bool) -> None:
    t = np.linspace(0, 1, 24)[:, None]
    ease = t * t * (3 - 2 * t)
    strength = 0.8 if few else max(0.35, min(0.8, 250 / max(len(drawing.wires), 1)))
    for inverted, colour in ((False, WIRE), (True, INVERTED)):
        lines = []
        for source, target, is_inverted in drawing.wires:
            if is_inverted == inverted:
                (x0, y0), (x1, y1) = where[source], where[target]
                lines.append(np.hstack([x0 + (x1 - x0) * t, y0 + (y1 - y0) * ease]))
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=1.1 if few else 0.9, alpha=strength, zorder=2)
        )


def _draw_gates(
    axes: Axes, drawing: _Drawing, where: dict[str, tuple[float, float]], *, few: bool, channels: int
) -> None:
    by_kind = defaultdict(list)
    for name, kind in drawing.kinds.items():
        by_kind[kind].append(where[name])
    for kind, places in by_kind.items():
        axes.scatter(
            [x for x, _ in places],
            [y for _, y in places],
            s=430 if few else 42,
            color=COLOURS[kind],
            edgecolors="white",
            linewidths=0.8 if few else 0.4,
            zorder=3,
        )
    if few:
        for name, kind in drawing.kinds.items():
            x, y = where[name]
            told = name.replace(".", "\n") if channels > 1 else name.partition(".")[0]
            axes.text(x, y, told, fontsize=7, color=_LETTERS.get(kind, "white"), ha="center", va="center", zorder=4)


def _draw_outputs(axes: Axes, netlist: Netlist, where: dict[str, tuple[float, float]], *, named: bool) -> None:
    for output in netlist.outputs:
        x, y = where[f"new.c{output.channel}"]
        axes.scatter([x], [y], s=110 if named else 26, marker="s", color=INK, zorder=3)
        if named:
            constant = f" = {output.source}" if output.source in ("0", "1") else ""
            axes.text(x + 0.16, y, f"new.c{output.channel}{constant}", fontsize=8, color=INK, va="center")


def _legend(axes: Axes, drawing: _Drawing, *, top: float) -> None:
    counts = {kind: list(drawing.kinds.values()).count(kind) for kind in COLOURS}
    entries = [
        Line2D([], [], marker="o", linestyle="", color=COLOURS[kind], markersize=8, label=f"{kind} ({count})")
        for kind, count in counts.items()
        if count
    ]
    entries.append(Line2D([], [], color=WIRE, label="wire"))
    if any(inverted for _, _, inverted in drawing.wires):
        entries.append(Line2D([], [], color=INVERTED, label="read inverted"))
    axes.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=(0.0, top),
        bbox_transform=axes.transData,
        ncols=len(entries),
        frameon=False,
        fontsize=8,
        columnspacing=1.2,
    )
