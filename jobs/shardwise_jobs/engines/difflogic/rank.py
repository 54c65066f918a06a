"""A rank of a training, as a process that MPI starts: `python -m shardwise_jobs.engines.difflogic.rank`."""

from __future__ import annotations

import os
import sys

from shardwise.engine.pod import provide_home
from shardwise.engine.stop import StopFlag
from shardwise_api.wire import ShardResult
from shardwise_jobs.bootstrap import configure_logging, open_context
from shardwise_jobs.mpi.communicator import Communicator
from shardwise_jobs.mpi.rank_main import serve

from .engine import DifflogicEngine


def work(world: Communicator, stop: StopFlag) -> ShardResult:
    """Train as one of the world's ranks, by the run document that the environment names."""
    return DifflogicEngine(open_context(os.environ, stop=stop)).train_as(world)


if __name__ == "__main__":
    configure_logging()
    provide_home()
    sys.exit(serve(work))
