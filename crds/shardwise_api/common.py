"""What TrainingRun and IngestRun share: sharding, retries, limits, output and the shape of a worker."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from .base import ApiModel, Rule
from .uris import SECRET_OPTION, WHOLE_SECRET_OPTION

MAX_SHARDS = 10_000
OPERATOR = "shardwise.dev/operator"
"""The name of Shardwise's operator among controllers."""
MAX_NAME_LENGTH = 50
"""Leaves room for `-finalize` and `-<index>` in the 63 characters of a host name."""


def exactly_one(*fields: str) -> Rule:
    """Return the rule that exactly one of some fields is given."""
    count = " + ".join(f"(has(self.{field}) ? 1 : 0)" for field in fields)
    return Rule(expression=f"{count} == 1", message=f"give exactly one of {', '.join(fields)}")


_HIDDEN_IN_URI = (
    "(?is)^https?://[^/?#]*:[^/?#]*@|^(mongodb|postgres)[^:/]*://[^@]*:.*@|"
    f"[?&]([^=&]*({SECRET_OPTION}|%)[^=&]*|{WHOLE_SECRET_OPTION})=|AWS_SESSION_TOKEN"
)
"""A password before the host, of a store also where a character that should be percent-encoded hides it; or an option.

An option whose name has percent codes is read decoded by the drivers, and is nobody's honest way to write one.
"""


def no_password(field: str) -> Rule:
    """Return the rule that a URI, if given, holds no password."""
    return Rule(
        expression=f"!has(self.{field}) || !self.{field}.matches('{_HIDDEN_IN_URI}')",
        message="a password does not belong in a manifest: put the URI into a Secret and name it in secretRef",
        field=field,
    )


class Strategy(StrEnum):
    """How items are dealt to shards."""

    ROUND_ROBIN = "RoundRobin"
    CHUNKED = "Chunked"
    DYNAMIC = "Dynamic"


class Sharding(ApiModel):
    """How the items are cut, and how many shards run at once. No choice here changes the result."""

    strategy: Strategy = Field(
        default=Strategy.ROUND_ROBIN,
        description="RoundRobin: shard k has items k, k+S, k+2S, …; Chunked: contiguous runs of items; Dynamic: "
        "contiguous too, but more and smaller shards than parallelism, so that a free worker takes the next.",
    )
    shards: int = Field(default=1, ge=1, le=MAX_SHARDS, description="Completions of the Indexed Job.")
    parallelism: int | None = Field(
        default=None, ge=1, le=MAX_SHARDS, description="Shards that run at once; absent: all of them."
    )

    rules: ClassVar = (
        Rule(
            expression="!has(self.parallelism) || self.parallelism <= self.shards",
            message="parallelism must not exceed shards: more workers than shards would have nothing to do",
            field="parallelism",
        ),
        Rule(
            expression="self.strategy != 'Dynamic' || (has(self.parallelism) && self.parallelism < self.shards)",
            message="Dynamic needs parallelism, and more shards than that: a free worker takes the next shard",
            field="parallelism",
        ),
    )


class Retry(ApiModel):
    """What happens to a shard that fails, and how many may fail for good."""

    per_shard: int = Field(default=3, ge=0, le=1000, description="Further attempts of a failed shard.")
    max_failed_shards: int = Field(default=0, ge=0, le=MAX_SHARDS, description="More than these fail the run.")
    non_retriable_exit_codes: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        default_factory=lambda: [2], max_length=20, description="Exit codes that fail the run at once."
    )


class ItemPolicy(ApiModel):
    """How many items may fail before the run does."""

    max_failed_fraction: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Share of all items; failed items are counted and listed in any case."
    )


class SecretKeyRef(ApiModel):
    """One key of a Secret in the run's namespace."""

    name: str = Field(min_length=1, max_length=253)
    key: str = Field(min_length=1, max_length=253)


class SecretRef(ApiModel):
    """A Secret in the run's namespace, whose keys become environment variables."""

    name: str = Field(min_length=1, max_length=253)


class Output(ApiModel):
    """Where artefacts go: summary, pictures, indexes, checkpoints."""

    uri: str = Field(
        min_length=1, description="An fsspec URI: `file:///dir` on a mounted volume, `s3://bucket/prefix`."
    )
    secret_ref: SecretRef | None = Field(default=None, description="Credentials for the URI, as environment variables.")


KubernetesObject = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""A part of the core API that Shardwise hands through; the API server checks it where it ends up."""


class Worker(ApiModel):
    """The shape of a worker pod, in the words of the core API. The local runner reads `env` only."""

    image: str | None = Field(default=None, min_length=1, description="Absent: the chart's worker image.")
    resources: KubernetesObject | None = None
    env: list[KubernetesObject] = Field(default_factory=list, max_length=100)
    env_from: list[KubernetesObject] = Field(default_factory=list, max_length=20)
    volumes: list[KubernetesObject] = Field(default_factory=list, max_length=50)
    volume_mounts: list[KubernetesObject] = Field(default_factory=list, max_length=50)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[KubernetesObject] = Field(default_factory=list, max_length=20)
    priority_class_name: str | None = None
    termination_grace_period_seconds: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="From a pod's SIGTERM to its SIGKILL. Absent: Kubernetes' 30, and of scripts as much as they need.",
    )
    labels: dict[str, str] = Field(default_factory=dict, description="Also on the Job: Kueue looks there.")
    annotations: dict[str, str] = Field(default_factory=dict)
    service_account_name: str | None = Field(default=None, description="Absent: one of the run's own, without rights.")


MUTABLE = ("suspend", "ttlSecondsAfterFinished", "sharding")
"""What may change in the life of a run; of `sharding` only `parallelism`, and the number of a training's ranks."""


class CommonSpec(ApiModel):
    """The part of a spec that both kinds have."""

    sharding: Sharding = Field(default_factory=Sharding)
    block_size: int = Field(
        default=50, ge=1, le=100_000, description="Items per commit: what a killed worker repeats at most."
    )
    retry: Retry = Field(default_factory=Retry)
    items: ItemPolicy = Field(default_factory=ItemPolicy)
    output: Output | None = Field(default=None, description="Absent on a laptop: a folder of the run's work directory.")
    worker: Worker = Field(default_factory=Worker)
    suspend: bool = Field(default=False, description="True stops the workers; false lets them go on where they were.")
    active_deadline_seconds: int | None = Field(default=None, ge=1, description="Limit of the whole run.")
    start_deadline_seconds: int | None = Field(default=None, ge=1, description="Limit until the first worker runs.")
    managed_by: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9/_.-]+$",
        description=f"The controller that looks after the run, as of a Job. Absent: {OPERATOR}; with any other value, "
        "as kueue.x-k8s.io/multikueue, Shardwise's operator leaves the run alone.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None, ge=0, description="The run is deleted this long after its end; absent: kept."
    )
