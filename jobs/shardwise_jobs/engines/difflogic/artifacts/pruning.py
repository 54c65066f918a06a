"""From a trained circuit of thousands of gates to the few that do something.

Constants are carried through, gates that hand on or negate an input vanish into their readers, equal gates become one,
and what nobody reads is dropped. Within one channel's neighbourhood there are 512 cases, so signals that depend on no
other channel have their whole truth table as a number: those that are equal in all cases are one, whatever their
wires. For Game of Life, whose cells have one channel, that is every signal.

A signal is a node and whether it is inverted; inversions are absorbed by whoever reads it. Every node is 0 where all
its inputs are, so that a function and its opposite are one node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..model.automaton import Automaton
from ..model.gates import PASS_THROUGH, Ints
from ..model.wiring import PATCH
from .netlist import KINDS, PLACES, Gate, Netlist, Output

CASES = 1 << PATCH
_ALL = (1 << CASES) - 1
_SECOND_INPUT = 5
_CONSTANT = -1


class Signal(NamedTuple):
    """A node's value, or its opposite."""

    node: int
    inverted: bool = False

    def flipped(self, really: bool = True) -> Signal:
        """Return its opposite."""
        return Signal(self.node, self.inverted ^ really)


ZERO = Signal(_CONSTANT)


class Node(NamedTuple):
    """An input, named and without function, or a gate over earlier nodes."""

    function: int
    a: int
    b: int
    leaf: tuple[int, int] | None = None
    """Of an update circuit's input: the perception's node, and the channel."""


@dataclass(slots=True)
class _Circuit:
    """Nodes in the order they were made; the same thing is made once."""

    outer: _Circuit | None = None
    """The perception that this circuit's inputs come from."""
    nodes: list[Node] = field(default_factory=list)
    tables: list[tuple[int, int] | None] = field(default_factory=list)
    """Per node its channel and truth table, None when it depends on more than one channel."""
    made: dict[object, int] = field(default_factory=dict)

    def input(self, table: int, *, channel: int = 0, leaf: tuple[int, int] | None = None) -> Signal:
        """Return an input as a signal."""
        return self._node(Node(0, 0, 0, leaf), key=(channel, table), table=(channel, table))

    def leaf(self, node: int, *, channel: int) -> Signal:
        """Return the signal of the perception's node for one channel."""
        assert self.outer is not None
        known = self.outer.tables[node]
        assert known is not None
        return self.input(known[1], channel=channel, leaf=(node, channel))

    def gate(self, function: int, a: Signal, b: Signal) -> Signal:
        """Return the signal that a gate over others makes."""
        reduced = _reduced(function, a, b)
        if isinstance(reduced, Signal):
            return reduced
        function, first, second, inverted = reduced
        channel_a, channel_b = self.tables[first], self.tables[second]
        if channel_a is None or channel_b is None or channel_a[0] != channel_b[0]:
            node = Node(function, first, second)
            return self._node(node, key=node, table=None).flipped(inverted)
        channel, table = channel_a[0], _table(function, channel_a[1], channel_b[1])
        if not table:
            return ZERO.flipped(inverted)
        if self.outer is not None and (channel, table) not in self.made:
            known = self.outer.made.get((0, table))
            if known is not None:
                return self.leaf(known, channel=channel).flipped(inverted)
        made = self._node(Node(function, first, second), key=(channel, table), table=(channel, table))
        return made.flipped(inverted)

    def _node(self, node: Node, *, key: object, table: tuple[int, int] | None) -> Signal:
        if key not in self.made:
            self.made[key] = len(self.nodes)
            self.nodes.append(node)
            self.tables.append(table)
        return Signal(self.made[key])

    def read_by(self, wanted: Iterable[int]) -> list[int]:
        """Return the nodes that some nodes depend on, themselves included, in their order."""
        found, waiting = set(), [node for node in wanted if node != _CONSTANT]
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                node = self.nodes[number]
                waiting += [node.a, node.b] if node.function else []
        return sorted(found)


def active(functions: Ints) -> int:
    """Return how many gates do something: the strongest function of the others is to hand on an input."""
    return int(np.isin(functions, (PASS_THROUGH, _SECOND_INPUT), invert=True).sum())


def pruned(*, automaton: Automaton, functions: Ints, counted: Sequence[int]) -> Netlist:
    """Return the circuit that does the same with fewer gates.

    Args:
        automaton: the wires.
        functions: (gates,), numbers of the gates' functions.
        counted: channels that matter in the end. Others stay when those depend on them, at once or steps later.
    """
    perceive, update = automaton.layers(functions)
    perception = _Circuit()
    patch = [perception.input(_place_table(place)) for place in range(PATCH)]
    kernels = [
        _through(perception, patch, automaton.perceive_wires, [layer[kernel] for layer in perceive])
        for kernel in range(automaton.kernels)
    ]
    circuit = _Circuit(outer=perception)
    channels = range(automaton.channels)
    features = [circuit.leaf(PLACES.index("own"), channel=channel) for channel in channels]
    for channel in channels:
        for bit in range(automaton.perceive_widths[-1]):
            for kernel in kernels:
                seen = kernel[bit]
                known = seen.node == _CONSTANT
                features.append(seen if known else circuit.leaf(seen.node, channel=channel).flipped(seen.inverted))
    new = _through(circuit, features, automaton.update_wires, update)
    return _named(perception, circuit, {channel: new[channel] for channel in _relevant(circuit, new, counted)}, new)


