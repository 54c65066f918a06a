"""What a rank process leaves for its worker: the result, or why there is none.

It goes into a piece of memory that both have open, so that it outlives the process and nothing is left on a disk.
"""

from __future__ import annotations

import os

from pydantic import ValidationError

from shardwise_api.base import ApiModel
from shardwise_api.wire import ExitCode, StepFailure

RESULT = "SHARDWISE_RANK_RESULT"
"""Environment variable: the file descriptor that it is written to. Unset where no worker has started the process."""
_MAX_BYTES = 1 << 20


class RankOutcome(ApiModel):
    """Either a result or a failure."""

    result: str | None = None
    """JSON text, as the work made it."""
    failure: StepFailure | None = None
    code: ExitCode = ExitCode.DONE

    def leave(self) -> None:
        """Write it down for the worker, where there is one."""
        if RESULT in os.environ:
            descriptor = int(os.environ[RESULT])
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self.model_dump_json(by_alias=True).encode(), 0)


def read_outcome(descriptor: int) -> RankOutcome | None:
    """Return what was left, if anything was, and whole."""
    try:
        return RankOutcome.model_validate_json(os.pread(descriptor, _MAX_BYTES, 0))
    except ValidationError:
        return None
