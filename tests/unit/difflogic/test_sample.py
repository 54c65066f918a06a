"""A sample's gradients: against differences, against the readable reference to the bit, and hard against soft gates."""

from __future__ import annotations

import numpy as np
import pytest

from shardwise_jobs.engines.difflogic.model import hard, kernels, reference
from shardwise_jobs.engines.difflogic.model.automaton import Automaton, neighbours
from shardwise_jobs.engines.difflogic.model.gates import GATES, logit_gradient
from shardwise_jobs.engines.difflogic.model.sample import Backend, Parameters, to_state
from tests.support.automata import Batch, automaton, batch

KINDS = {
    "torus": batch(of=automaton(periodic=True)),
    "bounded": batch(of=automaton(periodic=False)),
    "asynchronous": batch(asynchronous=True),
    "one channel, last width one": batch(
        of=automaton(channels=1, kernels=8, perceive=(8, 4, 2, 1), update=(8, 4, 2, 1), periodic=True),
        height=3,
        width=3,
    ),
    "more than a chunk": batch(height=9, width=15, steps=2, asynchronous=True),
    "a torus narrower than a neighbourhood": batch(of=automaton(periodic=True), height=1, width=2),
}
each_kind = pytest.mark.parametrize("given", KINDS.values(), ids=KINDS.keys())
each_backend = pytest.mark.parametrize("backend", [reference, kernels], ids=["reference", "kernels"])
EXACT_STEP = 1e-5


@each_backend
@each_kind
def test_logit_gradients_are_the_slopes_of_the_loss(given: Batch, backend: Backend) -> None:
    random = np.random.default_rng(7)
    gradient = logit_gradient(weights=Parameters(given.logits).weights, sums=given.sample(0, backend=backend).sums)
    slopes, told = [], []
    for _ in range(12):
        # Along random directions all logits take part at once.
        direction = random.normal(size=given.logits.shape)
        ahead = given.but(logits=given.logits + EXACT_STEP * direction).sample(0, backend=backend).soft_loss
        behind = given.but(logits=given.logits - EXACT_STEP * direction).sample(0, backend=backend).soft_loss
        slopes.append((ahead - behind) / (2 * EXACT_STEP))
        told.append(float((gradient * direction).sum()))
    assert told == pytest.approx(slopes, rel=1e-6, abs=1e-6 * float(np.abs(slopes).max()))


def test_the_gradient_of_each_single_logit_is_its_slope() -> None:
    given = batch(of=automaton(channels=2, kernels=1, update=(4, 3, 2)), height=3, width=3, asynchronous=True)
    gradient = logit_gradient(weights=Parameters(given.logits).weights, sums=given.sample(0).sums)
    slopes = np.zeros_like(gradient)
    for gate in range(given.automaton.gates):
        for k in range(GATES):
            moved = [given.logits.copy(), given.logits.copy()]
            moved[0][gate, k] += EXACT_STEP
            moved[1][gate, k] -= EXACT_STEP
            ahead, behind = (given.but(logits=logits).sample(0).soft_loss for logits in moved)
            slopes[gate, k] = (ahead - behind) / (2 * EXACT_STEP)
    assert np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@each_kind
def test_kernels_and_twin_give_the_same_bits(given: Batch, dtype: str) -> None:
    compiled, read = (given.sample(1, dtype=dtype, backend=backend) for backend in (kernels, reference))
    assert compiled.sums.tobytes() == read.sums.tobytes()
    assert compiled.final_soft.tobytes() == read.final_soft.tobytes()
    assert compiled.final_hard.tobytes() == read.final_hard.tobytes()
    assert (compiled.soft_loss, compiled.hard_loss) == (read.soft_loss, read.hard_loss)


def test_gates_may_read_one_input_twice_and_leave_others_unread() -> None:
    base = automaton()
    same = np.zeros((2, 8), dtype=np.int64)
    odd = Automaton(
        channels=base.channels,
        kernels=base.kernels,
        periodic=True,
        perceive_wires=(same, *base.perceive_wires[1:]),
        update_wires=(same + 5, *base.update_wires[1:]),
    )
    given = batch(of=odd)
    compiled, read = (given.sample(0, backend=backend) for backend in (kernels, reference))
    assert compiled.sums.tobytes() == read.sums.tobytes()


