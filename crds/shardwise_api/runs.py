"""The two kinds: TrainingRun and IngestRun, with what must hold between their parts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from .base import ApiModel, Rule
from .common import MAX_NAME_LENGTH, MUTABLE, CommonSpec, KubernetesObject, Retry, exactly_one
from .difflogic import BATCH_SIZES, DifflogicEngine, Preset
from .ingest import Dedup, Embedding, Index, IngestStore, Source, Tmd
from .kato import KatoEngine
from .scripts import KILL_SECONDS, RECORD_SECONDS, ScriptsEngine
from .status import RunStatus


class Kind(StrEnum):
    """Kinds of this API."""

    TRAINING_RUN = "TrainingRun"
    INGEST_RUN = "IngestRun"


class Metadata(ApiModel):
    """The part of a resource's metadata that Shardwise reads; the rest is the API server's."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
        description="Lower-case letters, digits and '-', starting with a letter.",
    )
    namespace: str = "default"
    uid: str | None = None
    generation: int | None = Field(default=None, description="Counts changes of the spec.")

    def label(self, name: str) -> str | None:
        """Return a label's value; None when there is none."""
        labels = (self.model_extra or {}).get("labels")
        value = labels.get(name) if isinstance(labels, dict) else None
        return value if isinstance(value, str) else None


class PluginEngine(ApiModel):
    """An engine that the worker's image, or this machine, brings: a package written with `shardwise.engine`."""

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        description="As the package registers it in the entry point group `shardwise.engines`.",
    )
    spec: KubernetesObject = Field(
        default_factory=dict, description="The engine's own settings, which the worker's prepare step judges."
    )


class Engine(ApiModel):
    """Exactly one kind of training."""

    kato: KatoEngine | None = None
    difflogic: DifflogicEngine | None = None
    scripts: ScriptsEngine | None = None
    plugin: PluginEngine | None = None

    rules: ClassVar = (exactly_one("kato", "difflogic", "scripts", "plugin"),)


RANKS = "has(self.engine.difflogic) && !has(self.engine.difflogic.sweep)"
"""In the rules' language: shards are ranks, which run all at once and work on every batch together."""

_SUITE = "has(self.engine.scripts)"
_UNTOUCHED = Retry()


def _immutable(fields: list[str]) -> tuple[Rule, ...]:
    rules = [
        Rule(
            expression=f"has(self.{field}) == has(oldSelf.{field}) "
            f"&& (!has(self.{field}) || self.{field} == oldSelf.{field})",
            message=f"{field} is immutable: make a run with another name",
            field=field,
            transition=True,
        )
        for field in fields
        if field not in MUTABLE
    ]
    elastic = f"({RANKS}) || " if "engine" in fields else ""
    rules.append(
        Rule(
            expression=f"({elastic}self.sharding.shards == oldSelf.sharding.shards) "
            "&& self.sharding.strategy == oldSelf.sharding.strategy",
            message="of sharding only parallelism may change, and the number of a training's ranks: make a run with "
            "another name",
            field="sharding",
            transition=True,
        )
    )
    return tuple(rules)


def _literal(table: Mapping[Preset, int]) -> str:
    return "{" + ", ".join(f"'{key}': {value}" for key, value in table.items()) + "}"


