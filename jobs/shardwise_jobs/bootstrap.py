"""What every process of a run begins with: a log, the run document and what the environment says about it.

The worker entry does, and so does whatever a worker starts to do its work for it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO, cast

from pydantic import ValidationError

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.files import OutputFolder
from shardwise.engine.progress import ProgressSender
from shardwise.engine.secrets import StruckStream, struck
from shardwise.engine.stop import StopFlag
from shardwise.engine.worker import Context
from shardwise_api import indexes
from shardwise_api.terminal import sanitize
from shardwise_api.wire import Environment, RunDocument


class LogFormatter(logging.Formatter):
    """A line for each message, whatever it quotes: nothing in it moves a cursor, or begins a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """Return the line."""
        return sanitize(super().formatMessage(record)).replace("\n", "\\n")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with a traceback below where there is one."""
        return struck(sanitize(super().format(record)))


def configure_logging(level: str = "INFO", *, format: str = "%(asctime)s %(levelname)s %(message)s") -> None:
    """Log to standard error, a line each; no secret gets to it or to standard output, whoever writes."""
    if not isinstance(sys.stderr, StruckStream):
        sys.stdout, sys.stderr = (cast(TextIO, StruckStream(stream)) for stream in (sys.stdout, sys.stderr))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter(format))
    logging.basicConfig(level=level, handlers=[handler])
    # A line per request would be the longest part of a log, and cost more than the request.
    for name in ("httpx", "botocore", "aiobotocore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def shard_of(environment: Mapping[str, str]) -> int:
    """Return the shard that this process works on."""
    index, shards = int(environment.get(Environment.SHARD, "0")), environment.get(Environment.SHARDS)
    if shards is None:
        return index
    (shard,) = indexes.select(shards, [index])
    return shard


def open_context(environment: Mapping[str, str], *, stop: StopFlag) -> Context:
    """Return what an engine needs, as the environment describes it.

    Raises:
        BadConfiguration: there is no run document, it makes no sense, or there is no place for artefacts.
    """
    document = open_document(environment)
    output = environment.get(Environment.OUTPUT) or document.spec.get("output", {}).get("uri")
    if not output:
        raise BadConfiguration("spec.output: required here: there is no default folder for artefacts")
    progress = ProgressSender(
        target=environment.get(Environment.PROGRESS),
        run=document.uid,
        shard=shard_of(environment),
        environment=environment,
    )
    return Context(document=document, output=OutputFolder(output), stop=stop, progress=progress)


def open_document(environment: Mapping[str, str]) -> RunDocument:
    """Return the run document as it is now. Raises BadConfiguration as `open_context`."""
    path = environment.get(Environment.RUN)
    if not path:
        raise BadConfiguration(f"{Environment.RUN} is not set: a worker is started by the operator or `shardwise run`")
    try:
        return RunDocument.model_validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise BadConfiguration(f"run document {path}: {error}") from error
