"""What passes between the runner (operator or laptop) and a worker: documents, reports and exit codes.

A worker gets a run document, sends progress reports while it works, and leaves a result as its termination message.
"""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from .base import ApiModel
from .bounds import Count, Finite, Int32, PlainDocument, count
from .uris import CREDENTIALS_VARIABLE, SCHEMES_VARIABLE

MAX_TERMINATION_MESSAGE_BYTES = 4096
"""The kubelet cuts a termination message there."""
MAX_METRICS = 32
"""As many as a status shows."""
MAX_SUITE_JOBS = 100
"""Of a suite's jobs; the summary has all."""
MAX_ENDS = 1000


class ExitCode(IntEnum):
    """How a worker ends; the Job's failure policy reads nothing else."""

    DONE = 0
    FAILED = 1
    BAD_CONFIGURATION = 2
    NOT_CONVERGED = 3
    """A seed of a sweep was trained to its end and is not without error: tried again it would be the same."""
    NO_SCRIPT = 66
    """A suite's script is not in the tree, or can't be read, and was not started: tried again it would be the same."""
    TEMPORARY = 75
    TERMINATED = 143


class Step(StrEnum):
    """The three Jobs of a run, in order: look at the input, work in shards, put together."""

    PREPARE = "prepare"
    WORK = "work"
    FINALIZE = "finalize"


class Environment(StrEnum):
    """Environment variables of a worker."""

    RUN = "SHARDWISE_RUN"
    """Path of the run document (JSON)."""
    STEP = "SHARDWISE_STEP"
    SHARD = "JOB_COMPLETION_INDEX"
    SHARDS = "SHARDWISE_SHARDS"
    """The shards of a Job that has a part of them, as interval text: the completion index counts in these."""
    OUTPUT = "SHARDWISE_OUTPUT"
    """Where artefacts go: an fsspec URI."""
    PROGRESS = "SHARDWISE_PROGRESS"
    """Where progress goes: a file:// URI of a folder (laptop) or the operator's http URL."""
    PROGRESS_TOKEN_FILE = "SHARDWISE_PROGRESS_TOKEN_FILE"  # noqa: S105 (the name of a variable)
    """Path of the token that goes with each report over http; it is read anew each time, for it rotates."""
    STORE_URI = "SHARDWISE_STORE_URI"
    """A store's URI when the manifest names a Secret for it."""
    URI_SCHEMES = SCHEMES_VARIABLE
    """Schemes of inputs and outputs beside the usual ones, with commas between: the administrator's to say."""
    URL_CREDENTIALS = CREDENTIALS_VARIABLE
    """What http(s) servers of inputs, a KATO server or a language model ask for: see `uris.CREDENTIALS_VARIABLE`."""
    RENDEZVOUS = "SHARDWISE_RENDEZVOUS"
    """Where ranks meet: tcp://host:port of rank 0, or the file:// URI of a file in which it says where it is."""
    TERMINATION_LOG = "SHARDWISE_TERMINATION_LOG"
    """Where the result goes; a pod's /dev/termination-log unless set."""
    FOLDER = "SHARDWISE_FOLDER"
    """The manifest's folder on a laptop, from which a plugin's relative paths are seen; a pod has none."""
    DRY_RUN = "SHARDWISE_DRY_RUN"
    """Set: prepare looks and checks, and writes nothing."""
    PARENT = "SHARDWISE_PARENT"
    """Process id of a local runner; the worker stops when that is gone."""
    NODE = "SHARDWISE_NODE"
    """The node that a pod is on."""


class ItemFailure(ApiModel):
    """One failed item, with a reason a person can act on."""

    item: Count = Field(description="Index of the item in the input, counted from 0.")
    reason: str


class ItemCounts(ApiModel):
    """How many items went which way. done + failed + skipped = all items of what is counted."""

    done: Count = 0
    failed: Count = 0
    skipped: Count = 0

    @model_validator(mode="after")
    def _are_a_count_together(self) -> Self:
        count(self.all)
        return self

    @property
    def all(self) -> int:
        """Items that went any way."""
        return self.done + self.failed + self.skipped


class PrepareResult(ApiModel):
    """What the prepare step found; frozen for the life of the run, so that every attempt cuts the same shards."""

    items_total: Count | None = Field(
        default=None, description="Items to shard; absent when only a full pass could tell."
    )
    input_fingerprint: str = Field(description="Identifies the input: another one is another run.")
    input_bytes: Count | None = None
    # Absent and not empty: a worker of an earlier version reads a document that doesn't name it.
    parts: list[str] | None = Field(
        default=None, description="Of a suite: the shards of each entry of podOverrides, as interval text."
    )
    already_complete: bool = Field(default=False, description="The ledger holds every block of this run.")
    peer_token: str | None = Field(
        default=None, description="By which the workers of this run know each other, when they talk to each other."
    )
    details: PlainDocument = Field(default_factory=dict, description="For the engine's own use and for people.")


class WorkerExit(ApiModel):
    """How the last worker of a shard that failed for good ended, as the runner saw it: it may not have said a word."""

    shard: int
    exit_code: int | None = None
    reason: str
    message: str = ""


