"""Trainings of a few milliseconds, and ways to interrupt them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardwise.engine.files import OutputFolder
from shardwise_api.difflogic import DifflogicEngine
from shardwise_jobs.engines.difflogic.training.checkpoint import Checkpoint, digest_of
from shardwise_jobs.engines.difflogic.training.loop import StepMetrics, Training, train
from shardwise_jobs.mpi.communicator import Communicator

LIFE: dict[str, Any] = {
    "preset": "GameOfLifeSmall",
    "batchSize": 8,
    "model": {"kernels": 2, "updateWidths": [3, 2, 1]},
    "checkpointEverySteps": 4,
    "evaluateEverySteps": 3,
}
"""Eight samples, in step, one channel."""
CHECKERBOARD: dict[str, Any] = {
    "preset": "CheckerboardSmall",
    "batchSize": 8,
    "model": {"channels": 2, "kernels": 2, "updateWidths": [8, 4, 2]},
    "rollout": {"height": 5, "width": 4, "steps": 3, "fireRate": 0.6, "lossChannels": [0, 1]},
    "checkpointEverySteps": 4,
    "evaluateEverySteps": 3,
}
"""Eight samples, firing at random, two channels, three steps."""
CROSS: dict[str, Any] = {
    "preset": "Lizard",
    "pattern": [".#.", "###", ".#."],
    "model": {"channels": 1, "kernels": 4, "updateWidths": [3, 2, 1]},
    "rollout": {"steps": 1},
    "optimizer": {"lr": 0.2},
    "evaluateEverySteps": 1,
}
"""One sample, which seeds 1, 2 and 3 learn without error in about 100 steps: 89, 122 and 128."""


def training(difflogic: dict[str, Any], *, steps: int, **fields: Any) -> Training:
    """Return the training that a manifest's engine block asks for."""
    return Training.of(DifflogicEngine.model_validate({**difflogic, "steps": steps, **fields}))


def trained(
    of: Training,
    *,
    folder: Path,
    world: Communicator,
    stop: Callable[[], bool] = lambda: False,
    observe: Callable[[StepMetrics], object] = lambda moment: None,
) -> Checkpoint:
    """Train as one rank, with the checkpoint in a folder."""
    return train(of, world=world, output=OutputFolder(str(folder)), stop=stop, observe=observe)


def marks(of: Checkpoint) -> tuple[str, bytes, bytes, object]:
    """Return what two trainings that are the same agree on: logits and step, moments, losses, the last verdict."""
    state = of.state
    digest = digest_of(logits=state.logits, step=state.step)
    return digest, state.m.tobytes() + state.v.tobytes(), of.history.tobytes(), of.verdict


def after(step: int) -> Callable[[], bool]:
    """Return a stop flag that is raised during a step, counted from 1."""
    asked = 0

    def raised() -> bool:
        nonlocal asked
        asked += 1
        return asked >= step

    return raised
