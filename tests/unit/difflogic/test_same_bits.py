"""The same bits on every x86-64: what is compiled for the least of them is compared with what is compiled for this one.

And the machine code is read: with a fused multiply-add at hand, none may be used.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numba.core.codegen
import numpy as np
import pytest

from shardwise_jobs.engines.difflogic.model import jit_kernels, logits
from shardwise_jobs.engines.difflogic.model.batch import Sample, batch_sum
from shardwise_jobs.engines.difflogic.model.kernels import aligned
from shardwise_jobs.engines.difflogic.model.llvm_kernels import CHUNK, mix, mix_back
from shardwise_jobs.engines.difflogic.model.optimizer import Settings, State
from shardwise_jobs.engines.difflogic.model.sample import Parameters
from shardwise_jobs.engines.difflogic.model.step import update
from tests.support.automata import batch

DIGEST = """
import hashlib
from tests.unit.difflogic.test_same_bits import results
print(hashlib.sha256(results()).hexdigest())
"""
FUSED = r"\bvf(n?m)(add|sub)"


def results() -> bytes:
    """Return what both precisions make of some training steps."""
    found = b""
    for dtype in ("f64", "f32"):
        given = batch(height=9, width=15, steps=6, asynchronous=True, bits=True)
        assert given.fire is not None
        grids = zip(given.x.astype(np.uint8), given.y.astype(np.uint8), given.fire, strict=True)
        samples = [Sample(x=x, y=y, fire=fire) for x, y, fire in grids]
        state = State.fresh(given.logits)
        for _ in range(3):
            parameters = Parameters(state.logits)
            total = batch_sum(
                automaton=given.automaton,
                parameters=parameters,
                samples=samples,
                loss_channels=np.array([0, 2]),
                steps=given.steps,
                dtype=dtype,
            )
            state = update(state, total, parameters=parameters, settings=Settings(lr=0.05))
            found += total.words.tobytes() + state.logits.tobytes() + state.v.tobytes()
        result = given.sample(1, dtype=dtype)
        found += result.sums.tobytes() + result.final_soft.tobytes()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("level", ["generic", "x86-64-v3"])
def test_code_for_lesser_processors_gives_the_same_bits(level: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": level,
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
        # numpy takes its plainest code, too.
        "NPY_DISABLE_CPU_FEATURES": " ".join(_numpy_features()),
    }
    done = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == hashlib.sha256(results()).hexdigest()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_multiplication_is_fused_with_an_addition(dtype: type[np.generic]) -> None:
    # Compiled here and now: what comes from a cache shows no machine code.
    assert re.search(r"\bv?mulp[sd]\b", machine_code(dtype, fastmath=False))
    assert not re.search(FUSED, machine_code(dtype, fastmath=False))


def test_fused_operations_would_be_seen() -> None:
    codegen: Any = numba.core.codegen
    if "+fma," not in f"{codegen.get_host_cpu_features()},":
        pytest.skip("this processor has none")
    assert re.search(FUSED, machine_code(np.float64, fastmath={"contract"}))


def machine_code(dtype: type[np.generic], *, fastmath: bool | set[str]) -> str:
    """Return the machine code of a gate, forward and back, made for this kind of processor."""

    def gate(values: Any, grads: Any, coefficients: Any, sums: Any, kept: Any, back: Any) -> None:
        mix(values, coefficients, kept, 0)
        mix_back(values, grads, coefficients, sums, back, 0)

    fresh = numba.njit(nogil=True, fastmath=fastmath)(gate)
    places = aligned((4, CHUNK), dtype), aligned((4, CHUNK), dtype)
    tables = np.array([[0, 1, 2, 0]], dtype=np.int32), np.array([[0, 1, 2, 0, 1, 0, 2, 0]], dtype=np.int32)
    fresh(*places, np.ones((1, 4), dtype=dtype), np.ones((1, 4)), *tables)
    return "".join(fresh.inspect_asm().values())


KERNELS = [
    function
    for module in (jit_kernels, logits)
    for function in vars(module).values()
    if hasattr(function, "targetoptions")
]


@pytest.mark.parametrize("function", KERNELS, ids=lambda function: function.__name__)
def test_no_kernel_is_compiled_with_fast_math(function: Any) -> None:
    options = function.targetoptions
    assert not options.get("fastmath")
    assert options["nogil"]


def _numpy_features() -> list[str]:
    # Its own tests read these; there is no public way.
    module: Any = importlib.import_module("numpy._core._multiarray_umath")
    return [name for name in module.__cpu_dispatch__ if module.__cpu_features__.get(name)]
