"""The `engine.scripts` block: a suite of training scripts, found in a tree or named, one completion index each."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from .base import ApiModel, Rule
from .common import KubernetesObject

KILL_SECONDS = 10
"""From a script's SIGTERM to its SIGKILL."""
RECORD_SECONDS = 10
"""For a worker to write down how its script ended."""
Word = Annotated[str, Field(min_length=1, max_length=1024)]


class Detection(StrEnum):
    """How the options that a script supports are found."""

    TEXT = "Text"
    AST = "Ast"


class ScriptJob(ApiModel):
    """A script that is named instead of found, as an entry of the command line's `--config` file."""

    id: str | None = Field(default=None, min_length=1, max_length=200, description="Absent: made from the name.")
    name: Word
    script: Word = Field(description="Path in the tree.")
    output: str = Field(min_length=1, max_length=253, description="Folder of its results within baseOutputDir.")
    args: KubernetesObject = Field(
        default_factory=dict, description="Its own options by name; true: a flag, false: left out."
    )
    optional: bool = Field(default=False, description="Its failure does not fail the suite.")
    use_output_dir: bool = True
    supports_epochs: bool = True
    supports_folds: bool = True
    supports_sample: bool = True
    supports_batch: bool = True


class PodOverride(ApiModel):
    """Some scripts whose pods are another shape: what is given here takes the place of the worker's."""

    ids: list[Word] = Field(min_length=1, max_length=50, description="Whose pods: ids as `shardwise plan` lists them.")
    resources: KubernetesObject | None = Field(default=None, description="In place of worker.resources, as a whole.")
    node_selector: dict[str, str] | None = Field(
        default=None, description="In place of worker.nodeSelector, as a whole; an empty one takes it away."
    )
    tolerations: list[KubernetesObject] | None = Field(
        default=None, max_length=20, description="In place of worker.tolerations, as a whole; none take them away."
    )

    rules: ClassVar = (
        Rule(
            expression="has(self.resources) || has(self.nodeSelector) || has(self.tolerations)",
            message="changes nothing: give resources, nodeSelector or tolerations",
        ),
    )


class ScriptsEngine(ApiModel):
    """Scripts of a tree, each run by a worker of its own with retries, a log and a record; a summary of all."""

    source: str = Field(
        min_length=1,
        max_length=4096,
        description="Folder of the tree, as the pods see it: a volume of worker.volumes. Scripts run in it.",
    )
    auto_discover: bool = Field(default=True, description="Find scripts; false: only those of jobs.")
    roots: list[Word] = Field(default_factory=list, max_length=100, description="Folders to look in; none: the tree.")
    include_patterns: list[Word] = Field(
        default_factory=lambda: ["train_*.py"], max_length=100, description="Names of files that are scripts."
    )
    extra_include_patterns: list[Word] = Field(
        default_factory=list, max_length=100, description="As --include-pattern: more than includePatterns has."
    )
    exclude_regex: Word | None = Field(default=None, description="Searched for in a file's path; leaves it out.")
    discovery_limit: int | None = Field(default=None, ge=1, description="So many files are found at most.")
    strict_discovery: bool = Field(
        default=False,
        description="Without effect: to find nothing at all fails a run in any case, as this does on the command line.",
    )
    mark_discovered_optional: bool = Field(
        default=False, description="Found scripts without an output option, and those of mlops/ and scripts/, may fail."
    )
    allow_discovery_overrides: bool = Field(
        default=False, description="A found script takes the place of a named one with the same id."
    )
    detect: Detection = Field(
        default=Detection.TEXT,
        description="How a script's options are found. Text: their names stand somewhere in it; Ast: it declares them.",
    )
    jobs: list[ScriptJob] = Field(default_factory=list, max_length=1000, description="Scripts that are named.")
    use_default_jobs: bool = Field(
        default=False, description="Also the seven jobs of the original, which the command line has unless told not to."
    )
    only: list[Word] = Field(default_factory=list, max_length=1000, description="Ids to run; none: all.")
    exclude: list[Word] = Field(default_factory=list, max_length=1000, description="Ids to leave out.")
    epochs: int | None = Field(default=None, ge=1, description="For every script that supports it, as the next three.")
    folds: int | None = Field(default=None, ge=1)
    sample: int | None = Field(default=None, ge=1)
    batch: int | None = Field(default=None, ge=1)
    extra_args: list[Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=list, max_length=100, description="Appended to the command of every script."
    )
    max_workers: int = Field(default=4, le=10_000, description="Scripts at once, at least 1.")
    retries: int = Field(default=0, ge=0, le=1000, description="Further attempts of a script that failed.")
    retry_delay_seconds: int = Field(
        default=2,
        ge=0,
        le=3600,
        description="Before a further attempt, on one machine. A cluster's Job controller waits 10 s, and longer each "
        "time.",
    )
    retry_backoff: float = Field(
        default=1.0, ge=1, le=10, description="Multiplier applied to the delay after each attempt; 1 keeps it constant."
    )
    timeout_seconds: int | None = Field(default=None, ge=1, description="Of one attempt; more is a failure.")
    grace_seconds: int = Field(
        default=30,
        ge=0,
        le=86_400,
        description="How long a script may go on when the run is suspended or its pod deleted; then SIGTERM, and 10 s "
        "later SIGKILL.",
    )
    dry_run: bool = Field(default=False, description="Nothing is run; the summary has the commands.")
    allow_partial_success: bool = Field(default=False, description="The run is Complete also when scripts failed.")
    interpreter: Word | None = Field(default=None, description="Absent: the worker's own Python.")
    # Absent and not empty: a worker of an earlier version reads a document that doesn't name it.
    pod_overrides: list[PodOverride] | None = Field(
        default=None,
        max_length=8,
        description="Resources and nodes of single scripts: a Job for each entry, and maxWorkers for all together. "
        "Like worker, without effect on one machine.",
    )
    base_output_dir: Word = Field(
        default="results", description="Folder of the scripts' results; a relative one is within output.uri."
    )

    rules: ClassVar = (
        # A rule instead of a bound: these are the words that people know for it.
        Rule(expression="self.maxWorkers > 0", message="max_workers must be greater than 0", field="maxWorkers"),
        Rule(
            expression="self.autoDiscover || self.useDefaultJobs || self.jobs.size() > 0",
            message="nothing to run: without autoDiscover give jobs, or set useDefaultJobs",
            field="jobs",
        ),
        Rule(
            expression="!self.autoDiscover || self.includePatterns.size() > 0 || self.extraIncludePatterns.size() > 0",
            message="is empty, so nothing could be found: give a pattern, or set autoDiscover to false",
            field="includePatterns",
        ),
    )

    @property
    def termination_seconds(self) -> int:
        """How long a pod needs to end in order."""
        return self.grace_seconds + KILL_SECONDS + RECORD_SECONDS
