"""Which kind of processor code is compiled for: one of three levels, not the very model at hand.

Code for a level runs on every processor of that level, so what was compiled with the image fits the pod, and two
models share what one of them has compiled. Results are the same at every level; only the speed differs.

The levels are those of the x86-64 psABI. On other processors numba chooses by itself.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from pathlib import Path

NAME, FEATURES = "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"
_V2 = {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}
_V3 = _V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
LEVELS = {"x86-64-v4": _V4, "x86-64-v3": _V3, "x86-64-v2": _V2}
"""By LLVM's name, the highest first: the flags that Linux shows for it."""
_LOWEST = "x86-64"


def level_of(flags: Collection[str]) -> str:
    """Return the highest level of a processor with these flags."""
    return next((level for level, needed in LEVELS.items() if needed <= set(flags)), _LOWEST)


def choose() -> None:
    """Tell numba which level to compile for, unless somebody has told it; call this before numba reads it."""
    if platform.machine() != "x86_64" or NAME in os.environ:
        return
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    os.environ[NAME], os.environ[FEATURES] = level_of(flags), ""
