"""The product's side of the DiffLogic benchmark: whole training steps in a process of its own, or in ranks of MPI."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from shardwise_jobs.engines.difflogic.model import hard
from shardwise_jobs.engines.difflogic.model.automaton import Automaton, neighbours
from shardwise_jobs.engines.difflogic.model.batch import Sample, batch_sum
from shardwise_jobs.engines.difflogic.model.gates import F64, FORMS, Bools, Ints, hardest
from shardwise_jobs.engines.difflogic.model.optimizer import State
from shardwise_jobs.engines.difflogic.model.sample import Parameters
from shardwise_jobs.engines.difflogic.model.step import gradient_of, update
from shardwise_jobs.mpi.communicator import Communicator, open_communicator

from .difflogic_case import Case, case, measured

SIDE = 128


def main() -> int:
    """Measure, print JSON, and leave gradient and losses in a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.difflogic_rank", description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("--dtype", choices=["f64", "f32"], required=True)
    parser.add_argument("--cpus", type=int, required=True, help="of this process, and threads that compute samples")
    parser.add_argument("--steps", type=int, help="so many, where ranks have to agree; else for --seconds")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--hard", action="store_true", help="measure the packed hard forward on a large grid instead")
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    world = open_communicator()
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [allowed[(world.rank + number) % len(allowed)] for number in range(arguments.cpus)])
    given = case(arguments.preset)
    if arguments.hard:
        print(json.dumps(hard_forward(given, seconds=arguments.seconds)))
        return 0
    step = Steps(given, world=world, dtype=arguments.dtype, workers=arguments.cpus)
    step()
    if world.rank == 0:
        np.savez(arguments.results, gradient=step.gradient, losses=np.array(step.losses))
    if arguments.steps is None:
        print(json.dumps(measured(step, seconds=arguments.seconds)))
        return 0
    for _ in range(2):
        step()
    world.barrier()
    walls, cpu = [], time.process_time()
    for _ in range(arguments.steps):
        start = time.perf_counter()
        step()
        walls.append((time.perf_counter() - start) * 1e3)
    cpu = (time.process_time() - cpu) * 1e3
    world.barrier()
    if world.rank == 0:
        told = {"wall_ms": float(np.median(walls)), "fastest_ms": min(walls), "cpu_ms": cpu / arguments.steps}
        print(json.dumps({"steps": arguments.steps, **{key: round(value, 3) for key, value in told.items()}}))
    return 0


class Steps:
    """A training that stays at its first step: the work is the same each time."""

    def __init__(self, given: Case, *, world: Communicator, dtype: str, workers: int) -> None:
        self._given, self._world, self._dtype, self._workers = given, world, dtype, workers
        count = len(given.x)
        self._own = range(count * world.rank // world.size, count * (world.rank + 1) // world.size)
        self._state = State.fresh(given.logits)
        self.gradient: F64 = np.zeros_like(given.logits)
        self.losses = (0.0, 0.0)

    def __call__(self) -> None:
        """Forward, gradients, hard rollout, sum over ranks, AdamW."""
        given, parameters = self._given, Parameters(self._state.logits)
        share = batch_sum(
            automaton=given.automaton,
            parameters=parameters,
            samples=[Sample(x=given.x[number], y=given.y[number]) for number in self._own],
            loss_channels=given.loss_channels,
            steps=given.experiment.rollout.steps,
            dtype=self._dtype,
            workers=self._workers,
        )
        self._world.add(share.words)
        self.gradient, self.losses = gradient_of(share, parameters=parameters), (share.soft_loss, share.hard_loss)
        update(self._state, share, parameters=parameters, settings=given.experiment.optimizer)


def hard_forward(given: Case, *, seconds: float) -> dict[str, Any]:
    """Take one step of a large grid, by words and by floating-point numbers, and tell what either takes."""
    automaton, functions = given.automaton, hardest(given.logits)
    table = neighbours(height=SIDE, width=SIDE, periodic=automaton.periodic)
    start = np.zeros((automaton.channels, SIDE * SIDE + 1), dtype=np.bool_)
    start[:, :-1] = np.arange(SIDE * SIDE) * 2654435761 % 1013 < 400
    fire = np.ones((1, SIDE * SIDE), dtype=np.bool_)

    def packed() -> Bools:
        return hard.packed_forward(automaton=automaton, table=table, functions=functions, start=start, fire=fire)

    def floats() -> F64:
        return float_forward(automaton, table=table, functions=functions, start=start.astype(np.float64))

    return {
        "equal": bool(np.array_equal(packed()[:, :-1], floats()[:, :-1])),
        "packed": measured(packed, seconds=seconds),
        "float_numpy": measured(floats, seconds=seconds),
    }


def float_forward(automaton: Automaton, *, table: Ints, functions: Ints, start: F64) -> F64:
    """Take a step of the strongest gates in their relaxed form, in plain numpy: a row of all cells for each gate."""
    circuit = automaton.circuit
    cells = start.shape[1] - 1
    rows = np.empty((circuit.rows, cells))
    rows[: circuit.inputs] = start[:, table[:, :cells]].reshape(circuit.inputs, cells)
    chosen = FORMS[functions][circuit.parameters]
    for gate, (first, second) in enumerate(circuit.wires.T):
        a, b, (c0, c1, c2, c3) = rows[first], rows[second], chosen[gate]
        rows[circuit.inputs + gate] = c0 + c1 * a + (c2 + c3 * a) * b
    last = np.zeros_like(start)
    last[:, :cells] = rows[-circuit.outputs :]
    return last


if __name__ == "__main__":
    sys.exit(main())
