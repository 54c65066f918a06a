"""The training loop: every rank computes its block of each batch's samples, and all do the same update.

Sums travel, four per gate, and with them who wants to stop and who has failed; so all ranks leave at the same step, and
rank 0's checkpoint speaks for all. In Exact mode sums are whole numbers, and any number of ranks gives the same bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from shardwise.engine.errors import BadConfiguration, BadInput, Interrupted, Temporary, WorkError
from shardwise.engine.files import OutputFolder
from shardwise_api.difflogic import DifflogicEngine
from shardwise_jobs.mpi.communicator import Communicator

from ..experiments import data
from ..experiments.evaluate import evaluate
from ..experiments.experiment import FIELD, experiment_of
from ..experiments.presets import Experiment
from ..model import rng
from ..model.automaton import Automaton
from ..model.batch import Sample, batch_sum
from ..model.fixed_point import from_integers
from ..model.gates import F64, Ints, hardest, new_logits
from ..model.logits import logit_gradient
from ..model.optimizer import State, advance
from ..model.sample import Parameters
from . import checkpoint as checkpoints
from .checkpoint import Checkpoint, Verdict
from .history import History

_CONTROL = 2
"""Words that travel with the sums: how many ranks want to stop, how many have failed."""
_ABSURD = 1e100
"""No logit of a training that means anything is so large, and differences of smaller ones are numbers."""
_LOSSES = 3
"""Numbers behind the gates' sums: soft loss, hard loss, right bits."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, for how long, and how often it is looked at."""

    experiment: Experiment
    dtype: str = "f64"
    exact: bool = True
    chunk: int | None = None
    """Samples that are computed before they are added up; None: all."""
    in_flight: int = 1
    """Samples that a rank computes at the same time; no choice here changes a bit."""
    checkpoint_every: int = 50
    evaluate_every: int = 25
    stop_when_solved: bool = False

    @classmethod
    def of(cls, spec: DifflogicEngine, *, seed: int | None = None) -> Training:
        """Return what a manifest asks for; `seed` is one of a sweep's, which all stop when they are solved.

        Raises:
            BadConfiguration: see `experiment_of`.
        """
        return cls(
            experiment=experiment_of(spec, seed=seed),
            dtype=spec.dtype.value,
            exact=spec.reduction == "Exact",
            chunk=spec.accumulate_chunk,
            checkpoint_every=spec.checkpoint_every_steps,
            evaluate_every=spec.evaluate_every_steps,
            stop_when_solved=spec.stop_when_solved or seed is not None,
        )

    @cached_property
    def automaton(self) -> Automaton:
        """The circuits, wired."""
        return self.experiment.model.wired(seed=self.experiment.seed)

    @cached_property
    def document(self) -> dict[str, Any]:
        """What decides the bits of a state, as plain JSON values."""
        return self.experiment.document(dtype=self.dtype, reduction="Exact" if self.exact else "Fast")

    @property
    def fingerprint(self) -> str:
        """What tells this training from any other."""
        return self.experiment.fingerprint(dtype=self.dtype, reduction="Exact" if self.exact else "Fast")

    def complete(self, *, step: int, verdict: Verdict | None) -> bool:
        """Say whether there is nothing left to train after a step, when `verdict` is the last one made."""
        return step >= self.experiment.steps or (self.stop_when_solved and verdict is not None and verdict.solved)

    def opened(self, content: bytes, *, name: str) -> Checkpoint:
        """Return the checkpoint that a file's content holds; `name` is the file's, for errors.

        Raises:
            BadInput: it is broken, another experiment's, or beyond this training's last step.
        """
        found = checkpoints.from_bytes(content, name=name, experiment=self.document, automaton=self.automaton)
        if found.state.step > self.experiment.steps:
            raise BadInput(
                f"{name}: a checkpoint of step {found.state.step}, but {FIELD}.steps is {self.experiment.steps}"
            )
        return found

    def read(self, output: OutputFolder) -> Checkpoint | None:
        """Return the checkpoint in a folder, None when there is none. Raises as `opened` and `OutputFolder`."""
        content = output.read_bytes(checkpoints.FILE)
        return None if content is None else self.opened(content, name=output.uri_of(checkpoints.FILE))

    @property
    def bits(self) -> int:
        """Bits of a batch that are compared with their targets."""
        rollout = self.experiment.rollout
        return self.experiment.batch_size * rollout.height * rollout.width * len(rollout.loss_channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """A training after a step, for who watches."""

    step: int
    soft_loss: float
    hard_loss: float
    hard_accuracy: float
    verdict: Verdict | None
    saved: bool
    """Whether the checkpoint holds this step."""


def train(
    training: Training,
    *,
    world: Communicator,
    output: OutputFolder,
    stop: Callable[[], bool],
    begin: Callable[[int], object] = lambda step: None,
    observe: Callable[[StepMetrics], object] = lambda moment: None,
) -> Checkpoint:
    """Train to the end, from the checkpoint in `output` if there is one; return the last.

    Args:
        training: the same on every rank, but for how many samples are in flight.
        world: the ranks.
        output: where rank 0 reads and writes the checkpoint.
        stop: whether this rank was asked to leave; asked once per step.
        begin: called with the step from which this training goes on.
        observe: called after every step.

    Raises:
        Interrupted: this rank was asked to stop, and the checkpoint is written.
        Temporary: another rank was, or has failed.
        BadInput: the checkpoint is broken or another experiment's, or the training has diverged.
        BadConfiguration: more ranks than samples; the output can't be read or written.
    """
    if world.size > training.experiment.batch_size:
        raise BadConfiguration(
            f"{world.size} ranks and {training.experiment.batch_size} samples: each rank needs at least one of a "
            f"batch's (spec.sharding.shards, {FIELD}.batchSize)"
        )
    return _Loop(training, world=world, output=output, stop=stop).run(begin, observe)


class _Loop:
    """One rank's side of a training."""

    def __init__(
        self, training: Training, *, world: Communicator, output: OutputFolder, stop: Callable[[], bool]
    ) -> None:
        self._training = training
        self._experiment = training.experiment
        self._automaton = training.automaton
        self._world = world
        self._output = output
        self._stop = stop
        size = training.experiment.batch_size
        self._own = range(size * world.rank // world.size, size * (world.rank + 1) // world.size)
        self._loss_channels: Ints = np.array(training.experiment.rollout.loss_channels, dtype=np.int64)

    def run(self, begin: Callable[[int], object], observe: Callable[[StepMetrics], object]) -> Checkpoint:
        training, steps = self._training, self._experiment.steps
        self._check_same("ranks were given different trainings", self._told())
        found = self._loaded()
        state, history, verdict = found.state, History(found.history), found.verdict
        begin(state.step)
        complete = training.complete(step=state.step, verdict=verdict)
        while not complete:
            state, losses, stopping = self._step(state)
            accuracy = losses.right / training.bits
            history.add(state.step, soft_loss=losses.soft, hard_loss=losses.hard, hard_accuracy=accuracy)
            if state.step % training.evaluate_every == 0 or state.step == steps:
                verdict = self._judged(state)
            complete = training.complete(step=state.step, verdict=verdict)
            saved = complete or stopping or state.step % training.checkpoint_every == 0
            if saved:
                self._save(Checkpoint(state=state, history=history.rows, verdict=verdict))
            observe(
                StepMetrics(
                    step=state.step,
                    soft_loss=losses.soft,
                    hard_loss=losses.hard,
                    hard_accuracy=accuracy,
                    verdict=verdict,
                    saved=saved,
                )
            )
            if stopping and not complete:
                raise self._leaving(state.step)
        return Checkpoint(state=state, history=history.rows, verdict=verdict)

    def _step(self, state: State) -> tuple[State, _Losses, bool]:
        """Return the state after one step, the batch's losses, and whether somebody wants to stop."""
        parameters = Parameters(state.logits)
        words, failure = self._words(state, parameters)
        control = np.array([self._stop(), failure is not None], dtype=np.int64)
        if self._training.exact:
            control, words = self._added(control, words)
        else:
            self._world.add(control)
        if failure is not None:
            raise failure
        if control[1]:
            raise Temporary(f"another rank failed at step {state.step + 1}; it says why")
        totals = from_integers(words)
        if not self._training.exact:
            self._world.add_floats(totals)
        new = self._advanced(state, parameters, totals[:-_LOSSES].reshape(-1, 4))
        soft, hard, right = totals[-_LOSSES:].tolist()
        return new, _Losses(soft=soft, hard=hard, right=right), bool(control[0])

    def _words(self, state: State, parameters: Parameters) -> tuple[Ints, Exception | None]:
        """Return the exact sums (n, 2) of this rank's samples; zeros, and why, when one of them fails."""
        training, rollout = self._training, self._experiment.rollout
        try:
            total = batch_sum(
                automaton=self._automaton,
                parameters=parameters,
                samples=[self._sample(state.step, number) for number in self._own],
                loss_channels=self._loss_channels,
                steps=rollout.steps,
                dtype=training.dtype,
                workers=training.in_flight,
                chunk=training.chunk,
            )
        except Exception as error:
            # Whatever it is, the others are told first: they would wait for this rank's sums.
            zeros = np.zeros((self._automaton.gates * 4 + _LOSSES, 2), dtype=np.int64)
            return zeros, self._diverged(state.step + 1, error) if isinstance(error, BadInput) else error
        return total.words, None

    def _sample(self, step: int, number: int) -> Sample:
        rollout, seed = self._experiment.rollout, self._experiment.seed
        x, y = data.sample(self._experiment, step=step, number=number)
        if rollout.fire_rate is None:
            return Sample(x=x, y=y)
        fire = rng.fire_masks(
            steps=rollout.steps,
            height=rollout.height,
            width=rollout.width,
            seed=seed,
            sample=number,
            step=step,
            rate=rollout.fire_rate,
        )
        return Sample(x=x, y=y, fire=fire)

    def _added(self, control: Ints, words: Ints) -> tuple[Ints, Ints]:
        """Return the sums of both over all ranks, by one message."""
        both = np.concatenate([control, words.ravel()])
        self._world.add(both)
        return both[:_CONTROL], both[_CONTROL:].reshape(words.shape)

    def _advanced(self, state: State, parameters: Parameters, sums: F64) -> State:
        with np.errstate(all="ignore"):
            gradient = logit_gradient(weights=parameters.weights, sums=sums)
            new = advance(state, gradient, settings=self._experiment.optimizer)
        # Whatever is not a number fails the comparison.
        if not all(np.abs(values).max() < _ABSURD for values in (new.logits, new.m, new.v)):
            raise self._diverged(new.step, BadInput("logits have left all bounds"))
        return new

    def _diverged(self, step: int, error: BadInput) -> BadInput:
        lr = self._experiment.optimizer.lr
        return BadInput(f"step {step}: {error}; a smaller {FIELD}.optimizer.lr may help (it is {lr:g})")

    def _judged(self, state: State) -> Verdict:
        # By every rank, from the same logits: cheaper than to tell, and all come to the same.
        found = evaluate(experiment=self._experiment, automaton=self._automaton, functions=hardest(state.logits))
        return Verdict(step=state.step, wrong=found.wrong, total=found.total, unit=found.unit)

    def _told(self) -> bytes:
        training = self._training
        every = [training.checkpoint_every, training.evaluate_every, training.stop_when_solved]
        return json.dumps([training.fingerprint, self._experiment.steps, *every]).encode()

    # -- what all ranks do together, besides adding

    def _loaded(self) -> Checkpoint:
        content, failure = b"", None
        if self._world.rank == 0:
            try:
                found = self._output.read_bytes(checkpoints.FILE)
                content = b"none" if found is None else b"file" + found
            except Exception as error:
                content, failure = b"fail", error
        content = self._world.broadcast(content)
        if failure is not None:
            raise failure
        if content[:4] == b"fail":
            raise Temporary("rank 0 could not read the checkpoint; it says why")
        if content[:4] == b"none":
            return Checkpoint(state=State.fresh(new_logits(self._automaton.gates)), history=History().rows)
        try:
            return self._training.opened(content[4:], name=self._output.uri_of(checkpoints.FILE))
        except BadInput as error:
            if self._world.rank == 0:
                raise
            # Said once, not by every rank.
            raise Temporary("rank 0 refuses the checkpoint; it says why") from error

    def _save(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        replica = hashlib.sha256(b"".join(array.tobytes() for array in (state.logits, state.m, state.v))).digest()
        self._check_same(f"at step {state.step} ranks hold different logits: a fault of a machine, or of ours", replica)
        failure = None
        if self._world.rank == 0:
            try:
                content = checkpoints.to_bytes(
                    checkpoint, experiment=self._training.document, automaton=self._automaton
                )
                self._output.write_bytes(checkpoints.FILE, content)
            except Exception as error:
                failure = error
        failed = np.array([failure is not None], dtype=np.int64)
        self._world.add(failed)
        if failure is not None:
            raise failure
        if failed[0]:
            raise Temporary(f"rank 0 could not write the checkpoint of step {state.step}; it says why")

    def _check_same(self, message: str, mine: bytes) -> None:
        if self._world.size == 1:
            return
        others = np.array([self._world.broadcast(mine) != mine], dtype=np.int64)
        self._world.add(others)
        if others[0]:
            raise WorkError(f"{message} ({others[0]} of {self._world.size} are not like rank 0)")

    def _leaving(self, step: int) -> WorkError:
        if self._stop():
            return Interrupted(f"stopped after step {step}; the checkpoint holds it")
        return Temporary(f"another rank was stopped; the checkpoint holds step {step}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Losses:
    """Of a batch."""

    soft: float
    hard: float
    right: float
