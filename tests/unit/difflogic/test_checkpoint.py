"""A checkpoint gives back every bit, or is refused with what is wrong with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from shardwise_jobs.engines.difflogic import checkpoint
from shardwise_jobs.engines.difflogic.npz import npz_bytes, read_arrays
from shardwise_jobs.engines.difflogic.optimizer import Settings, State, advance
from shardwise_jobs.errors import BadInput

GATES = 7


def state() -> State:
    random = np.random.default_rng(1)
    fresh = State.fresh(random.normal(size=(GATES, 16)))
    return advance(fresh, random.normal(size=(GATES, 16)), settings=Settings(lr=0.05))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "checkpoint.npz", state=state(), fingerprint="ours")
    return tmp_path / "checkpoint.npz"


def test_every_bit_comes_back(path: Path) -> None:
    loaded, saved = checkpoint.load(path, fingerprint="ours", gates=GATES), state()
    for name in ("logits", "m", "v"):
        assert getattr(loaded, name).tobytes() == getattr(saved, name).tobytes()
    assert loaded.step == saved.step == 1


def test_nothing_else_is_left_in_the_folder_and_the_same_state_makes_the_same_file(path: Path) -> None:
    first = path.read_bytes()
    checkpoint.save(path, state=state(), fingerprint="ours")
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


def test_another_experiments_is_refused(path: Path) -> None:
    with pytest.raises(BadInput, match="another experiment"):
        checkpoint.load(path, fingerprint="theirs", gates=GATES)


def test_one_of_another_size_is_refused(path: Path) -> None:
    with pytest.raises(BadInput, match=r"logits: .*shape \(7, 16\)"):
        checkpoint.load(path, fingerprint="ours", gates=GATES + 1)


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.npz: No such file"):
        checkpoint.load(tmp_path / "absent.npz", fingerprint="ours", gates=GATES)


def test_half_a_file_is_refused_wherever_it_ends(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match="not a readable npz file"):
            checkpoint.load(path, fingerprint="ours", gates=GATES)


def test_a_changed_byte_is_never_loaded_unnoticed(path: Path) -> None:
    whole = path.read_bytes()
    expected = state()
    for place in range(0, len(whole), 31):
        broken = bytearray(whole)
        broken[place] ^= 0x10
        path.write_bytes(broken)
        try:
            loaded = checkpoint.load(path, fingerprint="ours", gates=GATES)
        except BadInput:
            continue
        # Some bytes of an archive mean nothing.
        assert loaded.logits.tobytes() == expected.logits.tobytes()
        assert (loaded.m.tobytes(), loaded.v.tobytes()) == (expected.m.tobytes(), expected.v.tobytes())


def test_an_array_swapped_for_another_is_noticed(path: Path) -> None:
    arrays = read_arrays(path)
    path.write_bytes(npz_bytes({**arrays, "m": arrays["v"]}))
    with pytest.raises(BadInput, match="broken, its checksum"):
        checkpoint.load(path, fingerprint="ours", gates=GATES)


def test_another_format_and_another_file_are_refused(path: Path) -> None:
    arrays = read_arrays(path)
    path.write_bytes(npz_bytes({**arrays, "format": np.array("other-2")}))
    with pytest.raises(BadInput, match="format 'other-2'"):
        checkpoint.load(path, fingerprint="ours", gates=GATES)
    path.write_bytes(npz_bytes({"logits": arrays["logits"]}))
    with pytest.raises(BadInput, match="no checkpoint, checksum, fingerprint"):
        checkpoint.load(path, fingerprint="ours", gates=GATES)


def test_pickles_are_not_read(path: Path) -> None:
    np.savez(path, logits=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadInput, match=r"logits: not a readable npz file .*allow_pickle"):
        read_arrays(path)


def test_the_digest_is_that_of_little_endian_logits_and_the_step() -> None:
    logits = np.arange(32.0).reshape(2, 16)
    content = logits.astype("<f8").tobytes() + (5).to_bytes(8, "little")
    assert checkpoint.digest_of(logits=logits, step=5) == hashlib.sha256(content).hexdigest()
