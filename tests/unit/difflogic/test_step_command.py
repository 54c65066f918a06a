"""`shardwise difflogic step`: a file in, a file out, and an error that names the array."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from shardwise_jobs.engines.difflogic.cli import difflogic
from shardwise_jobs.engines.difflogic.model.gates import logit_gradient
from shardwise_jobs.engines.difflogic.model.optimizer import Settings, State, advance
from shardwise_jobs.engines.difflogic.model.sample import Parameters
from tests.support.automata import Batch, batch
from tests.support.cli import SHARDWISE

Arrays = dict[str, Any]
GIVEN = batch(samples=3, height=4, width=5, asynchronous=True)


def meta_of(given: Batch) -> dict[str, Any]:
    return {
        "periodic": given.automaton.periodic,
        "num_steps": given.steps,
        "loss_channels": list(range(given.automaton.channels))[::2],
        "n_perceive": len(given.automaton.perceive_wires),
        "n_update": len(given.automaton.update_wires),
        "clip": 100.0,
        "lr": 0.05,
        "b1": 0.9,
        "b2": 0.99,
        "eps": 1e-8,
        "weight_decay": 0.01,
    }


def arrays_of(given: Batch, **changes: Any) -> Arrays:
    """What IN.npz holds; changes are those of its meta."""
    arrays: Arrays = {"meta": np.array(json.dumps({**meta_of(given), **changes})), "x": given.x, "y": given.y}
    if given.fire is not None:
        arrays["fire"] = given.fire
    perceive, update = given.automaton.layers(given.logits)
    for index, (logits, wires) in enumerate(zip(perceive, given.automaton.perceive_wires, strict=True)):
        arrays |= {f"perceive_logits_{index}": logits, f"perceive_wires_{index}": wires}
    for index, (logits, wires) in enumerate(zip(update, given.automaton.update_wires, strict=True)):
        arrays |= {f"update_logits_{index}": logits, f"update_wires_{index}": wires}
    return arrays


def step(folder: Path, arrays: Arrays, *options: str) -> Result:
    np.savez(folder / "in.npz", **arrays)
    return CliRunner().invoke(difflogic, ["step", str(folder / "in.npz"), str(folder / "out.npz"), *options])


def out(folder: Path, arrays: Arrays, *options: str) -> Arrays:
    done = step(folder, arrays, *options)
    assert done.exit_code == 0, done.output
    with np.load(folder / "out.npz", allow_pickle=False) as stored:
        return dict(stored)


def test_it_writes_what_the_library_computes(tmp_path: Path) -> None:
    found = out(tmp_path, arrays_of(GIVEN))
    results = [GIVEN.sample(number) for number in range(3)]
    assert found["sample_loss_soft"].tolist() == [result.soft_loss for result in results]
    assert found["sample_loss_hard"].tolist() == [result.hard_loss for result in results]
    assert found["loss_soft"] == pytest.approx(found["sample_loss_soft"].sum(), abs=1e-10)
    assert found["loss_hard"] == pytest.approx(found["sample_loss_hard"].sum(), abs=1e-10)
    assert found["final_soft"].tobytes() == np.stack([result.final_soft for result in results]).tobytes()
    assert found["final_hard"].shape == GIVEN.x.shape

    sums = np.add.reduce([result.sums for result in results])
    gradient = logit_gradient(weights=Parameters(GIVEN.logits).weights, sums=sums)
    new = advance(State.fresh(GIVEN.logits), gradient, settings=Settings(lr=0.05)).logits
    for kind, flat, bound in (("grad", gradient, 1e-12), ("new", new, 1e-8)):
        perceive, update = GIVEN.automaton.layers(flat)
        for circuit, layers in (("perceive", perceive), ("update", update)):
            for index, layer in enumerate(layers):
                np.testing.assert_allclose(found.pop(f"{kind}_{circuit}_{index}"), layer, rtol=0, atol=bound)
    told = {"loss_soft", "loss_hard", "sample_loss_soft", "sample_loss_hard", "final_soft", "final_hard"}
    assert set(found) == told


def test_workers_and_the_order_of_samples_change_no_bit_of_the_parameters(tmp_path: Path) -> None:
    first = out(tmp_path, arrays_of(GIVEN))
    assert GIVEN.fire is not None
    turned = GIVEN.but(x=GIVEN.x[::-1], y=GIVEN.y[::-1], fire=GIVEN.fire[::-1])
    second = out(tmp_path, arrays_of(turned), "--workers", "3")
    for name in first:
        if name.startswith(("new_", "grad_", "loss_")):
            assert first[name].tobytes() == second[name].tobytes()


def test_single_precision_is_asked_for_by_name(tmp_path: Path) -> None:
    single, double = out(tmp_path, arrays_of(GIVEN), "--dtype", "f32"), out(tmp_path, arrays_of(GIVEN))
    assert (single["final_soft"].dtype, double["final_soft"].dtype) == (np.float32, np.float64)
    assert single["loss_soft"] == pytest.approx(double["loss_soft"], rel=1e-5)
    assert single["loss_soft"] != double["loss_soft"]


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_])
def test_grids_fire_and_wires_may_be_of_any_numbers(tmp_path: Path, kind: type[np.generic]) -> None:
    given = batch(samples=1, height=3, width=3, asynchronous=True, bits=True)
    plain = out(tmp_path, arrays_of(given))
    arrays = arrays_of(given)
    for name in arrays:
        if name in ("x", "y", "fire"):
            arrays[name] = arrays[name].astype(kind)
        elif "wires" in name:
            arrays[name] = arrays[name].astype(np.int32)
    arrays["meta"] = np.frombuffer(str(arrays["meta"]).encode(), dtype=np.uint8)
    assert out(tmp_path, arrays)["new_update_0"].tobytes() == plain["new_update_0"].tobytes()


def test_it_is_a_command_of_shardwise(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", **arrays_of(GIVEN))
    command = [str(SHARDWISE), "difflogic", "step", "in.npz", "out.npz", "--dtype", "f64"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out.npz").exists()


def without(name: str) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.__delitem__(name)


def put(name: str, value: Any) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.__setitem__(name, np.asarray(value))


def meta(**changes: Any) -> Callable[[Arrays], None]:
    return put("meta", json.dumps({**meta_of(GIVEN), **changes}))


def without_lr(arrays: Arrays) -> None:
    put("meta", json.dumps({key: value for key, value in meta_of(GIVEN).items() if key != "lr"}))(arrays)


BAD: dict[str, tuple[Callable[[Arrays], None], str]] = {
    "no x": (without("x"), "x: missing"),
    "no meta": (without("meta"), "meta: missing"),
    "no logits": (without("update_logits_2"), "update_logits_2: missing"),
    "no wires": (without("perceive_wires_1"), "perceive_wires_1: missing"),
    "flat x": (put("x", GIVEN.x[0]), "x: shape (4, 5, 3), expected 4 dimensions"),
    "empty x": (put("x", GIVEN.x[:0]), "x: shape (0, 4, 5, 3)"),
    "y of another shape": (put("y", GIVEN.y[:, :3]), "y: shape (3, 3, 5, 3), expected that of x, (3, 4, 5, 3)"),
    "x with NaN": (put("x", GIVEN.x * np.nan), "x: holds NaN or infinity"),
    "x of text": (put("x", np.full(GIVEN.x.shape, "a")), "x: <U1, expected numbers"),
    "fire too short": (put("fire", np.ones((3, 2, 4, 5))), "fire: shape (3, 2, 4, 5), expected (3, 3, 4, 5)"),
    "fire of halves": (put("fire", np.full((3, 3, 4, 5), 0.5)), "fire: expected 0 and 1"),
    "15 logits": (put("update_logits_0", np.zeros((8, 15))), "update_logits_0: shape (8, 15), expected (8, 16)"),
    "kernels that differ": (put("perceive_logits_1", np.zeros((3, 4, 16))), "perceive_logits_1: shape (3, 4, 16)"),
    "wires too far": (put("update_wires_1", np.full((2, 8), 8)), "update_wires_1: wires from 8 to 8"),
    "wires below zero": (put("perceive_wires_0", np.full((2, 8), -1)), "perceive_wires_0: wires from -1 to -1"),
    "wires beyond the patch": (put("perceive_wires_0", np.full((2, 8), 9)), "perceive_wires_0: wires from 9 to 9"),
    "wires of three rows": (put("update_wires_0", np.zeros((3, 8), int)), "update_wires_0: shape (3, 8)"),
    "wires of fractions": (put("update_wires_0", np.zeros((2, 8))), "update_wires_0: float64, expected whole numbers"),
    "an unknown array": (put("wires", [1]), "wires: unknown array"),
    "one layer too few": (meta(n_update=3), "update_logits_3: unknown array"),
    "one layer too many": (meta(n_perceive=4), "perceive_logits_3: missing"),
    "an unknown key": (meta(momentum=1), "meta: unknown key 'momentum'"),
    "a missing key": (without_lr, "meta: lr missing"),
    "no JSON": (put("meta", "{"), "meta: not JSON"),
    "no object": (put("meta", "[]"), "meta: not a JSON object"),
    "no text": (put("meta", [1.5]), "meta: float64 of shape (1,), expected one text"),
    "no steps": (meta(num_steps=0), "meta: num_steps: 0"),
    "half a step": (meta(num_steps=1.5), "meta: num_steps: 1.5"),
    "periodic in words": (meta(periodic="yes"), "meta: periodic: 'yes'"),
    "a loss channel too far": (meta(loss_channels=[3]), "meta: loss_channels: [3]"),
    "no loss channel": (meta(loss_channels=[]), "meta: loss_channels: []"),
    "a rate in words": (meta(lr="fast"), "meta: lr: 'fast'"),
    "a rate below zero": (meta(lr=-1), "lr: -1 is not"),
    "an endless clip": (meta(clip=float("inf")), "clip: inf is not"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named_and_nothing_is_written(
    tmp_path: Path, spoil: Callable[[Arrays], None], message: str
) -> None:
    arrays = arrays_of(GIVEN)
    spoil(arrays)
    done = step(tmp_path, arrays)
    assert done.exit_code == 2
    assert done.output.startswith(f"error: {tmp_path / 'in.npz'}: ")
    assert message in done.output
    assert not (tmp_path / "out.npz").exists()


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    done = step(tmp_path, {**arrays_of(GIVEN), "x": np.array([{}], dtype=object)})
    assert done.exit_code == 2
    assert "x: not a readable npz file" in done.output


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"no zip", "not a readable npz file")])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "in.npz").write_bytes(content)
    done = CliRunner().invoke(difflogic, ["step", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")])
    assert done.exit_code == 2
    assert message in done.output


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros(3))
    done = CliRunner().invoke(difflogic, ["step", str(tmp_path / "in.npy"), str(tmp_path / "out.npz")])
    assert (done.exit_code, "a single array" in done.output) == (2, True)


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", **arrays_of(GIVEN))
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "out.npz"
    done = CliRunner().invoke(difflogic, ["step", str(tmp_path / "in.npz"), str(target)])
    assert done.exit_code == 2
    assert done.output.startswith(f"error: {target}: ")