def test_single_precision_is_near_double_precision() -> None:
    given = batch(asynchronous=True)
    single, double = given.sample(0, dtype="f32"), given.sample(0)
    assert single.final_soft.dtype == np.float32
    assert single.soft_loss == pytest.approx(double.soft_loss, rel=1e-5)
    np.testing.assert_allclose(single.sums, double.sums, rtol=1e-3, atol=1e-5 * np.abs(double.sums).max())


def test_a_sample_changes_nothing_it_is_given() -> None:
    given = batch(asynchronous=True)
    assert given.fire is not None
    before = [array.tobytes() for array in (given.x, given.y, given.fire, given.logits)]
    first, second = given.sample(0), given.sample(0)
    assert first.sums.tobytes() == second.sums.tobytes()
    assert [array.tobytes() for array in (given.x, given.y, given.fire, given.logits)] == before


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (8, 8), (9, 15), (16, 20)])
def test_packed_is_unpacked_is_soft_with_one_hot_logits(
    height: int, width: int, periodic: bool, asynchronous: bool
) -> None:
    given = batch(
        of=automaton(periodic=periodic), height=height, width=width, bits=True, asynchronous=asynchronous, steps=4
    )
    functions = Parameters(given.logits).functions
    shape = (given.steps, height * width)
    fire = np.ones(shape, dtype=np.bool_) if given.fire is None else given.fire[0].reshape(shape)
    table = neighbours(height=height, width=width, periodic=periodic)
    start = to_state(given.x[0], dtype="f64").astype(np.bool_)
    unpacked, packed = (
        roll(automaton=given.automaton, table=table, functions=functions, start=start, fire=fire)
        for roll in (hard.forward, hard.packed_forward)
    )
    assert np.array_equal(packed, unpacked)

    one_hot = np.where(np.arange(GATES) == functions[:, None], 1000.0, 0.0)
    certain = given.but(logits=one_hot).sample(0)
    soft = to_state(certain.final_soft, dtype="f64")
    assert np.array_equal(soft, unpacked)
    assert np.array_equal(to_state(given.sample(0).final_hard, dtype="f64"), unpacked)
    assert certain.soft_loss == certain.hard_loss


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_packing_goes_there_and_back_and_fills_up_with_zeros(count: int) -> None:
    cells = np.random.default_rng(count).random((3, count)) < 0.5
    words = hard.pack(cells)
    assert words.shape == (3, -(-count // 64))
    assert np.array_equal(hard.unpack(words, count=count), cells)
    assert hard.unpack(words, count=words.shape[1] * 64)[:, count:].sum() == 0


def test_grids_between_bits_take_the_hard_gates_in_their_relaxed_form() -> None:
    given = batch()
    certain = given.but(logits=np.where(np.arange(GATES) == Parameters(given.logits).functions[:, None], 1000.0, 0.0))
    assert given.sample(0).hard_loss == certain.sample(0).soft_loss


def test_example_f_pass_through_gates_hand_on_the_input_they_are_wired_to() -> None:
    built = automaton(channels=1, kernels=16, perceive=(8, 4, 2, 1), update=(*[16] * 17, 16, 16, 8, 4, 2, 1))
    assert len(built.perceive_wires) + len(built.update_wires) >= 24
    logits = np.zeros((built.gates, GATES))
    logits[:, 3] = 1e3
    given = batch(of=built, steps=1, bits=True).but(logits=logits)
    feature = 0
    for wires in reversed(built.update_wires):
        feature = int(wires[0, feature])
    assert feature > 0
    place = 0
    for wires in reversed(built.perceive_wires):
        place = int(wires[0, place])
    # It is the neighbour at that place that every cell becomes.
    table = neighbours(height=5, width=7, periodic=False)
    expected = to_state(given.x[0], dtype="f64")[:, table[place]]
    result = given.sample(0)
    assert np.array_equal(to_state(result.final_soft, dtype="f64"), expected)
    assert np.array_equal(to_state(result.final_hard, dtype="f64"), expected)
