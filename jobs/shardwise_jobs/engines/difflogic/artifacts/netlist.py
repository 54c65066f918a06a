"""A trained automaton as text: named signals, one gate a line, to be read from top to bottom or by another program.

The perception gates (p1, p2, …) are the same for every channel, so they stand there once, over the nine places of one
channel's neighbourhood. The update gates (g1, g2, …) read `PLACE.cN`, `pK.cN` and one another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardwise.engine.errors import BadInput

from ..model.gates import TRUTH, Bools

PLACES = ("nw", "n", "ne", "w", "own", "e", "sw", "s", "se")
"""A cell and its neighbours by their direction, row by row."""
KINDS = {
    1: "AND({}, {})",
    2: "AND({}, NOT {})",
    6: "XOR({}, {})",
    7: "OR({}, {})",
    8: "NOR({}, {})",
    9: "XNOR({}, {})",
    11: "OR({}, NOT {})",
    14: "NAND({}, {})",
}
"""How a gate is written; the other functions of two inputs are these with their inputs swapped."""
_PLAIN = {"AND": 1, "XOR": 6, "OR": 7, "NOR": 8, "XNOR": 9, "NAND": 14}
_GATE = re.compile(r"(?P<name>[pg]\d+) = (?P<kind>[A-Z]+)\((?P<a>[a-z0-9.]+), (?P<inverted>NOT )?(?P<b>[a-z0-9.]+)\)")
_OUTPUT = re.compile(r"new\.c(?P<channel>[0-9]{1,5}) = (?P<inverted>NOT )?(?P<source>[a-z0-9.]+)")
_CHANNELS = re.compile(r"channels (?P<channels>[1-9][0-9]{0,4})")
_LEAF = re.compile(r"(?P<signal>[a-z]+[0-9]*)\.c(?P<channel>[0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate of two different inputs."""

    name: str
    function: int
    """One of `KINDS`."""
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.name} = {KINDS[self.function].format(self.a, self.b)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a channel of a cell becomes."""

    channel: int
    source: str
    """A signal of the update circuit, or '0' or '1'."""
    inverted: bool = False

    def __str__(self) -> str:
        return f"new.c{self.channel} = {'NOT ' if self.inverted else ''}{self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Netlist:
    """A circuit, in an order in which every signal is there before it is read."""

    channels: int
    """Of a cell; those that no output tells of are left out."""
    perceive: tuple[Gate, ...]
    """For each channel alike: over `PLACES` and the gates before."""
    update: tuple[Gate, ...]
    outputs: tuple[Output, ...]

    @property
    def gates(self) -> int:
        """Gates that are left."""
        return len(self.perceive) + len(self.update)

    def next_states(self, patches: Bools) -> Bools:
        """Return what neighbourhoods (9, channels, n) become, (outputs, n), by looking up one gate after another."""
        perceived: dict[str, Bools] = dict(zip(PLACES, patches, strict=True))
        for gate in self.perceive:
            perceived[gate.name] = _looked_up(gate, perceived)
        zero = np.zeros(patches.shape[2], dtype=np.bool_)
        signals = {"0": zero, "1": ~zero}
        for name, values in perceived.items():
            signals |= {f"{name}.c{channel}": values[channel] for channel in range(self.channels)}
        for gate in self.update:
            signals[gate.name] = _looked_up(gate, signals)
        return np.array([signals[output.source] ^ output.inverted for output in self.outputs], dtype=np.bool_)

    def lines(self) -> Iterator[str]:
        """Yield the lines of its text, without comments."""
        yield f"channels {self.channels}"
        yield ""
        yield "perceive"
        yield from map(str, self.perceive)
        yield ""
        yield "update"
        yield from map(str, self.update)
        yield ""
        yield from map(str, self.outputs)


def leaf(name: str) -> tuple[str, int] | None:
    """Return signal and channel of an input of the update circuit such as `ne.c3`, None for what is no input."""
    found = _LEAF.fullmatch(name)
    return (found["signal"], int(found["channel"])) if found else None


def parse(text: str) -> Netlist:
    """Read a netlist; what follows a '#' is a comment.

    Raises:
        BadInput: a line is none, or reads a signal that isn't there; the message names the line.
    """
    channels, section = 0, ""
    parts: dict[str, list[Gate]] = {"perceive": [], "update": []}
    outputs: list[Output] = []
    known: dict[str, set[str]] = {"perceive": set(PLACES), "update": {"0", "1"}}

    def is_there(name: str) -> bool:
        if name in known[section]:
            return True
        found = leaf(name) if section == "update" else None
        return found is not None and found[0] in known["perceive"] and found[1] < channels

    for number, line in enumerate(text.splitlines(), start=1):
        line = line.partition("#")[0].strip()
        place = f"circuit: line {number}: {line!r}"
        if not line:
            continue
        if line in parts:
            section = line
        elif found := _CHANNELS.fullmatch(line):
            channels = int(found["channels"])
        elif (found := _GATE.fullmatch(line)) and section and found["kind"] in _PLAIN:
            function = _PLAIN[found["kind"]]
            if found["inverted"]:
                function = {1: 2, 7: 11}.get(function, 0)
            gate = Gate(name=found["name"], function=function, a=found["a"], b=found["b"])
            if not function or gate.name in known[section] or not all(map(is_there, (gate.a, gate.b))):
                raise BadInput(f"{place}: no gate, there already, or reads what isn't there")
            known[section].add(gate.name)
            parts[section].append(gate)
        elif (found := _OUTPUT.fullmatch(line)) and section == "update" and is_there(found["source"]):
            channel = int(found["channel"])
            if channel >= channels or channel in {output.channel for output in outputs}:
                raise BadInput(f"{place}: no such channel, or there already")
            outputs.append(Output(channel=channel, source=found["source"], inverted=bool(found["inverted"])))
        else:
            raise BadInput(f"{place}: expected a gate, an output, 'channels', 'perceive' or 'update'")
    return Netlist(
        channels=channels,
        perceive=tuple(parts["perceive"]),
        update=tuple(parts["update"]),
        outputs=tuple(outputs),
    )


def _looked_up(gate: Gate, signals: dict[str, Bools]) -> Bools:
    place = 2 * signals[gate.a].astype(np.int64) + signals[gate.b]
    values: Bools = TRUTH[gate.function][place].astype(np.bool_)
    return values