class WorkResult(ApiModel):
    """What the runner saw of the work step; only the finalize step gets it."""

    seconds: float = Field(description="Wall time from the first worker's start to the last one's end.")
    workers: int = Field(description="Workers at once.")
    done: int = Field(description="Items learned within that time; those of an interrupted earlier start don't count.")
    failed_shards: str = Field(default="", description="Shards that failed for good, as interval text.")
    ends: list[WorkerExit] = Field(
        default_factory=list, max_length=MAX_ENDS, description="Of a suite: how those ended, as far as it is known."
    )


class RunDocument(ApiModel):
    """The resolved run, as every worker reads it: nothing in it is relative, defaulted or secret."""

    uid: str
    name: str
    namespace: str = "default"
    kind: str
    spec: dict[str, Any]
    prepared: PrepareResult | None = None
    worked: WorkResult | None = None


class Metric(ApiModel):
    """A number with a name, as status.metrics shows it."""

    name: str
    value: float


class Checkpoint(ApiModel):
    """Where a training would go on."""

    uri: str
    step: Count


class SuiteCounts(ApiModel):
    """How many jobs of a suite went which way; failed ones include those that took too long."""

    total: Count = 0
    success: Count = 0
    failed: Count = 0
    skipped: Count = 0
    interrupted: Count = 0


class SuiteJobStatus(ApiModel):
    """One job of a suite, as a status shows it."""

    id: str
    status: str = Field(description="PENDING, RUNNING, SUCCESS, FAILED, SKIPPED, INTERRUPTED, TIMEOUT or ERROR.")
    attempts: Count | None = None
    exit_code: Int32 | None = None
    duration_seconds: Finite | None = Field(default=None, description="Of the last attempt.")

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Return the job of one of `SuiteResult.jobs`; raise ValueError when the line is none."""
        try:
            state, attempts, code, seconds, id_ = line.split(" ", 4)
            return cls(
                id=id_,
                status=state,
                attempts=int(attempts),
                exit_code=None if code == "-" else int(code),
                duration_seconds=None if seconds == "-" else float(seconds),
            )
        except ValueError as error:
            raise ValueError(f"{line[:60]!r} is not `STATUS attempts exit-code seconds id`") from error


class SuiteStatus(ApiModel):
    """A suite of scripts: how it ended, or where it is."""

    exit_status: int | None = Field(
        default=None,
        description="0 all is well, 1 a mandatory job failed, 2 bad settings, 3 nothing discovered, 130 interrupted; "
        "absent while it runs.",
    )
    counts: SuiteCounts = Field(default_factory=SuiteCounts)
    jobs: list[SuiteJobStatus] = Field(
        default_factory=list, max_length=MAX_SUITE_JOBS, description="In order; those that don't fit are left out."
    )
    summary_uri: str | None = None


class SuiteResult(ApiModel):
    """What a suite came to, in as few bytes as a termination message has."""

    exit_status: Int32
    message: str = Field(default="", description="Why it isn't 0.")
    counts: SuiteCounts
    jobs: list[str] = Field(default_factory=list, description="`STATUS attempts exit-code seconds id`; - is absent.")

    @field_validator("jobs")
    @classmethod
    def _lines_are_readable(cls, jobs: list[str]) -> list[str]:
        for line in jobs:
            SuiteJobStatus.from_line(line)
        return jobs


class ProgressReport(ApiModel):
    """Cumulative counts of one shard: a later report replaces an earlier one, a lost one costs nothing."""

    run: str
    shard: Count
    attempt_started: datetime
    time: datetime
    items: ItemCounts = Field(default_factory=ItemCounts)
    total: Count | None = Field(default=None, description="Items of this shard, when known.")
    resumed: Count = Field(default=0, description="Items that an earlier attempt had already committed.")
    resumed_done: Count = Field(default=0, description="Those of them that were done.")
    message: str = ""
    missing_ranks: str = Field(
        default="", alias="awaited", description="Ranks that have not come yet, as interval text; work has not begun."
    )
    metrics: list[Metric] = Field(default_factory=list, max_length=MAX_METRICS)
    checkpoint: Checkpoint | None = None


class ShardResult(ApiModel):
    """A worker's termination message when a shard is done, or why it isn't."""

    shard: Count
    items: ItemCounts = Field(default_factory=ItemCounts)
    failures: list[ItemFailure] = Field(default_factory=list, max_length=10)
    seconds: Finite = Field(default=0, description="Wall time of this attempt.")


class StepFailure(ApiModel):
    """A worker's termination message when it gave up: what a person reads in the run's conditions."""

    reason: str = Field(description="CamelCase, as a condition's reason.")
    message: str


class RunResult(ApiModel):
    """The finalize step's termination message: what the run came to."""

    digest: str
    uri: str | None = None
    items: ItemCounts = Field(default_factory=ItemCounts)
    failures: list[ItemFailure] = Field(default_factory=list, max_length=10)
    metrics: list[Metric] = Field(default_factory=list, max_length=MAX_METRICS)
    summary: PlainDocument = Field(default_factory=dict)
    suite: SuiteResult | None = Field(
        default=None, description="Of a suite of scripts; it may say that the run failed."
    )
    warnings: list[str] = Field(default_factory=list, max_length=10)
