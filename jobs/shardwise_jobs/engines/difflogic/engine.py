"""The DiffLogic engine: shards are the ranks of one training, or each trains a seed of its own."""

from __future__ import annotations

import os
import secrets
import sys
import time

from pydantic import ValidationError

from shardwise.engine.errors import BadConfiguration, Temporary, WorkError
from shardwise.engine.worker import Context
from shardwise_api import indexes
from shardwise_api.runs import TrainingRunSpec
from shardwise_api.wire import Environment, ExitCode, ItemCounts, PrepareResult, RunResult, ShardResult
from shardwise_jobs.bootstrap import open_document
from shardwise_jobs.mpi import hydra
from shardwise_jobs.mpi.communicator import Communicator, SingleProcess
from shardwise_jobs.mpi.supervisor import run_in_gang

from . import finalize
from .experiments.experiment import FIELD
from .training import capacity
from .training.checkpoint import Checkpoint
from .training.loop import train
from .training.reporting import Reporter
from .training.runs import RunTraining, trainings_of

RANK = (sys.executable, "-P", "-m", "shardwise_jobs.engines.difflogic.rank")
"""What becomes an MPI rank."""


class NotConverged(WorkError):
    """A sweep's seed was trained to its end and is not without error: exit 3, for it would be so again."""

    exit_code = ExitCode.NOT_CONVERGED
    reason = "NotConverged"


