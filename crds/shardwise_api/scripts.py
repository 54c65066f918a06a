"""The `engine.scripts` block: a suite of training scripts, one completion index each. No worker runs it yet."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import ApiModel
from .common import KubernetesObject


class Detection(StrEnum):
    """How the options that a script supports are found."""

    TEXT = "Text"
    AST = "Ast"


class ScriptsEngine(ApiModel):
    """Scripts found in a tree, run with retries, logs and a summary."""

    source: str = Field(min_length=1, description="Folder of the tree, as the pods see it.")
    roots: list[str] = Field(default_factory=list, max_length=100, description="Folders to look in; none: the tree.")
    include_patterns: list[str] = Field(default_factory=lambda: ["train_*.py"], max_length=100)
    extra_include_patterns: list[str] = Field(default_factory=list, max_length=100)
    exclude_regex: str | None = None
    discovery_limit: int | None = Field(default=None, ge=1)
    detect: Detection = Detection.TEXT
    jobs: list[KubernetesObject] = Field(default_factory=list, max_length=1000)
    only: list[str] = Field(default_factory=list, max_length=1000)
    exclude: list[str] = Field(default_factory=list, max_length=1000)
    epochs: int | None = Field(default=None, ge=1)
    folds: int | None = Field(default=None, ge=1)
    sample: int | None = Field(default=None, ge=1)
    batch: int | None = Field(default=None, ge=1)
    extra_args: list[str] = Field(default_factory=list, max_length=100)
    max_workers: int = Field(default=4, ge=1, le=10_000)
    retries: int = Field(default=0, ge=0, le=1000)
    retry_delay_seconds: int = Field(default=2, ge=0)
    timeout_seconds: int | None = Field(default=None, ge=1)
    dry_run: bool = False
    allow_partial_success: bool = False
    strict_discovery: bool = False
