"""What a run says of itself: conditions, counts, progress and the result, bounded whatever the number of shards."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from .base import ApiModel
from .wire import Checkpoint, Metric, SuiteStatus


class ConditionType(StrEnum):
    """Conditions of a run. Complete and Failed exclude each other and are set once."""

    ACCEPTED = "Accepted"
    PODS_READY = "PodsReady"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    COMPLETE = "Complete"
    FAILED = "Failed"


class Phase(StrEnum):
    """One word for a person, derived from the conditions; programs read the conditions."""

    PENDING = "Pending"
    PREPARING = "Preparing"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"
    REJECTED = "Rejected"
    """The operator can't accept the spec: Accepted=False says why. No child was made."""


class Condition(ApiModel):
    """A condition in the shape of metav1.Condition."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(min_length=1, max_length=256, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    message: str = Field(default="", max_length=32768)
    last_transition_time: datetime
    observed_generation: int = 0


class JobReference(ApiModel):
    """The Indexed Job that does the work."""

    name: str
    uid: str | None = None


class ShardStatus(ApiModel):
    """Where the shards are; indexes as interval text, as `0-4,7`."""

    total: int = 0
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    completed_indexes: str = ""
    failed_indexes: str = ""


class ItemStatus(ApiModel):
    """Where the items are; total is absent while nobody knows it."""

    total: int | None = None
    done: int = 0
    failed: int = 0
    skipped: int = 0


class Progress(ApiModel):
    """How far, how fast, how long still."""

    percent: int | None = Field(default=None, ge=0, le=100)
    rate_per_second: float | None = None
    estimated_remaining_seconds: int | None = None
    last_updated_time: datetime | None = None


class Failure(ApiModel):
    """One failed attempt of a shard, or one failed item."""

    shard: int | None = None
    exit_code: int | None = None
    reason: str
    message: str = Field(default="", max_length=1024)


class Result(ApiModel):
    """The result of a complete run. The digest is the promise: it depends on the input and the spec's engine alone."""

    digest: str
    uri: str | None = None
    summary: dict[str, Any] = Field(
        default_factory=dict, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )


class RunStatus(ApiModel):
    """Status of a run: written by the operator, or by the local runner, from what it observes."""

    observed_generation: int = 0
    phase: Phase = Phase.PENDING
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=10,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    start_time: datetime | None = None
    completion_time: datetime | None = None
    job_ref: JobReference | None = Field(
        default=None, description="The Job of the work step; of a suite with podOverrides the first of them."
    )
    shards: ShardStatus = Field(default_factory=ShardStatus)
    items: ItemStatus = Field(default_factory=ItemStatus)
    progress: Progress = Field(default_factory=Progress)
    failures: list[Failure] = Field(default_factory=list, max_length=10)
    metrics: list[Metric] = Field(default_factory=list, max_length=32)
    checkpoint: Checkpoint | None = Field(default=None, description="The last one of a training that makes them.")
    suite: SuiteStatus | None = Field(default=None, description="Of a run of scripts.")
    result: Result | None = None

    def condition(self, type_: ConditionType) -> Condition | None:
        """Return a condition by type."""
        return next((condition for condition in self.conditions if condition.type == type_), None)

    def is_true(self, type_: ConditionType) -> bool:
        """Say whether a condition is there and True."""
        found = self.condition(type_)
        return found is not None and found.status == "True"

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end, either way."""
        return self.is_true(ConditionType.COMPLETE) or self.is_true(ConditionType.FAILED)
