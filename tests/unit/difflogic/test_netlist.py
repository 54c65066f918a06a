"""A pruned circuit does what the whole one does, in every case, and its text can be read back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.engine.errors import BadInput
from shardwise_api.difflogic import Preset
from shardwise_jobs.engines.difflogic.artifacts.netlist import Netlist, parse
from shardwise_jobs.engines.difflogic.artifacts.pruning import active, pruned
from shardwise_jobs.engines.difflogic.experiments import data
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS
from shardwise_jobs.engines.difflogic.model import hard
from shardwise_jobs.engines.difflogic.model.automaton import Automaton, neighbours
from shardwise_jobs.engines.difflogic.model.gates import Bools, Ints
from tests.support.automata import automaton
from tests.support.circuits import LIFE, life_functions
from tests.support.examples import examples

HALF_ADDER = """
channels 2   # two bits a cell

perceive
p1 = XOR(n, own)
p2 = AND(n, own)

update
g1 = OR(p1.c0, NOT own.c1)

new.c0 = p1.c0
new.c1 = NOT g1  # a comment
"""


def whole(of: Automaton, functions: Ints, start: Bools, table: Ints) -> Bools:
    """What every cell becomes by the circuit as it was trained, (channels, cells)."""
    fire = np.ones((1, table.shape[1] - 1), dtype=np.bool_)
    return hard.forward(automaton=of, table=table, functions=functions, start=start, fire=fire)[:, :-1]


def check(of: Automaton, functions: Ints, netlist: Netlist, *, seed: int = 1) -> None:
    """Compare on a random grid; channels that were left out aside."""
    table = neighbours(height=23, width=31, periodic=of.periodic)
    start = np.zeros((of.channels, 23 * 31 + 1), dtype=np.bool_)
    start[:, :-1] = np.random.default_rng(seed).random((of.channels, 23 * 31)) < 0.5
    expected = whole(of, functions, start, table)
    found = netlist.next_states(start[:, table[:, :-1]].transpose(1, 0, 2))
    assert np.array_equal(found, expected[[output.channel for output in netlist.outputs]])


def test_the_game_of_life_is_right_in_all_512_cases_by_what_its_text_says() -> None:
    wired = LIFE.model.wired(seed=LIFE.seed)
    netlist = pruned(automaton=wired, functions=life_functions(), counted=[0])
    read = parse("\n".join(netlist.lines()))
    patches = data.boards().reshape(512, 1, 9).transpose(2, 1, 0).astype(np.bool_)
    alive = data.life(data.boards())[:, 1, 1].astype(np.bool_)
    assert np.array_equal(read.next_states(patches)[0], alive)
    assert netlist.gates < 100
    assert active(life_functions()) > 2 * netlist.gates


@given(seed=st.integers(0, 2**32), channels=st.integers(1, 4), passing=st.floats(0, 1))
@examples(60)
def test_any_circuit_does_the_same_pruned(seed: int, channels: int, passing: float) -> None:
    random = np.random.default_rng(seed)
    widths = (10, 8, 4, 2, 1) if channels == 1 else (10, 8, 4, channels)
    wired = automaton(channels=channels, update=widths, periodic=bool(seed % 2), seed=seed)
    functions = np.where(random.random(wired.gates) < passing, 3, random.integers(0, 16, wired.gates))
    netlist = pruned(automaton=wired, functions=functions, counted=range(channels))
    assert [output.channel for output in netlist.outputs] == list(range(channels))
    check(wired, functions, netlist, seed=seed)
    assert parse("\n".join(netlist.lines())) == netlist


@pytest.mark.parametrize("preset", [Preset.CHECKERBOARD_SYNC, Preset.LIZARD, Preset.COLOUR_G])
def test_large_circuits_do_the_same_pruned(preset: Preset) -> None:
    wired = PRESETS[preset].model.wired(seed=5)
    # Half of them hand on: of so many layers of any functions only constants would be left.
    functions = np.random.default_rng(5).choice([1, 3, 3, 3, 5, 7, 12, 6], wired.gates)
    counted = PRESETS[preset].rollout.loss_channels
    netlist = pruned(automaton=wired, functions=functions, counted=counted)
    assert netlist.gates > 100
    check(wired, functions, netlist)


def test_gates_that_hand_on_vanish_and_no_gate_is_left() -> None:
    wired = automaton()
    functions = np.full(wired.gates, 3)
    netlist = pruned(automaton=wired, functions=functions, counted=[0, 1, 2])
    assert (netlist.gates, active(functions)) == (0, 0)
    check(wired, functions, netlist)


@pytest.mark.parametrize(("function", "told"), [(0, "new.c0 = 0"), (15, "new.c0 = 1")])
def test_constants_need_no_gate(function: int, told: str) -> None:
    wired = automaton(channels=1, update=(4, 2, 1))
    netlist = pruned(automaton=wired, functions=np.full(wired.gates, function), counted=[0])
    assert netlist.gates == 0
    assert list(netlist.lines())[-1] == told


def test_equal_gates_are_one_whatever_their_wires() -> None:
    # AND of a cell and the one above, and its opposite negated, in two kernels; then OR of both.
    wired = Automaton(
        channels=1,
        kernels=2,
        periodic=True,
        perceive_wires=(np.array([[1], [4]]),),
        update_wires=(np.array([[1, 1], [2, 0]]), np.array([[0], [1]])),
    )
    # Kernels AND and NAND; XNOR of them is FALSE, "A" is AND; OR of both.
    functions = np.array([1, 14, 9, 3, 7])
    netlist = pruned(automaton=wired, functions=functions, counted=[0])
    assert list(map(str, netlist.perceive)) == ["p1 = AND(n, own)"]
    assert not netlist.update
    assert str(netlist.outputs[0]) == "new.c0 = p1.c0"
    check(wired, functions, netlist)


def test_channels_that_nothing_depends_on_are_left_out() -> None:
    # Each channel becomes itself, by gates that hand on their first input.
    features = 3 * (1 + 2 * 2)
    first = wires_of([(0, 1), (1, 2), (2, 3), *((place, place + 1) for place in range(3, features - 1, 2))])
    wired = Automaton(
        channels=3,
        kernels=2,
        periodic=False,
        perceive_wires=automaton().perceive_wires,
        update_wires=(first, np.array([[0, 1, 2], [1, 0, 1]])),
    )
    # Channel 0 becomes AND of channels 0 and 1; channel 1 itself, channel 2 itself.
    functions = np.full(wired.gates, 3)
    functions[-3] = 1
    netlist = pruned(automaton=wired, functions=functions, counted=[0])
    assert [str(output) for output in netlist.outputs] == ["new.c0 = g1", "new.c1 = own.c1"]
    check(wired, functions, netlist)


def wires_of(pairs: list[tuple[int, int]]) -> Ints:
    return np.array(pairs, dtype=np.int64).T


def test_a_text_by_hand_is_computed() -> None:
    netlist = parse(HALF_ADDER)
    patches = np.random.default_rng(3).random((9, 2, 50)) < 0.5
    above, own = patches[1], patches[4]
    expected = [above[0] ^ own[0], ~((above[0] ^ own[0]) | ~own[1])]
    assert np.array_equal(netlist.next_states(patches), expected)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("XOR(n, own)", "XOR(n, here)"), 5),
        (("XOR(n, own)", "MAJ(n, own)"), 5),
        (("XOR(n, own)", "XOR(n, NOT own)"), 5),
        (("p2 = ", "p1 = "), 6),
        (("OR(p1.c0", "OR(p3.c0"), 9),
        (("own.c1)", "own.c2)"), 9),
        (("NOT g1", "NOT g2"), 12),
        (("new.c1", "new.c0"), 12),
        (("new.c1", "new.c2"), 12),
        (("channels 2", "channels none"), 2),
    ],
)
def test_a_text_that_is_none_is_refused_by_line(change: tuple[str, str], line: int) -> None:
    with pytest.raises(BadInput, match=f"circuit: line {line}: "):
        parse(HALF_ADDER.replace(*change))
