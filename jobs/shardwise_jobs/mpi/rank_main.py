"""The main of a rank process: whatever happens in it is told to its worker, and no peer is left waiting."""

from __future__ import annotations

import logging
from collections.abc import Callable

from shardwise.engine.errors import WorkError
from shardwise.engine.stop import StopFlag
from shardwise_api.base import ApiModel
from shardwise_api.wire import ExitCode, StepFailure

from ..bootstrap import configure_logging
from . import cleanup
from .communicator import Communicator, MpiCommunicator, open_communicator
from .rank_outcome import RankOutcome

log = logging.getLogger("shardwise")


def serve(work: Callable[[Communicator, StopFlag], ApiModel]) -> int:
    """Run `work` in the world that this process was started into; return the exit code of the process.

    A `WorkError` of `work` must be one that all ranks have agreed upon (each leaves with its own): they then end MPI
    together. Any other exception ends all ranks at once.
    """
    configure_logging()
    stop = StopFlag()
    stop.install(leave=lambda error: _failed(error).leave())
    world: Communicator | None = None
    try:
        try:
            world = open_communicator()
            if isinstance(world, MpiCommunicator):
                cleanup.remove()
            result = work(world, stop)
        finally:
            stop.over()
    except WorkError as error:
        log.error("%s: %s", error.reason, error)
        told = _failed(error)
    except Exception as error:
        log.exception("unexpected")
        failure = StepFailure(reason="WorkerFailed", message=f"{type(error).__name__}: {error}")
        RankOutcome(failure=failure, code=ExitCode.FAILED).leave()
        if isinstance(world, MpiCommunicator):
            world.abort()
        return ExitCode.FAILED
    else:
        told = RankOutcome(result=result.model_dump_json(by_alias=True, exclude_none=True))
    told.leave()
    if isinstance(world, MpiCommunicator):
        # None may leave earlier than the others, or it would pass for lost.
        world.close()
    return told.code


def _failed(error: WorkError) -> RankOutcome:
    return RankOutcome(failure=StepFailure(reason=error.reason, message=str(error)), code=error.exit_code)
