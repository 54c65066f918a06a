"""Compiles all kernels ahead: `python -m shardwise_jobs.engines.difflogic.model.compile`, as an image's build does.

For every level of processors, whichever this one has: nothing that is compiled here is run. What comes out goes where
`compiled.folder` says (NUMBA_CACHE_DIR), and any process that finds it there compiles nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import cpu

_MODULE = "shardwise_jobs.engines.difflogic.model.compile"


def main() -> int:
    """Compile for the levels asked for, each in a process of its own; 0 when all is done."""
    parser = argparse.ArgumentParser(
        prog="python -m shardwise_jobs.engines.difflogic.model.compile", description=__doc__
    )
    parser.add_argument(
        "--level", action="append", choices=[*cpu.LEVELS, "own"], help="all of them unless given; own: this processor's"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        compile_all()
        return 0
    # On other processors there are no levels: for this one, then.
    every = list(cpu.LEVELS) if platform.machine() == "x86_64" else ["own"]
    for level in arguments.level or every:
        chosen = {} if level == "own" else {cpu.NAME: level, cpu.FEATURES: ""}
        command = [sys.executable, "-P", "-m", _MODULE, "--here"]
        subprocess.run(command, env={**os.environ, **chosen}, check=True)
        print(f"compiled for {level}")
    return 0


def compile_all() -> None:
    """Compile whatever the engine calls, for the types it calls it with, and run none of it."""
    from . import jit_kernels, kernels, logits, wiring
    from .automaton import Automaton, neighbours

    # Only what Python calls is replaced: compiled functions call each other.
    ahead = SimpleNamespace(
        batch=_Compiling(jit_kernels.batch),
        step_forward=_Compiling(jit_kernels.step_forward),
        hard_rollout=_Compiling(jit_kernels.hard_rollout),
    )
    vars(kernels)["jit_kernels"] = ahead
    for name in ("_mixtures", "_logit_gradient", "_adamw"):
        vars(logits)[name] = _Compiling(getattr(logits, name))
    automaton = Automaton(
        channels=1,
        kernels=1,
        periodic=True,
        perceive_wires=wiring.perception((2, 1), shuffler=None),
        update_wires=wiring.update((1,), inputs=2, shuffler=None),
    )
    table = neighbours(height=1, width=1, periodic=True)
    parameters = np.zeros((automaton.gates, 4))
    chosen = np.zeros(automaton.gates, dtype=np.int64)
    everyone = np.ones((1, 1), dtype=np.bool_)
    for dtype in (np.float64, np.float32):
        state = np.zeros((1, 1, 2), dtype=dtype)
        kernels.samples(
            automaton=automaton,
            table=table,
            coefficients=parameters,
            functions=chosen,
            starts=state,
            targets=state,
            loss_channels=np.zeros(1, dtype=np.int64),
            fire=None,
            steps=1,
        )
        kernels.forward(
            automaton=automaton, table=table, coefficients=parameters.astype(dtype), start=state[0], fire=everyone
        )
    kernels.hard_forward(
        automaton=automaton, table=table, functions=chosen, start=np.zeros((1, 2), dtype=np.bool_), fire=everyone
    )
    wide = np.zeros((automaton.gates, 16))
    logits.mixtures(wide)
    logits.logit_gradient(weights=wide, sums=parameters)
    logits.adamw(
        logits=wide, m=wide, v=wide, gradient=wide, decay=(0.0, 0.0), kept=(1.0, 1.0), lr=0.0, eps=0.0, weight_decay=0.0
    )


class _Compiling:
    """Stands for a function: a call compiles it for the types of its arguments, and does nothing else."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> int:
        import numba

        self._function.compile(tuple(map(numba.typeof, arguments)))
        return -1


if __name__ == "__main__":
    sys.exit(main())
