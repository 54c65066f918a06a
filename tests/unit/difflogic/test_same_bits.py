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

from shardwise_jobs.engines.difflogic import kernels
from tests.support.automata import batch

DIGEST = """
import hashlib
from tests.support.automata import batch
from tests.unit.difflogic.test_same_bits import results
print(hashlib.sha256(results()).hexdigest())
"""
FUSED = r"\bvf(n?m)(add|sub)"


def results() -> bytes:
    """Return what both precisions make of some samples."""
    found = b""
    for dtype in ("f64", "f32"):
        given = batch(height=9, width=15, steps=6, asynchronous=True)
        for number in range(2):
            result = given.sample(number, dtype=dtype)
            found += result.sums.tobytes() + result.final_soft.tobytes()
    return found


def test_generic_and_native_code_give_the_same_bits(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
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
@pytest.mark.parametrize("name", ["_gates", "_gates_back"])
def test_no_multiplication_is_fused_with_an_addition(name: str, dtype: type[np.generic]) -> None:
    # Compiled here and now: what comes from a cache shows no machine code.
    assert re.search(r"\bv?mul[ps][sd]\b", machine_code(name, dtype, fastmath=False))
    assert not re.search(FUSED, machine_code(name, dtype, fastmath=False))


def test_fused_operations_would_be_seen() -> None:
    codegen: Any = numba.core.codegen
    if "+fma," not in f"{codegen.get_host_cpu_features()},":
        pytest.skip("this processor has none")
    assert re.search(FUSED, machine_code("_gates", np.float64, fastmath={"contract"}))


def machine_code(name: str, dtype: type[np.generic], *, fastmath: bool | set[str]) -> str:
    """Return a kernel's machine code, made for this processor."""
    rows, coefficients = np.ones((4, 64), dtype=dtype), np.ones((2, 4), dtype=dtype)
    wires = np.zeros((2, 2), dtype=np.int64)
    arguments: dict[str, tuple[object, ...]] = {
        "_gates": (rows, 2, wires, coefficients, 64),
        "_gates_back": (rows, rows.copy(), 2, wires, coefficients, 64, np.ones((4, 8), dtype=dtype), np.ones((2, 4))),
    }
    fresh = numba.njit(nogil=True, fastmath=fastmath)(getattr(kernels, name).py_func)
    fresh(*arguments[name])
    return "".join(fresh.inspect_asm().values())


@pytest.mark.parametrize("name", ["_gates", "_gates_back", "_rollout", "_back_through_time"])
def test_no_kernel_is_compiled_with_fast_math(name: str) -> None:
    options = getattr(kernels, name).targetoptions
    assert not options.get("fastmath")
    assert options["nogil"]


def _numpy_features() -> list[str]:
    # Its own tests read these; there is no public way.
    module: Any = importlib.import_module("numpy._core._multiarray_umath")
    return [name for name in module.__cpu_dispatch__ if module.__cpu_features__.get(name)]