def _through(circuit: _Circuit, signals: list[Signal], layers: Sequence[Ints], functions: list[Ints]) -> list[Signal]:
    for wires, layer in zip(layers, functions, strict=True):
        signals = [
            circuit.gate(int(function), signals[a], signals[b])
            for a, b, function in zip(*wires.tolist(), layer.tolist(), strict=True)
        ]
    return signals


def _relevant(circuit: _Circuit, new: list[Signal], counted: Sequence[int]) -> list[int]:
    """Return the channels that the counted ones depend on, themselves included."""
    relevant, waiting = set(), list(counted)
    while waiting:
        channel = waiting.pop()
        if channel not in relevant:
            relevant.add(channel)
            read = (circuit.nodes[node].leaf for node in circuit.read_by([new[channel].node]))
            waiting += [leaf[1] for leaf in read if leaf is not None]
    return sorted(relevant)


def _named(perception: _Circuit, circuit: _Circuit, outputs: dict[int, Signal], new: list[Signal]) -> Netlist:
    used = circuit.read_by(signal.node for signal in outputs.values())
    leaves = [leaf for leaf in (circuit.nodes[node].leaf for node in used) if leaf is not None]
    # Of a node that outputs read inverted alone, the opposite is drawn: the output needs no NOT then.
    plain = {signal.node for signal in outputs.values() if not signal.inverted}
    turned = {
        signal.node
        for signal in outputs.values()
        if signal.inverted and signal.node not in plain and signal.node >= 0 and circuit.nodes[signal.node].function
    }
    names: dict[int, str] = dict(enumerate(PLACES))
    perceive_gates = _gates(perception, perception.read_by(node for node, _ in leaves), names, set(), letter="p")
    inner = {
        node: f"{names[leaf[0]]}.c{leaf[1]}"
        for node, leaf in ((node, circuit.nodes[node].leaf) for node in used)
        if leaf is not None
    }
    update_gates = _gates(circuit, used, inner, turned, letter="g")
    inner[_CONSTANT] = "0"
    told = []
    for channel, signal in outputs.items():
        if signal.node == _CONSTANT:
            told.append(Output(channel=channel, source=str(int(signal.inverted))))
        else:
            inverted = signal.inverted ^ (signal.node in turned)
            told.append(Output(channel=channel, source=inner[signal.node], inverted=inverted))
    return Netlist(channels=len(new), perceive=tuple(perceive_gates), update=tuple(update_gates), outputs=tuple(told))


def _gates(circuit: _Circuit, nodes: list[int], names: dict[int, str], turned: set[int], *, letter: str) -> list[Gate]:
    """Return nodes as gates by depth, adding their names to `names`."""
    depth: dict[int, int] = {}
    for number in nodes:
        node = circuit.nodes[number]
        depth[number] = 1 + max(depth[node.a], depth[node.b]) if node.function else 0
    gates: list[Gate] = []
    for number in sorted(nodes, key=lambda node: (depth[node], node)):
        node = circuit.nodes[number]
        if node.function:
            names[number] = f"{letter}{len(gates) + 1}"
            function = _absorbed(node.function, node.a in turned, node.b in turned)
            function = 15 - function if number in turned else function
            a, b = names[node.a], names[node.b]
            if function not in KINDS:
                function, a, b = _swapped(function), b, a
            gates.append(Gate(name=names[number], function=function, a=a, b=b))
    return gates


def _reduced(function: int, a: Signal, b: Signal) -> Signal | tuple[int, int, int, bool]:
    """Return what a gate comes to: an input or a constant, or function, nodes in their order, and if it is inverted."""
    function = _absorbed(function, a.inverted, b.inverted)
    f00, f01, f10, f11 = (function >> 3) & 1, (function >> 2) & 1, (function >> 1) & 1, function & 1
    if a.node == _CONSTANT:
        return _of_one(b.node, f00, f01)
    if b.node == _CONSTANT:
        return _of_one(a.node, f00, f10)
    if a.node == b.node:
        return _of_one(a.node, f00, f11)
    if (f00, f01) == (f10, f11):
        return _of_one(b.node, f00, f01)
    if (f00, f10) == (f01, f11):
        return _of_one(a.node, f00, f10)
    first, second = a.node, b.node
    if first > second:
        function, first, second = _swapped(function), second, first
    return (15 - function if f00 else function), first, second, bool(f00)


def _of_one(node: int, zero: int, one: int) -> Signal:
    """Return the signal that is `zero` where a node is 0, and `one` where it is 1."""
    if node == _CONSTANT or zero == one:
        return ZERO.flipped(bool(zero))
    return Signal(node, bool(zero))


def _absorbed(function: int, inverted_a: bool, inverted_b: bool) -> int:
    """Return the function that does with plain inputs what `function` does with inverted ones."""
    if inverted_a:
        function = (function & 3) << 2 | function >> 2
    if inverted_b:
        function = (function & 5) << 1 | (function & 10) >> 1
    return function


def _swapped(function: int) -> int:
    """Return the function with its inputs swapped."""
    return function & 9 | (function & 4) >> 1 | (function & 2) << 1


def _place_table(place: int) -> int:
    """Return the truth table of a place: of case n it is bit n, places being the bits of n, highest first."""
    return sum(1 << case for case in range(CASES) if case >> (PATCH - 1 - place) & 1)


def _table(function: int, a: int, b: int) -> int:
    """Return the truth table of a function that is 0 where both inputs are."""
    table = a & b if function & 1 else 0
    table |= a & ~b if function & 2 else 0
    table |= ~a & b if function & 4 else 0
    return table & _ALL