def _fields(model: type[ApiModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


class TrainingRunSpec(CommonSpec):
    """What a TrainingRun is asked to do."""

    engine: Engine


TrainingRunSpec.rules = (
    Rule(
        expression="!has(self.engine.kato) || self.engine.kato.transport != 'Rest' || "
        "!has(self.engine.kato.server) || "
        "(has(self.sharding.parallelism) ? self.sharding.parallelism : self.sharding.shards) "
        "* self.engine.kato.nodes.size() <= self.engine.kato.server.connectionPoolSize",
        message="transport Rest opens parallelism x nodes sessions at once, more than server.connectionPoolSize",
        field="engine.kato.server.connectionPoolSize",
    ),
    Rule(
        expression=f"!({RANKS}) || !has(self.sharding.parallelism) "
        "|| self.sharding.parallelism == self.sharding.shards",
        message="the ranks of a training (sharding.shards) run all at once: leave parallelism out",
        field="sharding.parallelism",
    ),
    Rule(
        expression=f"!({RANKS}) || self.sharding.shards <= (has(self.engine.difflogic.batchSize) ? "
        f"self.engine.difflogic.batchSize : {_literal(BATCH_SIZES)}[self.engine.difflogic.preset])",
        message="more ranks than samples: each rank needs at least one of a batch's (engine.difflogic.batchSize, or "
        "the preset's)",
        field="sharding.shards",
    ),
    Rule(
        expression=f"!({RANKS}) || self.retry.maxFailedShards == 0",
        message="no rank of a training may be missing: leave maxFailedShards at 0",
        field="retry.maxFailedShards",
    ),
    Rule(
        expression="!has(self.engine.difflogic) || !has(self.engine.difflogic.sweep) "
        "|| self.sharding.shards == self.engine.difflogic.sweep.seeds.size()",
        message="a sweep has one shard per seed: give as many shards as seeds",
        field="sharding.shards",
    ),
    Rule(
        expression=f"!{_SUITE} || (self.sharding.shards == 1 && !has(self.sharding.parallelism) "
        "&& self.sharding.strategy == 'RoundRobin')",
        message="a suite has one shard per script: leave sharding out; engine.scripts.maxWorkers says how many run at "
        "once",
        field="sharding",
    ),
    Rule(
        expression=f"!{_SUITE} || (self.retry.perShard == {_UNTOUCHED.per_shard} "
        f"&& self.retry.maxFailedShards == {_UNTOUCHED.max_failed_shards} "
        f"&& self.retry.nonRetriableExitCodes == {_UNTOUCHED.non_retriable_exit_codes})",
        message="leave retry out: engine.scripts.retries says how often a script is tried again, and none of them ends "
        "the others",
        field="retry",
    ),
    Rule(
        expression=f"!{_SUITE} || self.items.maxFailedFraction == 0.0",
        message="leave items out: engine.scripts.allowPartialSuccess says whether scripts may fail",
        field="items",
    ),
    Rule(
        expression=f"!{_SUITE} || self.blockSize == {CommonSpec.model_fields['block_size'].default}",
        message="leave blockSize out: a script is run as a whole",
        field="blockSize",
    ),
    Rule(
        expression=f"!{_SUITE} || !has(self.output) || !self.output.uri.contains('://') "
        "|| self.output.uri.startsWith('file://')",
        message="scripts write while they run: output must be a folder on a volume of worker.volumes, as "
        "file:///data/NAME",
        field="output.uri",
    ),
    Rule(
        expression=f"!{_SUITE} || !has(self.worker.terminationGracePeriodSeconds) "
        "|| self.worker.terminationGracePeriodSeconds >= "
        f"self.engine.scripts.graceSeconds + {KILL_SECONDS + RECORD_SECONDS}",
        message=f"must exceed engine.scripts.graceSeconds by {KILL_SECONDS + RECORD_SECONDS} s: a script is killed "
        f"{KILL_SECONDS} s after its grace, and its end written down then; leave it out to get just that",
        field="worker.terminationGracePeriodSeconds",
    ),
    *_immutable(_fields(TrainingRunSpec)),
)


class IngestRunSpec(CommonSpec):
    """What an IngestRun is asked to do."""

    source: Source
    dataset_source: str = Field(
        default="user_input", min_length=1, max_length=253, description="The data set that rows and index belong to."
    )
    dedup: Dedup = Field(
        default=Dedup.POSITION,
        description="When two chunks of a data set are one row. position: same document, index and text; content: "
        "same text.",
    )
    workers: int = Field(default=10, le=1000, description="LLM calls at once per shard, at least 1.")
    tmd: Tmd = Field(default_factory=Tmd)
    embedding: Embedding = Field(default_factory=Embedding)
    store: IngestStore
    index: Index = Field(default_factory=Index)


IngestRunSpec.rules = (
    # A rule instead of a bound: these are the words that people know for it.
    Rule(expression="self.workers > 0", message="max_workers must be greater than 0", field="workers"),
    *_immutable(_fields(IngestRunSpec)),
)


class _Run(ApiModel):
    """A resource of this API."""

    kind_name: ClassVar[Kind]
    plural: ClassVar[str]
    short_name: ClassVar[str]

    api_version: Literal["shardwise.dev/v1alpha1"]
    metadata: Metadata
    status: RunStatus | None = None

    rules: ClassVar = (
        Rule(
            expression=f"self.metadata.name.size() <= {MAX_NAME_LENGTH} "
            "&& self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            message=f"metadata.name must be at most {MAX_NAME_LENGTH} lower-case letters, digits and '-', starting "
            "with a letter: children and host names are made from it",
            field="metadata.name",
        ),
    )

    def resource_document(self) -> dict[str, Any]:
        """Return the whole resource as plain JSON values, in the order in which people read it."""
        document = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {key: document[key] for key in ("apiVersion", "kind", "metadata", "spec", "status") if key in document}

    def spec_document(self) -> dict[str, Any]:
        """Return the spec as plain JSON values, defaults filled in, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)["spec"]  # type: ignore[no-any-return]


class TrainingRun(_Run):
    """A training, cut into shards."""

    kind_name = Kind.TRAINING_RUN
    plural = "trainingruns"
    short_name = "trun"

    kind: Literal["TrainingRun"]
    spec: TrainingRunSpec


class IngestRun(_Run):
    """An ingestion of text chunks, cut into shards."""

    kind_name = Kind.INGEST_RUN
    plural = "ingestruns"
    short_name = "irun"

    kind: Literal["IngestRun"]
    spec: IngestRunSpec


Run = TrainingRun | IngestRun
KINDS: dict[str, type[TrainingRun] | type[IngestRun]] = {"TrainingRun": TrainingRun, "IngestRun": IngestRun}


def suite_of(run: Run) -> ScriptsEngine | None:
    """Return the suite of a run whose shards are scripts; how many there are is known after its prepare step."""
    return None if isinstance(run, IngestRun) else run.spec.engine.scripts


def engine_name(run: Run) -> str:
    """Return the name of the engine that does a run's work (an entry point of `shardwise.engines`)."""
    if isinstance(run, IngestRun):
        return "ingest"
    return next(name for name in Engine.model_fields if getattr(run.spec.engine, name) is not None)
