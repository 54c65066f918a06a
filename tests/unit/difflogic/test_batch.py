"""A batch's sum: that of its samples one by one, in bits, however they are shared out."""

from __future__ import annotations

import numpy as np
import pytest

from shardwise.engine.errors import BadInput
from shardwise_jobs.engines.difflogic.model import reference
from shardwise_jobs.engines.difflogic.model.batch import Sample, batch_sum
from shardwise_jobs.engines.difflogic.model.gates import FORMS
from shardwise_jobs.engines.difflogic.model.sample import Parameters
from shardwise_jobs.engines.difflogic.model.step import BatchSum
from tests.support.automata import Batch, automaton, batch

KINDS = {
    "torus": batch(of=automaton(periodic=True), samples=5, bits=True),
    "asynchronous": batch(samples=5, bits=True, asynchronous=True),
    "one step of a cell's size": batch(of=automaton(periodic=True), samples=5, height=1, width=1, steps=1, bits=True),
    "more than a chunk": batch(samples=5, height=9, width=8, steps=2, bits=True, asynchronous=True),
}
each_kind = pytest.mark.parametrize("given", KINDS.values(), ids=KINDS.keys())
CHANNELS = np.array([0, 2])


def samples(given: Batch) -> list[Sample]:
    return [
        Sample(
            x=given.x[number].astype(np.uint8),
            y=given.y[number].astype(np.uint8),
            fire=None if given.fire is None else given.fire[number],
        )
        for number in range(len(given.x))
    ]


def summed(
    given: Batch, chosen: list[Sample], *, dtype: str = "f64", workers: int = 1, chunk: int | None = None
) -> BatchSum:
    return batch_sum(
        automaton=given.automaton,
        parameters=Parameters(given.logits),
        samples=chosen,
        loss_channels=CHANNELS,
        steps=given.steps,
        dtype=dtype,
        workers=workers,
        chunk=chunk,
    )


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@each_kind
def test_it_is_the_sum_of_what_the_readable_form_makes_of_each_sample(given: Batch, dtype: str) -> None:
    total = BatchSum(gates=given.automaton.gates)
    for number in range(5):
        total.add(given.sample(number, dtype=dtype, backend=reference))
    found = summed(given, samples(given), dtype=dtype)
    assert found.words.tobytes() == total.words.tobytes()
    assert found.samples == 5
    assert found.right == sum(given.sample(number).right for number in range(5))


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@each_kind
def test_workers_chunks_and_neighbours_change_no_bit(given: Batch, dtype: str) -> None:
    every = samples(given)
    expected = summed(given, every, dtype=dtype).words.tobytes()
    for workers in (1, 2, 3, 4, 8):
        for chunk in (None, 1, 2, 4, 5):
            assert summed(given, every, dtype=dtype, workers=workers, chunk=chunk).words.tobytes() == expected
    for ranks in (2, 3, 4, 8):
        total = BatchSum(gates=given.automaton.gates)
        for rank in range(ranks):
            total.merge(summed(given, every[5 * rank // ranks : 5 * (rank + 1) // ranks], dtype=dtype))
        assert total.words.tobytes() == expected
    assert summed(given, every[::-1], dtype=dtype).words.tobytes() == expected


def test_a_sum_of_nothing_is_zero() -> None:
    given = KINDS["torus"]
    assert not summed(given, []).words.any()


def test_right_bits_are_those_that_agree_with_the_target() -> None:
    given = KINDS["torus"]
    result = given.sample(0)
    agree = (result.final_hard == given.y[0])[:, :, ::2]
    assert result.right == int(agree.sum())
    assert result.hard_loss == agree.size - result.right


def test_gradients_that_are_no_numbers_are_refused() -> None:
    given = KINDS["torus"]
    broken = given.but(logits=np.full_like(given.logits, np.nan))
    with pytest.raises(BadInput, match="has diverged"):
        summed(broken, samples(broken))


def test_coefficients_of_noise_are_nothing_in_single_precision() -> None:
    from shardwise_jobs.engines.difflogic.model.gates import in_single_precision

    given = np.array([[1e-18, -1e-17, 0.25, 1e-9]])
    assert in_single_precision(given).tolist() == [[0.0, 0.0, 0.25, float(np.float32(1e-9))]]
    assert np.array_equal(in_single_precision(FORMS), FORMS)
