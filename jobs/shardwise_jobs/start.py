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

from shardwise_api import indexes
from shardwise_api.wire import Environment, RunDocument

from .engine import Context
from .errors import BadConfiguration
from .files import OutputFolder
from .progress import ProgressSender
from .secrets import StruckStream
from .stop import StopFlag


def configure_logging() -> None:
    """Log to standard error, a line each; no secret gets to it or to standard output, whoever writes."""
    if not isinstance(sys.stderr, StruckStream):
        sys.stdout, sys.stderr = (cast(TextIO, StruckStream(stream)) for stream in (sys.stdout, sys.stderr))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    # A line per request would be the longest part of a log, and cost more than the request.
    for name in ("httpx", "botocore", "aiobotocore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def shard_of(environment: Mapping[str, str]) -> int:
    """Return the shard that this process works on."""
    index, shards = int(environment.get(Environment.SHARD, "0")), environment.get(Environment.SHARDS)
    if shards is None:
        return index
    (shard,) = indexes.counted_in(shards, [index])
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
