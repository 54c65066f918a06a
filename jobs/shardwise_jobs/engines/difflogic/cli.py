"""`shardwise difflogic …`: a training by hand, a look into one, and one training step on given arrays."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from shardwise.engine.errors import BadConfiguration, WorkError
from shardwise.engine.files import atomic_write
from shardwise_api.terminal import echo


@click.group()
def difflogic() -> None:
    """Cellular automata made of differentiable logic gates."""


@difflogic.command()
@click.argument("manifest", metavar="MANIFEST", type=click.Path(path_type=Path))
@click.option("--output", help="Folder or fsspec URI for checkpoint, circuit and pictures; absent: spec.output.uri.")
@click.option("--set", "overrides", metavar="PATH=VALUE", multiple=True, help="Change a field of the manifest.")
def train(manifest: Path, output: str | None, overrides: tuple[str, ...]) -> None:
    """Train MANIFEST in this process, or in all ranks of a plain mpiexec; the digest is that of a run.

    \b
    Ctrl-C leaves after the current step with a checkpoint, and the same command goes on from it.
      shardwise difflogic train examples/difflogic-gol.yaml --output life
      mpiexec -n 2 shardwise difflogic train examples/difflogic-gol.yaml --output life
    """
    from .standalone import train_standalone

    sys.exit(train_standalone(manifest, overrides=overrides, output=output))


@difflogic.command()
@click.argument("place", metavar="OUTPUT")
def show(place: str) -> None:
    """Say what the checkpoint in OUTPUT (a folder, a fsspec URI, or the file itself) holds."""
    from .checkpoint_summary import summary_of

    try:
        for name, value in summary_of(place).items():
            echo(f"{name}: {value}")
    except WorkError as error:
        echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


@difflogic.command()
@click.argument("source", metavar="IN.npz", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("destination", metavar="OUT.npz", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dtype", type=click.Choice(["f64", "f32"]), default="f64", show_default=True, help="To compute in.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Samples side by side.")
def step(source: Path, destination: Path, dtype: str, workers: int) -> None:
    """Do one training step: forward, gradients, clipping, AdamW from a fresh state.

    \b
    IN.npz has meta (JSON), x, y, fire, perceive_logits_0, perceive_wires_0, update_logits_0, update_wires_0, …
    OUT.npz has loss_soft, loss_hard, sample_loss_soft, sample_loss_hard, final_soft, final_hard,
    grad_perceive_0, grad_update_0, new_perceive_0, new_update_0, …
    """
    try:
        _step(source, destination, dtype=dtype, workers=workers)
    except WorkError as error:
        echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def _step(source: Path, destination: Path, *, dtype: str, workers: int) -> None:
    import numpy as np

    from .model.optimizer import State
    from .model.sample import Parameters, sample_gradients
    from .model.step import BatchSum, computed, gradient_of, update
    from .npz import Array, npz_bytes
    from .step_file import read_step

    given = read_step(source)
    automaton, parameters = given.automaton, Parameters(given.logits)
    work = [
        partial(
            sample_gradients,
            automaton=automaton,
            parameters=parameters,
            x=given.x[sample],
            y=given.y[sample],
            loss_channels=given.loss_channels,
            steps=given.steps,
            fire=None if given.fire is None else given.fire[sample],
            dtype=dtype,
        )
        for sample in range(len(given.x))
    ]
    results = list(computed(work, workers=workers))
    batch = BatchSum(gates=automaton.gates)
    for result in results:
        batch.add(result)
    new = update(State.fresh(given.logits), batch, parameters=parameters, settings=given.settings)
    arrays: dict[str, Array] = {
        "loss_soft": np.array(batch.soft_loss),
        "loss_hard": np.array(batch.hard_loss),
        "sample_loss_soft": np.array([result.soft_loss for result in results]),
        "sample_loss_hard": np.array([result.hard_loss for result in results]),
        "final_soft": np.stack([result.final_soft for result in results]),
        "final_hard": np.stack([result.final_hard for result in results]),
    }
    for kind, flat in (("grad", gradient_of(batch, parameters=parameters)), ("new", new.logits)):
        for circuit, layers in zip(("perceive", "update"), automaton.layers(flat), strict=True):
            arrays |= {f"{kind}_{circuit}_{index}": layer for index, layer in enumerate(layers)}
    try:
        atomic_write(destination, npz_bytes(arrays))
    except OSError as error:
        raise BadConfiguration(f"{destination}: {error.strerror or error}") from error
