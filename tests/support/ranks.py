"""A small training and its workers, as processes: what it takes to see ranks meet, work, and be lost.

Each step adds (1, value, stop requests) over all ranks, as a training does; a rank's value is known to the test.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from shardwise.engine.errors import Interrupted, Temporary, WorkError
from shardwise.engine.stop import StopFlag
from shardwise_api.base import ApiModel
from shardwise_api.wire import ExitCode, StepFailure
from shardwise_jobs.mpi.communicator import Communicator, open_communicator
from shardwise_jobs.mpi.rank_main import serve
from shardwise_jobs.mpi.supervisor import run_in_gang

FOLDER = "TEST_FOLDER"
"""Environment variable of the folder in which everybody says how far it is."""
STEPS = "TEST_STEPS"
TROUBLE = "TEST_TROUBLE"
"""What a rank does at its tenth step: `fail`, `raise`, `segfault`, `exit`, `mute` (fails alone, without a word)."""
_TROUBLE_STEP = 10


class Summed(ApiModel):
    """What a rank leaves."""

    rank: int
    size: int
    total: int
    steps: int
    shared: str
    shard: str


def train(world: Communicator, stop: StopFlag) -> Summed:
    """Add up until the steps are done, or somebody is to stop."""
    folder = Path(os.environ[FOLDER])
    trouble = os.environ.get(TROUBLE)
    shared = world.broadcast(b"from 0" if world.rank == 0 else b"").decode()
    total = step = 0
    while step < int(os.environ[STEPS]):
        failing = trouble is not None and step == _TROUBLE_STEP
        if failing and trouble == "raise":
            raise ZeroDivisionError("made for a test")
        if failing and trouble == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if failing and trouble == "exit":
            os._exit(9)
        if failing and trouble == "mute":
            raise WorkError("a failure that nobody has agreed upon")
        words = np.array([world.rank + 1, int(stop.is_set), int(failing)], np.int64)
        world.add(words)
        if words[2]:
            if failing:
                failure = WorkError("sample 7 can't be worked on")
                failure.reason = "SampleFailed"
                raise failure
            raise Temporary("another rank failed")
        if words[1]:
            (folder / f"stopped-{world.rank}").write_text(str(step))
            if stop.is_set:
                raise Interrupted("stopped")
            raise Temporary("another rank was stopped")
        total += int(words[0])
        step += 1
        if step == 1:
            (folder / f"pid-{world.rank}").write_text(str(os.getpid()))
        if int(os.environ[STEPS]) > 1000:
            time.sleep(0.01)
    return Summed(
        rank=world.rank,
        size=world.size,
        total=total,
        steps=step,
        shared=shared,
        shard=os.environ.get("JOB_COMPLETION_INDEX", ""),
    )


def world_alone() -> int:
    """Use every call of a world, whoever started this; rank 0 prints what came of it."""
    world = open_communicator()
    words = np.array([world.rank, 2**62, 1], np.int64)
    floats = np.array([[0.5, world.rank]])
    world.add(words)
    world.add_floats(floats)
    shared = world.broadcast(bytes(range(256)) * 100 if world.rank == 0 else b"")
    nothing = world.broadcast(b"")
    world.barrier()
    if world.rank == 0:
        print(json.dumps([world.size, words.tolist(), floats.tolist(), len(shared), shared[:3].hex(), nothing.hex()]))
    return 0


class Left(ApiModel):
    """What a worker ended with."""

    code: ExitCode
    result: str | None = None
    failure: StepFailure | None = None


def worker() -> int:
    """Be the worker of a rank: what a pod's first process does, without an engine."""
    folder, rank, size = Path(os.environ[FOLDER]), int(os.environ["JOB_COMPLETION_INDEX"]), int(os.environ["TEST_SIZE"])
    waited: list[str] = []
    left: Left | None = None

    def leave(error: WorkError) -> None:
        failure = StepFailure(reason=error.reason, message=str(error))
        (folder / f"left-{os.environ['POD_NAME']}").write_text(
            Left(code=error.exit_code, failure=failure).model_dump_json()
        )

    def on_waiting(missing: frozenset[int]) -> None:
        waited.append(",".join(map(str, sorted(missing))))
        (folder / f"waited-{os.environ['POD_NAME']}").write_text("\n".join(waited))

    stop = StopFlag()
    stop.install(leave=leave)
    try:
        try:
            result = run_in_gang(
                rank=rank,
                size=size,
                token=os.environ["TEST_TOKEN"],
                rendezvous=os.environ["SHARDWISE_RENDEZVOUS"],
                command=[sys.executable, "-m", "tests.support.ranks", "rank"],
                stop=stop,
                on_waiting=on_waiting,
            )
        finally:
            stop.over()
    except WorkError as error:
        leave(error)
        return error.exit_code
    left = Left(code=ExitCode.DONE, result=result)
    (folder / f"left-{os.environ['POD_NAME']}").write_text(left.model_dump_json())
    return left.code


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        import logging

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
        sys.exit(worker())
    if sys.argv[1] == "world":
        sys.exit(world_alone())
    sys.exit(serve(train))
