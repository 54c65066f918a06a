"""A cell's step as one list of gates: the places in memory that rows share are never anybody else's too soon."""

from __future__ import annotations

import numpy as np
import pytest

from shardwise_api.difflogic import Preset
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS
from shardwise_jobs.engines.difflogic.model.automaton import Automaton
from shardwise_jobs.engines.difflogic.model.circuit import NOTHING
from tests.support.automata import automaton

ALL = {
    "small": automaton(),
    "one channel": automaton(channels=1, kernels=8, perceive=(8, 4, 2, 1), update=(8, 4, 2, 1)),
    "Game of Life": PRESETS[Preset.GAME_OF_LIFE].model.wired(seed=1),
    "checkerboard": PRESETS[Preset.CHECKERBOARD_SYNC].model.wired(seed=1),
}
each = pytest.mark.parametrize("built", ALL.values(), ids=ALL.keys())


@each
def test_it_has_every_gate_evaluation_of_a_cell(built: Automaton) -> None:
    circuit = built.circuit
    assert circuit.gates == built.evaluations
    assert set(circuit.parameters.tolist()) == set(range(built.gates))
    # Perception stands once for each channel, and the update circuit once.
    assert np.bincount(circuit.parameters).max() == built.channels
    assert (circuit.wires < circuit.inputs + np.arange(circuit.gates)).all()


@each
def test_shared_places_hold_the_rows_that_gates_read(built: Automaton) -> None:
    circuit = built.circuit
    holds = {place: place for place in range(circuit.inputs)}
    for gate, (a, b, out, parameters) in enumerate(circuit.reused.tolist()):
        assert [holds[a], holds[b]] == circuit.wires[:, gate].tolist()
        assert parameters == circuit.parameters[gate]
        holds[out] = circuit.inputs + gate
    last = [holds[place] for place in circuit.reused[-circuit.outputs :, 2].tolist()]
    assert last == list(range(circuit.rows - circuit.outputs, circuit.rows))
    assert max(holds) < circuit.reused_places < circuit.rows


@each
def test_going_back_every_gate_finds_the_gradient_that_its_readers_left(built: Automaton) -> None:
    circuit = built.circuit
    holds: dict[int, tuple[int, int]] = {}
    written = [0] * circuit.rows
    for output, place in enumerate(circuit.output_places.tolist()):
        holds[place] = (circuit.rows - circuit.outputs + output, 0)
    readers = np.bincount(circuit.wires.ravel(), minlength=circuit.rows)
    for number, line in enumerate(circuit.back.tolist()):
        gate = circuit.gates - 1 - number
        a, b, own, a_before, a_after, b_before, b_after, parameters = line
        row = circuit.inputs + gate
        assert [a, b] == circuit.wires[:, gate].tolist()
        assert parameters == circuit.parameters[gate]
        if own == NOTHING:
            assert readers[row] == 0
        else:
            assert holds[own] == (row, readers[row])
        for source, before, after in ((a, a_before, a_after), (b, b_before, b_after)):
            if written[source]:
                assert holds[before] == (source, written[source])
            else:
                assert before == NOTHING
            assert after != NOTHING
            written[source] += 1
            holds[after] = (source, written[source])
    for row in range(circuit.inputs):
        assert written[row] == readers[row]
        if readers[row]:
            assert holds[1 + row] == (row, readers[row])
    assert max(holds) < circuit.back_places < circuit.rows
