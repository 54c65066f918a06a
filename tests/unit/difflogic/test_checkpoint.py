"""A checkpoint gives back every bit, or is refused with what is wrong with it."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from shardwise.engine.errors import BadInput
from shardwise_api.difflogic import Preset
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS, Experiment
from shardwise_jobs.engines.difflogic.model.optimizer import Settings, State, advance
from shardwise_jobs.engines.difflogic.npz import Array, arrays_of, npz_bytes, read_arrays
from shardwise_jobs.engines.difflogic.training import checkpoint
from shardwise_jobs.engines.difflogic.training.checkpoint import Checkpoint, Verdict

EXPERIMENT = PRESETS[Preset.GAME_OF_LIFE_SMALL]
AUTOMATON = EXPERIMENT.model.wired(seed=EXPERIMENT.seed)


def saved() -> Checkpoint:
    random = np.random.default_rng(1)
    fresh = State.fresh(random.normal(size=(AUTOMATON.gates, 16)))
    state = advance(fresh, random.normal(size=(AUTOMATON.gates, 16)), settings=Settings(lr=0.05))
    verdict = Verdict(step=1, wrong=3, total=512, unit="boards")
    return Checkpoint(state=state, history=random.random((5, 4)), verdict=verdict)


def content(of: Experiment = EXPERIMENT) -> bytes:
    return checkpoint.to_bytes(saved(), experiment=of.document(dtype="f64"), automaton=AUTOMATON)


def load(file: bytes) -> Checkpoint:
    return checkpoint.from_bytes(
        file, name="checkpoint.npz", experiment=EXPERIMENT.document(dtype="f64"), automaton=AUTOMATON
    )


def bits(of: Checkpoint) -> list[bytes]:
    return [array.tobytes() for array in (of.state.logits, of.state.m, of.state.v, of.history)]


def signed(arrays: dict[str, Array]) -> bytes:
    """Return a file whose checksum is right, whatever it holds."""
    arrays = {name: array for name, array in arrays.items() if name != "checksum"}
    return npz_bytes({**arrays, "checksum": np.array(checkpoint._checksum(arrays))})


def test_every_bit_comes_back() -> None:
    loaded, before = load(content()), saved()
    assert bits(loaded) == bits(before)
    assert loaded.state.step == before.state.step == 1
    assert loaded.verdict == before.verdict


def test_the_same_state_makes_the_same_file() -> None:
    assert content() == content()


def test_it_holds_wires_and_experiment_for_whoever_reads_it_elsewhere() -> None:
    found, experiment, arrays = checkpoint.opened(content(), name="any.npz")
    assert bits(found) == bits(saved())
    assert experiment["seed"] == EXPERIMENT.seed
    assert experiment["model"]["update_widths"] == list(AUTOMATON.update_widths)
    for index, wires in enumerate(AUTOMATON.update_wires):
        assert np.array_equal(arrays[f"update_wires_{index}"], wires)


def test_another_experiments_is_refused_and_the_fields_that_differ_are_named() -> None:
    theirs = dataclasses.replace(EXPERIMENT, seed=24, optimizer=Settings(lr=0.06))
    with pytest.raises(BadInput) as refused:
        load(content(theirs))
    assert str(refused.value).startswith("checkpoint.npz: a checkpoint of another experiment: ")
    assert "optimizer.lr is 0.06 there and 0.05 here; seed is 24 there and 23 here" in str(refused.value)
    assert "another output folder" in str(refused.value)


def test_how_many_steps_it_was_meant_for_does_not_matter() -> None:
    assert bits(load(content(dataclasses.replace(EXPERIMENT, steps=1)))) == bits(saved())


@pytest.mark.parametrize("name", ["logits", "m", "v"])
def test_one_of_another_size_is_refused(name: str) -> None:
    arrays = arrays_of(content(), where="x")
    with pytest.raises(BadInput, match=rf"{name}: shape \(7, 16\), expected \({AUTOMATON.gates}, 16\)"):
        load(signed({**arrays, name: arrays[name][:7]}))


def test_what_is_not_finite_is_refused() -> None:
    arrays = arrays_of(content(), where="x")
    with pytest.raises(BadInput, match="logits: not finite"):
        load(signed({**arrays, "logits": np.full_like(arrays["logits"], np.nan)}))


def test_other_wires_are_refused() -> None:
    arrays = arrays_of(content(), where="x")
    with pytest.raises(BadInput, match="update_wires_0: not the wires that this version draws"):
        load(signed({**arrays, "update_wires_0": arrays["update_wires_0"][::-1]}))


def test_half_a_file_is_refused_wherever_it_ends() -> None:
    whole = content()
    for length in range(0, len(whole), 997):
        with pytest.raises(BadInput, match=r"checkpoint\.npz: not a readable npz file"):
            load(whole[:length])


def test_a_changed_byte_is_never_loaded_unnoticed() -> None:
    whole, expected = content(), bits(saved())
    for place in range(0, len(whole), 331):
        broken = bytearray(whole)
        broken[place] ^= 0x10
        try:
            loaded = load(bytes(broken))
        except BadInput:
            continue
        # Some bytes of an archive mean nothing.
        assert bits(loaded) == expected


def test_an_array_swapped_for_another_is_noticed() -> None:
    arrays = arrays_of(content(), where="x")
    with pytest.raises(BadInput, match="broken, its checksum"):
        load(npz_bytes({**arrays, "m": arrays["v"]}))


def test_another_format_and_another_file_are_refused() -> None:
    arrays = arrays_of(content(), where="x")
    with pytest.raises(BadInput, match="format 'other-2'"):
        load(signed({**arrays, "format": np.array("other-2")}))
    with pytest.raises(BadInput, match="no checkpoint, checksum, experiment, format"):
        load(npz_bytes({"logits": arrays["logits"]}))


def test_pickles_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", logits=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadInput, match=r"logits: not a readable npz file .*allow_pickle"):
        read_arrays(tmp_path / "x.npz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.npz: No such file"):
        read_arrays(tmp_path / "absent.npz")


def test_the_digest_is_that_of_little_endian_logits_and_the_step() -> None:
    logits = np.arange(32.0).reshape(2, 16)
    told = logits.astype("<f8").tobytes() + (5).to_bytes(8, "little")
    assert checkpoint.digest_of(logits=logits, step=5) == hashlib.sha256(told).hexdigest()
