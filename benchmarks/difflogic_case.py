"""What both sides of the DiffLogic benchmark compute: the same network, logits and samples, by preset and seed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shardwise_api.difflogic import Preset
from shardwise_jobs.engines.difflogic.experiments import data
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS, Experiment
from shardwise_jobs.engines.difflogic.model.automaton import Automaton
from shardwise_jobs.engines.difflogic.model.gates import F64, Ints, new_logits
from shardwise_jobs.engines.difflogic.model.rng import Shuffler

WARM_UP = 2
SPREAD = 1.0
"""How far random logits lie from those of new gates: as after some training, so that every gate has a gradient."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A batch of an experiment at its first step."""

    experiment: Experiment
    automaton: Automaton
    logits: F64
    x: data.Bits
    """(samples, height, width, channels)."""
    y: data.Bits

    @property
    def loss_channels(self) -> Ints:
        """Those that count."""
        return np.array(self.experiment.rollout.loss_channels, dtype=np.int64)


def case(preset: str) -> Case:
    """Return the case of a preset."""
    experiment = PRESETS[Preset(preset)]
    automaton = experiment.model.wired(seed=experiment.seed)
    # Gates of words that a permutation orders: no library's generator, whose numbers change from version to version.
    shuffled = Shuffler(1).permutation(automaton.gates * 16).reshape(automaton.gates, 16)
    drawn = [data.sample(experiment, step=0, number=number) for number in range(experiment.batch_size)]
    return Case(
        experiment=experiment,
        automaton=automaton,
        logits=new_logits(automaton.gates) / 5 + SPREAD * (shuffled / shuffled.max() - 0.5),
        x=np.stack([x for x, _ in drawn]),
        y=np.stack([y for _, y in drawn]),
    )


def measured(step: Callable[[], object], *, seconds: float) -> dict[str, Any]:
    """Repeat a step for a while, and return what one of them takes, and the most memory the process had."""
    for _ in range(WARM_UP):
        step()
    walls: list[float] = []
    cpu, end = time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end or len(walls) < 2:
        start = time.perf_counter()
        step()
        walls.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    return {
        "steps": len(walls),
        "cpu_ms": round(cpu / len(walls) * 1e3, 3),
        "wall_ms": round(float(np.median(walls)) * 1e3, 3),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def peak_rss_bytes() -> int:
    """Return the most memory this process had, as the kernel counted it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")
