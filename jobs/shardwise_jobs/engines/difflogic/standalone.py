"""A training without a runner: in this process, or as one of the ranks that a plain `mpiexec -n N` has started.

For people at a machine, or on a cluster that has MPI and no Kubernetes. Files and digest are those of a run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from tqdm import tqdm

from shardwise.engine.errors import BadConfiguration, Interrupted, Temporary, WorkError
from shardwise.engine.files import OutputFolder
from shardwise.engine.progress import ProgressSender
from shardwise.engine.stop import StopFlag
from shardwise.engine.worker import Context
from shardwise_api.manifest import InvalidManifest, load_manifest
from shardwise_api.runs import TrainingRun, TrainingRunSpec
from shardwise_api.terminal import echo
from shardwise_api.wire import RunDocument, RunResult
from shardwise_jobs.mpi.communicator import Communicator, open_communicator

from . import finalize
from .training.loop import StepMetrics, train
from .training.runs import RunTraining, trainings_of

EXIT_INTERRUPTED = 130
"""As `shardwise run`."""


class Stop:
    """Set by Ctrl-C, or SIGTERM; a second Ctrl-C ends the process where it is."""

    def __init__(self) -> None:
        self._set = False

    def install(self) -> None:
        """Take both signals."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._set = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __call__(self) -> bool:
        """Whether to leave after the current step."""
        return self._set


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """What a manifest asks for."""

    run: TrainingRun
    part: RunTraining

    @property
    def spec(self) -> TrainingRunSpec:
        """The manifest's."""
        return self.run.spec


def training_request(manifest: Path, *, overrides: Sequence[str], output: str | None) -> TrainingRequest:
    """Read a manifest.

    Raises:
        BadConfiguration: it is invalid, or asks for something else than one DiffLogic training.
    """
    try:
        run = load_manifest(manifest, overrides=overrides)
    except InvalidManifest as error:
        raise BadConfiguration(str(error)) from error
    if not isinstance(run, TrainingRun) or run.spec.engine.difflogic is None:
        raise BadConfiguration(f"{manifest}: spec.engine.difflogic: required here")
    difflogic = run.spec.engine.difflogic
    if difflogic.sweep is not None:
        raise BadConfiguration(
            f"{manifest}: spec.engine.difflogic.sweep: one training only; take one of its seeds with --set "
            "engine.difflogic.sweep= --set sharding.shards=1 --set engine.difflogic.seed=1, or `shardwise run` for all"
        )
    uri = output or (run.spec.output.uri if run.spec.output else None)
    if uri is None:
        raise BadConfiguration("--output: required, for the manifest names no spec.output")
    return TrainingRequest(run=run, part=trainings_of(difflogic, output=OutputFolder(uri))[0])


def train_standalone(manifest: Path, *, overrides: Sequence[str], output: str | None) -> int:
    """Train to the end, or to Ctrl-C, and publish what came of it; return an exit code."""
    stop = Stop()
    stop.install()
    world: Communicator | None = None
    try:
        world = open_communicator()
        request = training_request(manifest, overrides=overrides, output=output)
        return _trained(request, world=world, stop=stop)
    except Interrupted as error:
        _say(world, f"{error}: the same command goes on from there")
        return EXIT_INTERRUPTED
    except WorkError as error:
        if type(error) in (BadConfiguration, Temporary):
            _say(world, f"error: {error}")
        else:
            # What a rank alone has met.
            echo(f"error: {f'rank {world.rank}: ' if world and world.size > 1 else ''}{error}", err=True)
        return error.exit_code
    except Exception:
        if world is not None and world.size > 1:
            # The others would wait for this rank for ever; MPI ends them.
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            world.abort()  # type: ignore[attr-defined]
        raise


def _trained(request: TrainingRequest, *, world: Communicator, stop: Callable[[], bool]) -> int:
    part = request.part.within_capacity(request.spec, ranks=world.size, environment=os.environ)
    if world.size not in (1, request.spec.sharding.shards):
        _say(
            world,
            f"sharding.shards ({request.spec.sharding.shards}) is not looked at: MPI has started {world.size} ranks",
        )
    _check_writable(part.output, world=world)
    if world.rank:
        train(part.training, world=world, output=part.output, stop=stop)
        return 0
    with _Bar(label=request.run.metadata.name, steps=part.training.experiment.steps) as bar:
        train(part.training, world=world, output=part.output, stop=stop, begin=bar.begin, observe=bar.show)
    _print(_finalized(request))
    return 0


def _check_writable(output: OutputFolder, *, world: Communicator) -> None:
    said = b""
    if world.rank == 0:
        try:
            output.check_writable()
        except WorkError as error:
            said = str(error).encode()
    if said := world.broadcast(said):
        raise BadConfiguration(said.decode())


def _finalized(request: TrainingRequest) -> RunResult:
    run = request.run
    document = RunDocument(uid="", name=run.metadata.name, kind=run.kind, spec=run.spec_document())
    context = Context(
        document=document,
        output=request.part.output,
        stop=StopFlag(),
        progress=ProgressSender(target=None, run="", shard=0),
    )
    assert request.spec.engine.difflogic is not None
    return finalize.finalize(context=context, difflogic=request.spec.engine.difflogic, parts=[request.part])


def _print(result: RunResult) -> None:
    for name, value in {**result.summary, "digest": result.digest, "summary": result.uri}.items():
        echo(f"{name}: {value}")
    for warning in result.warnings:
        echo(f"warning: {warning}", err=True)


def _say(world: Communicator | None, text: str) -> None:
    """Say once what all ranks know."""
    if world is None or world.rank == 0:
        echo(text, err=True)


class _Bar:
    """Steps, rate, losses and errors on standard error."""

    def __init__(self, *, label: str, steps: int) -> None:
        terminal = sys.stderr.isatty()
        self._bar: tqdm[Never] = tqdm(
            desc=label,
            total=steps,
            unit=" steps",
            file=sys.stderr,
            dynamic_ncols=terminal,
            mininterval=0.1 if terminal else 5.0,
        )

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begin(self, step: int) -> None:
        """Begin where an earlier training has ended."""
        self._bar.initial = step
        self._bar.n = step
        self._bar.refresh()

    def show(self, moment: StepMetrics) -> None:
        """Show a step."""
        shown: dict[str, object] = {"soft": f"{moment.soft_loss:.4g}", "hard": f"{moment.hard_loss:g}"}
        if moment.verdict is not None:
            shown["wrong"] = f"{moment.verdict.wrong}/{moment.verdict.total}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(moment.step - self._bar.n)
