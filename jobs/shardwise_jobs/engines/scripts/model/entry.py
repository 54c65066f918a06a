"""A job as a person writes it: in the YAML of `--config`, or in a manifest's `jobs`.

A name, a script and an output are enough; what is left out is as in the original (every option is supported), and what
is misspelt is refused instead of being passed over.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from shardwise_api.base import ApiModel

from .job import JobArgs, JobId, RelativePath, SuiteJob, checked_id
from .names import id_of


def _map(value: object) -> object:
    # `args:` with nothing behind it, which is how YAML writes an empty map by hand.
    return {} if value is None else value


class JobEntry(ApiModel):
    """One entry of a list of jobs; keys in snake_case as in the original, or in camelCase as in manifests."""

    name: str = Field(min_length=1)
    script: RelativePath
    output: RelativePath
    id: JobId | None = None
    """Made from the name unless given."""
    args: Annotated[JobArgs, BeforeValidator(_map)] = Field(default_factory=dict)
    optional: bool = False
    use_output_dir: bool = True
    supports_epochs: bool = True
    supports_folds: bool = True
    supports_sample: bool = True
    supports_batch: bool = True

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.id is None:
            try:
                self.id = checked_id(id_of(self.name))
            except ValueError as error:
                raise ValueError(f"has a name that makes no id: an id {error}; give it an id") from None
        return self

    def job(self) -> SuiteJob:
        """Return the job that this entry describes."""
        return SuiteJob(detect_method="config", **self.model_dump())
