"""Every setting of a suite in one model: the command line and a manifest both end here, and are judged by one rule.

Defaults are the original's, so that its command lines mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .job import JobEntry
from .validation_errors import InvalidSuite, validation_errors

DEFAULT_PATTERNS = ("train_*.py",)
MAX_RETRY_DELAY_SECONDS = 3600.0
"""Where a growing delay ends, unless the first one is longer."""


class SuiteOptions(BaseModel):
    """The settings of one suite. `of` builds one from values and speaks plainly of what is wrong with them."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    # Which scripts.
    roots: tuple[str, ...] = ()
    """Folders to look in; relative ones rest on the tree. None: the whole tree."""
    include_patterns: tuple[str, ...] = DEFAULT_PATTERNS
    """Patterns of file names; what is given replaces the default."""
    extra_include_patterns: tuple[str, ...] = ()
    """Patterns beside those, as the original's --include-pattern."""
    exclude_regex: str | None = None
    """Searched in the path relative to the root's parent."""
    discovery_limit: int | None = Field(default=None, gt=0)
    auto_discover: bool = True
    detect: Literal["text", "ast"] = "text"
    jobs: tuple[JobEntry, ...] = ()
    config: str | None = None
    """A YAML file of jobs; a relative path rests on the working directory."""
    default_jobs: bool = True
    mark_discovered_optional: bool = False
    allow_discovery_overrides: bool = False
    strict_discovery: bool = False
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    # What is passed to them.
    epochs: int | None = Field(default=None, gt=0)
    folds: int | None = Field(default=None, gt=0)
    sample: int | None = Field(default=None, gt=0)
    batch: int | None = Field(default=None, gt=0)
    extra_args: tuple[str, ...] = ()

    # How they run.
    parallel: bool = False
    max_workers: int = Field(default=4, gt=0)
    retries: int = Field(default=0, ge=0)
    retry_delay_seconds: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    retry_backoff: float = Field(default=1.0, ge=1, allow_inf_nan=False)
    """Factor from one delay to the next; 1 keeps it constant."""
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """For one attempt."""
    grace_seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """How long running scripts may go on after the first signal."""
    dry_run: bool = False
    allow_partial_success: bool = False
    interpreter: str | None = Field(default=None, min_length=1)
    """Runs the scripts; None is the Python that runs the suite."""

    # Where things go; relative paths rest on the tree.
    base_output_dir: str = Field(default="results", min_length=1)
    logs_dir: str = Field(default="logs", min_length=1)
    summary_dir: str = Field(default="summaries", min_length=1)

    @field_validator("exclude_regex")
    @classmethod
    def _regex(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"is not a regular expression: {error}") from None
        return value

    @field_validator("include_patterns", "extra_include_patterns")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not pattern or "/" in pattern:
                raise ValueError(f"match file names, not paths: {pattern!r} can't match; roots choose folders")
        return value

    @model_validator(mode="after")
    def _some_pattern(self) -> Self:
        if self.auto_discover and not (self.include_patterns or self.extra_include_patterns):
            raise ValueError("include_patterns is empty, so nothing could be found: give one, or turn discovery off")
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> SuiteOptions:
        """Return the settings from values by name.

        Raises:
            InvalidSuite: a value can't work; the message names each such setting.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidSuite("; ".join(validation_errors(error, model=cls))) from None

    def workers(self, count: int) -> int:
        """Return how many of `count` jobs run at once."""
        return max(1, min(self.max_workers, count)) if self.parallel else 1

    def delay_after(self, attempt: int) -> float:
        """Return the seconds to wait after a failed attempt (counted from 1) before the next."""
        limit = max(MAX_RETRY_DELAY_SECONDS, self.retry_delay_seconds)
        try:
            return min(limit, self.retry_delay_seconds * self.retry_backoff ** (attempt - 1))
        except OverflowError:
            return limit

    def arguments(self, *, list: bool = False, verbose: bool = False) -> dict[str, Any]:
        """Return every option for the summary: the original's by its names and in its order, then ours."""
        return {
            "config": self.config,
            "epochs": self.epochs,
            "folds": self.folds,
            "sample": self.sample,
            "batch": self.batch,
            "only": [*self.only],
            "exclude": [*self.exclude],
            "list": list,
            "dry_run": self.dry_run,
            "parallel": self.parallel,
            "max_workers": self.max_workers,
            "retries": self.retries,
            "extra_arg": [*self.extra_args],
            "base_output_dir": self.base_output_dir,
            "logs_dir": self.logs_dir,
            "summary_dir": self.summary_dir,
            "verbose": verbose,
            "allow_partial_success": self.allow_partial_success,
            "no_auto_discover": not self.auto_discover,
            "discover_root": [*self.roots],
            "include_pattern": [*self.extra_include_patterns],
            "exclude_regex": self.exclude_regex,
            "discovery_limit": self.discovery_limit,
            "allow_discovery_overrides": self.allow_discovery_overrides,
            "no_default_jobs": not self.default_jobs,
            "mark_discovered_optional": self.mark_discovered_optional,
            "strict_discovery": self.strict_discovery,
            "include_patterns": [*self.include_patterns],
            "detect": self.detect,
            "jobs": [job.model_dump(mode="json", exclude_none=True) for job in self.jobs],
            "retry_delay_seconds": self.retry_delay_seconds,
            "retry_backoff": self.retry_backoff,
            "timeout_seconds": self.timeout_seconds,
            "grace_seconds": self.grace_seconds,
            "interpreter": self.interpreter,
        }
