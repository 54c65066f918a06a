"""What an engine is to the worker entry: three steps on one run document. Engines know nothing of pods or processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol

from shardwise_api.wire import PrepareResult, RunDocument, RunResult, ShardResult

from .errors import BadConfiguration
from .files import OutputFolder
from .progress import ProgressSender
from .stop import StopFlag


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a worker hands to its engine."""

    document: RunDocument
    output: OutputFolder
    stop: StopFlag
    progress: ProgressSender


class Engine(Protocol):
    """The work of one kind of run."""

    def __init__(self, context: Context) -> None: ...

    def prepare(self, *, dry_run: bool) -> PrepareResult:
        """Check everything that can be checked before work starts, and count the items; write nothing when dry."""

    def work(self, *, shard: int) -> ShardResult:
        """Do the shard, from where its last committed block left it."""

    def finalize(self) -> RunResult:
        """Check that all is there, and compute digest and summary; may be repeated."""


def open_engine(context: Context, environment: Mapping[str, str]) -> Engine:
    """Return the engine that a run document names, ready for its steps.

    Raises:
        BadConfiguration: there is none, or it can't do what the document asks for.
    """
    spec = context.document.spec
    name = next(iter(spec["engine"])) if "engine" in spec else "ingest"
    if name == "plugin":
        from .block_run import open_plugin

        return open_plugin(context, environment)
    return load_engine(name)(context)


def load_engine(name: str) -> type[Engine]:
    """Return the engine that a manifest names."""
    found = {point.name: point for point in entry_points(group="shardwise.engines")}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise BadConfiguration(f"spec.engine.{name}: this version has no such engine; it has {known}")
    try:
        engine: type[Engine] = found[name].load()
    except ImportError as error:
        field = "kind: IngestRun" if name == "ingest" else f"spec.engine.{name}"
        raise BadConfiguration(
            f"{field}: this worker has no {error.name or 'library'} ({error}): it needs the extra shardwise[{name}], "
            "an image one in its EXTRAS"
        ) from error
    return engine
