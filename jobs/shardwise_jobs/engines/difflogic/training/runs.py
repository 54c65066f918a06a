"""The trainings of a run, each with its folder: one that all shards do together, or one per seed of a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from shardwise.engine.files import OutputFolder
from shardwise_api.difflogic import DifflogicEngine
from shardwise_api.runs import TrainingRunSpec

from . import capacity
from .checkpoint import FILE, Checkpoint
from .loop import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTraining:
    """One training of a run."""

    training: Training
    output: OutputFolder
    """Where its checkpoint is."""

    @property
    def checkpoint_uri(self) -> str:
        """Where its checkpoint is."""
        return self.output.uri_of(FILE)

    def read(self) -> Checkpoint | None:
        """Return its checkpoint, None when there is none. Raises as `Training.read`."""
        return self.training.read(self.output)

    def complete(self, checkpoint: Checkpoint | None) -> bool:
        """Say whether nothing is left to train after a checkpoint."""
        return checkpoint is not None and self.training.complete(step=checkpoint.state.step, verdict=checkpoint.verdict)

    def within_capacity(self, spec: TrainingRunSpec, *, ranks: int, environment: Mapping[str, str]) -> RunTraining:
        """Return this part with as many samples in flight as one of `ranks` workers has room for."""
        training = self.training
        asked = spec.engine.difflogic.max_samples_in_flight if spec.engine.difflogic else None
        in_flight = capacity.samples_in_flight(
            asked=asked,
            samples=-(-training.experiment.batch_size // ranks),
            sample_size=capacity.sample_bytes(training.experiment, automaton=training.automaton, dtype=training.dtype),
            sharing=capacity.sharing(environment, spec),
        )
        if spec.engine.difflogic is not None and not spec.engine.difflogic.parallel_batch:
            in_flight = 1
        return dataclasses.replace(self, training=dataclasses.replace(training, in_flight=in_flight))


def trainings_of(difflogic: DifflogicEngine, *, output: OutputFolder) -> list[RunTraining]:
    """Return a run's trainings; a sweep's in the order of its seeds. Raises BadConfiguration as `experiment_of`."""
    if difflogic.sweep is None:
        return [RunTraining(training=Training.of(difflogic), output=output)]
    return [
        RunTraining(training=Training.of(difflogic, seed=seed), output=output.child(f"seed-{seed}"))
        for seed in difflogic.sweep.seeds
    ]