class DifflogicEngine:
    """See `shardwise.engine.worker.Engine`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        try:
            self._spec = TrainingRunSpec.model_validate(context.document.spec)
        except ValidationError as error:
            raise BadConfiguration(f"run document: {error}") from error
        assert self._spec.engine.difflogic is not None
        self._difflogic = self._spec.engine.difflogic
        self._parts = trainings_of(self._difflogic, output=context.output)

    # -- prepare

    def prepare(self, *, dry_run: bool) -> PrepareResult:
        """Check that fields fit each other, that there are room and MPI, and that checkpoints are of this training."""
        training = self._parts[0].training
        size = capacity.sample_bytes(training.experiment, automaton=training.automaton, dtype=training.dtype)
        limit = capacity.memory_limit()
        if limit is not None and size > limit:
            raise BadConfiguration(
                f"{FIELD}.rollout: one sample needs about {size >> 20} MiB, and a worker's memory limit is "
                f"{limit >> 20} MiB (spec.worker.resources)"
            )
        gang = self._difflogic.sweep is None
        if gang and self._spec.sharding.shards > 1:
            check_mpi(ranks=self._spec.sharding.shards)
        if not dry_run:
            self._context.output.check_writable()
        found = [part.read() for part in self._parts]
        return PrepareResult(
            items_total=self._difflogic.steps * len(self._parts),
            input_fingerprint=training.fingerprint,
            already_complete=self._already_complete(found),
            # Also for a single rank: there may be more before it ends.
            peer_token=secrets.token_hex(32) if gang and not dry_run else None,
            details={
                "gates": training.automaton.gates,
                "sampleBytes": size,
                "batchSize": training.experiment.batch_size,
                "step": max((checkpoint.state.step for checkpoint in found if checkpoint), default=0),
            },
        )

    def _already_complete(self, found: list[Checkpoint | None]) -> bool:
        complete = [part.complete(checkpoint) for part, checkpoint in zip(self._parts, found, strict=True)]
        sweep = self._difflogic.sweep
        solved = any(checkpoint and checkpoint.verdict and checkpoint.verdict.solved for checkpoint in found)
        return all(complete) or (sweep is not None and sweep.stop_on_first and solved)

    # -- work

    def work(self, *, shard: int) -> ShardResult:
        """Train: a seed alone, the only rank alone, and one of several ranks by what the gang starts."""
        if self._difflogic.sweep is not None:
            return self._work_seed(shard)
        part, ranks = self._parts[0], self._spec.sharding.shards
        if shard >= ranks:
            # Not its fault: the number was lowered just now, and the Job is about to learn of it.
            raise Temporary(f"rank {shard} is not one of {ranks} ranks any more")
        done = part.read()
        if part.complete(done):
            assert done is not None
            return self._told(done, rank=shard, seconds=0)
        rendezvous = os.environ.get(Environment.RENDEZVOUS)
        if not rendezvous and ranks == 1:
            return self.train_as(SingleProcess())
        if not rendezvous:
            raise BadConfiguration(f"{Environment.RENDEZVOUS} is not set: {ranks} ranks don't know where to meet")
        token = self._context.document.prepared.peer_token if self._context.document.prepared else None
        if not token:
            raise BadConfiguration("run document: prepared.peerToken is missing: ranks can't tell peers from strangers")
        reporter = Reporter(self._context.progress, steps=self._difflogic.steps, checkpoint_uri=part.checkpoint_uri)
        step = 0 if done is None else done.state.step

        def wait(awaited: frozenset[int]) -> None:
            reporter.wait(indexes.to_text(awaited), step=step)
            # Of ranks that are no longer wanted nobody would come and tell: a mounted document is kept up to date.
            now = TrainingRunSpec.model_validate(open_document(os.environ).spec).sharding.shards
            if now != ranks:
                raise Temporary(f"the number of ranks changes from {ranks} to {now}")

        result = run_in_gang(
            rank=shard,
            size=ranks,
            token=token,
            rendezvous=rendezvous,
            command=RANK,
            stop=self._context.stop,
            on_waiting=wait,
        )
        return ShardResult.model_validate_json(result)

    def train_as(self, world: Communicator) -> ShardResult:
        """Train as one of the ranks of a world. Raises as `train`."""
        started = time.monotonic()
        part = self._parts[0].within_capacity(self._spec, ranks=world.size, environment=os.environ)
        return self._told(self._trained(part, world=world), rank=world.rank, seconds=time.monotonic() - started)

    def _work_seed(self, shard: int) -> ShardResult:
        started = time.monotonic()
        part = self._parts[shard].within_capacity(self._spec, ranks=1, environment=os.environ)
        last = part.read()
        if last is None or not part.complete(last):
            last = self._trained(part, world=SingleProcess())
        verdict = last.verdict
        if verdict is None or not verdict.solved:
            told = f", {verdict.wrong} of {verdict.total} {verdict.unit} wrong" if verdict else ""
            raise NotConverged(f"seed {part.training.experiment.seed}: {last.state.step} steps{told}")
        return self._told(last, rank=0, seconds=time.monotonic() - started).model_copy(update={"shard": shard})

    def _trained(self, part: RunTraining, *, world: Communicator) -> Checkpoint:
        steps, stop = self._difflogic.steps, self._context.stop
        if world.rank:
            return train(part.training, world=world, output=part.output, stop=lambda: stop.is_set)
        reporter = Reporter(self._context.progress, steps=steps, checkpoint_uri=part.checkpoint_uri)
        try:
            return train(
                part.training,
                world=world,
                output=part.output,
                stop=lambda: stop.is_set,
                begin=reporter.begin,
                observe=reporter.observe,
            )
        finally:
            reporter.end()

    def _told(self, last: Checkpoint, *, rank: int, seconds: float) -> ShardResult:
        """Return a shard's result. All ranks do all steps; rank 0 alone counts them."""
        step = last.state.step
        items = ItemCounts() if rank else ItemCounts(done=step, skipped=self._difflogic.steps - step)
        return ShardResult(shard=rank, items=items, seconds=round(seconds, 3))

    # -- finalize

    def finalize(self) -> RunResult:
        """Judge what was trained, and publish it."""
        return finalize.finalize(context=self._context, difflogic=self._difflogic, parts=self._parts)


def check_mpi(*, ranks: int) -> None:
    """Find MPI and its launcher without starting either.

    Raises:
        BadConfiguration: something is not there.
    """
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        from mpi4py import MPI  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise BadConfiguration(
            f"spec.sharding.shards: {ranks} ranks need MPI, which is missing here ({error}): pip install "
            '"shardwise[mpi]", or train in one process (spec.sharding.shards: 1)'
        ) from error
    for name in ("mpiexec", "hydra_pmi_proxy"):
        hydra.program(name)
