"""The worker entry: what a pod's container runs, and what the local runner starts as a process.

Everything it needs is in the environment (`shardwise_api.wire.Environment`), everything it has to say is in its exit
code and its termination message; a traceback appears for our own mistakes only.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from shardwise.engine.errors import Interrupted, WorkError
from shardwise.engine.pod import provide_home
from shardwise.engine.secrets import struck, struck_values
from shardwise.engine.stop import StopFlag
from shardwise.engine.worker import open_engine
from shardwise_api.base import ApiModel
from shardwise_api.wire import (
    MAX_TERMINATION_MESSAGE_BYTES,
    Environment,
    ExitCode,
    Step,
    StepFailure,
)

from .bootstrap import configure_logging, open_context, shard_of

log = logging.getLogger("shardwise")


def main() -> int:
    """Run one step as the environment says and return the exit code."""
    configure_logging()
    parent = os.environ.get(Environment.PARENT)
    stop = StopFlag(parent=int(parent) if parent else None)
    stop.install(leave=lambda error: _leave(_failure(error)))
    try:
        try:
            result = _run_step(stop)
        except Interrupted:
            raise
        except Exception as error:
            if not stop.signalled:
                raise
            # A library may wrap the interruption, or what it talks to goes away with the node.
            raise Interrupted(f"stopped; the last thing seen was {type(error).__name__}: {error}") from error
        finally:
            stop.over()
    except WorkError as error:
        log.error("%s: %s", error.reason, error)
        _leave(_failure(error))
        return error.exit_code
    except Exception as error:
        log.exception("unexpected")
        _leave(StepFailure(reason="WorkerFailed", message=_cut(f"{type(error).__name__}: {error}")))
        return ExitCode.FAILED
    _leave(result)
    return ExitCode.DONE


def _run_step(stop: StopFlag) -> ApiModel:
    provide_home()
    environment = os.environ
    context = open_context(environment, stop=stop)
    step = Step(environment.get(Environment.STEP, Step.WORK))
    if step is not Step.WORK:
        # Both may be repeated from their begin, and neither has blocks to stop between.
        stop.at_once()
    engine = open_engine(context, environment)
    if step is Step.PREPARE:
        return engine.prepare(dry_run=bool(environment.get(Environment.DRY_RUN)))
    if step is Step.FINALIZE:
        return engine.finalize()
    return engine.work(shard=shard_of(environment))


def _failure(error: WorkError) -> StepFailure:
    return StepFailure(reason=error.reason, message=_cut(str(error)))


def _cut(text: str) -> str:
    # Struck before it is cut: half a secret would not be known for one.
    # Half of what a kubelet takes: as JSON, text can need twice its bytes.
    return struck(text).encode("utf-8", "replace")[: MAX_TERMINATION_MESSAGE_BYTES // 2].decode("utf-8", "ignore")


def _leave(message: ApiModel) -> None:
    text = json.dumps(
        struck_values(message.model_dump(mode="json", by_alias=True, exclude_none=True)),
        ensure_ascii=False,
        separators=(",", ":"),
    )
    path = os.environ.get(Environment.TERMINATION_LOG, "/dev/termination-log")
    if len(text.encode()) > MAX_TERMINATION_MESSAGE_BYTES:
        log.warning("termination message of %d bytes will be cut by a kubelet", len(text.encode()))
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        log.warning("termination message not written to %s: %s", path, error)


if __name__ == "__main__":
    sys.exit(main())
