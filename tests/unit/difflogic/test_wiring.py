"""Wires and random numbers: the patterns of the specification, and numbers that belong to their place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.engine.errors import BadConfiguration
from shardwise_jobs.engines.difflogic.model import rng, wiring
from shardwise_jobs.engines.difflogic.model.automaton import Automaton, neighbours
from shardwise_jobs.engines.difflogic.model.rng import Shuffler, Stream
from tests.support.automata import automaton


def pairs(wires: np.ndarray) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in wires.T]


def test_first_gates_read_a_neighbour_each_and_the_centre() -> None:
    assert pairs(wiring.first_kernel(gates=8, shuffler=None)) == [(n, 4) for n in (0, 1, 2, 3, 5, 6, 7, 8)]
    shuffled = pairs(wiring.first_kernel(gates=8, shuffler=Shuffler(1)))
    assert shuffled != sorted(shuffled)
    assert sorted(shuffled) == [(n, 4) for n in (0, 1, 2, 3, 5, 6, 7, 8)]


@pytest.mark.parametrize(
    ("inputs", "gates", "expected"),
    [
        (2, 1, [(0, 1)]),
        (8, 4, [(0, 1), (2, 3), (4, 5), (6, 7)]),
        (3, 3, [(0, 1), (1, 2), (0, 2)]),
        (4, 6, [(0, 1), (2, 3), (1, 2), (0, 2), (1, 3), (0, 3)]),
    ],
)
def test_pairs_come_in_the_order_of_the_specification(inputs: int, gates: int, expected: list[tuple[int, int]]) -> None:
    assert pairs(wiring.unique(inputs=inputs, gates=gates, shuffler=None)) == expected


def test_as_many_gates_as_inputs_read_neighbours_and_one_pair_farther_apart() -> None:
    wires = pairs(wiring.unique(inputs=256, gates=256, shuffler=None))
    assert wires[:128] == [(n, n + 1) for n in range(0, 256, 2)]
    assert wires[128:255] == [(n, n + 1) for n in range(1, 255, 2)]
    assert wires[255:] == [(0, 2)]


@given(inputs=st.integers(2, 60), seed=st.integers(0, 2**63), data=st.data())
def test_every_input_is_read_and_no_pair_comes_twice(inputs: int, seed: int, data: st.DataObject) -> None:
    gates = data.draw(st.integers((inputs + 1) // 2, inputs * (inputs - 1) // 2))
    plain = pairs(wiring.unique(inputs=inputs, gates=gates, shuffler=None))
    shuffled = pairs(wiring.unique(inputs=inputs, gates=gates, shuffler=Shuffler(seed)))
    assert len(set(plain)) == gates
    assert sorted(shuffled) == sorted(plain)
    # With an odd number, the last one waits for the pair before it.
    if inputs % 2 == 0 or gates >= inputs - 1:
        assert {place for pair in plain for place in pair} == set(range(inputs))


@pytest.mark.parametrize(("inputs", "gates", "message"), [(9, 4, "can't read 9"), (4, 7, "make 6 pairs")])
def test_widths_that_do_not_fit_are_refused(inputs: int, gates: int, message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        wiring.unique(inputs=inputs, gates=gates, shuffler=None)


def test_more_first_gates_than_neighbours_are_refused() -> None:
    with pytest.raises(BadConfiguration, match="8 neighbours"):
        wiring.first_kernel(gates=9, shuffler=None)


def test_wires_to_inputs_that_are_not_there_are_refused_by_name() -> None:
    good = automaton()
    bad = good.update_wires[1].copy()
    bad[0, 0] = 8
    with pytest.raises(BadConfiguration, match=r"update_wires_1: wires from 0 to 8, .* inputs 0 to 7"):
        Automaton(
            channels=good.channels,
            kernels=good.kernels,
            periodic=True,
            perceive_wires=good.perceive_wires,
            update_wires=(good.update_wires[0], bad, *good.update_wires[2:]),
        )


def test_a_circuit_that_gives_no_whole_cell_is_refused() -> None:
    good = automaton()
    with pytest.raises(BadConfiguration, match="update_wires_2: 4 gates, but a cell has 3 channels"):
        Automaton(
            channels=good.channels,
            kernels=good.kernels,
            periodic=True,
            perceive_wires=good.perceive_wires,
            update_wires=good.update_wires[:-1],
        )


def test_flat_arrays_hold_layers_in_order_and_kernels_within_them() -> None:
    built = automaton(kernels=2)
    flat = np.arange(built.gates)[:, None]
    perceive, update = built.layers(flat)
    assert [layer.shape for layer in perceive] == [(2, 8, 1), (2, 4, 1), (2, 2, 1)]
    assert [layer.shape for layer in update] == [(8, 1), (8, 1), (4, 1), (3, 1)]
    assert perceive[1][1, 0, 0] == 16 + 4
    assert np.array_equal(built.flat(perceive, update), flat)


def test_neighbours_are_row_by_row_and_zero_or_wrapped_outside() -> None:
    assert neighbours(height=3, width=4, periodic=True)[:, 0].tolist() == [11, 8, 9, 3, 0, 1, 7, 4, 5]
    assert neighbours(height=3, width=4, periodic=False)[:, 0].tolist() == [12, 12, 12, 12, 0, 1, 12, 4, 5]


@given(seed=st.integers(0, 2**64 - 1), sample=st.integers(0, 2**63), step=st.integers(0, 2**63))
def test_numbers_belong_to_their_place(seed: int, sample: int, step: int) -> None:
    drawn = rng.words(8, seed=seed, stream=Stream.DATA, sample=sample, step=step)
    assert np.array_equal(rng.words(8, seed=seed, stream=Stream.DATA, sample=sample, step=step), drawn)
    others = [
        rng.words(8, seed=seed ^ 1, stream=Stream.DATA, sample=sample, step=step),
        rng.words(8, seed=seed, stream=Stream.FIRE, sample=sample, step=step),
        rng.words(8, seed=seed, stream=Stream.DATA, sample=sample ^ 1, step=step),
        rng.words(8, seed=seed, stream=Stream.DATA, sample=sample, step=step ^ 1),
    ]
    assert not any(np.isin(drawn, other).any() for other in others)


def test_numbers_are_those_of_philox_whoever_draws_them() -> None:
    # Known answers: a changed generator would make every training another.
    drawn = rng.words(2, seed=23, stream=Stream.DATA, sample=1, step=7).tolist()
    assert drawn == [7184547134031436266, 4017341457224464852]
    assert Shuffler(23).permutation(8).tolist() == [4, 5, 1, 2, 7, 6, 0, 3]


def test_uniforms_bits_and_whole_numbers_are_in_their_ranges() -> None:
    drawn = rng.uniforms(20_000, seed=1, stream=Stream.DATA)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.01
    assert abs(rng.bits(20_000, seed=1, stream=Stream.DATA).mean() - 0.5) < 0.02
    assert set(rng.below(6, 1000, seed=1, stream=Stream.DATA).tolist()) == set(range(6))


def test_six_cells_of_ten_fire() -> None:
    mask = rng.fire_masks(steps=20, height=30, width=40, seed=1, sample=2, step=3)
    assert mask.shape == (20, 30, 40)
    assert abs(mask.mean() - 0.6) < 0.02
