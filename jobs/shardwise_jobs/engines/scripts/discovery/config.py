"""Reads a list of jobs from YAML: the file of `--config`, and the built-in list, which is such a file too.

The text is read as manifests are (a key given twice is an error, `1:30` is text), and whatever is wrong is said before
anything is started, with its line or its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from shardwise_api import yaml_reader

from ..model.job import JobEntry, SuiteJob
from ..model.validation_errors import InvalidSuite, validation_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a file of jobs says."""

    jobs: tuple[JobEntry, ...]
    warnings: tuple[str, ...] = ()


class _File(BaseModel):
    # Other keys are passed over with a warning: in the original they are free, for anchors for example.
    model_config = ConfigDict(extra="allow")

    jobs: tuple[JobEntry, ...]


def read_config(path: Path) -> Config:
    """Read a file of jobs.

    Raises:
        InvalidSuite: it can't be read, is no valid YAML (with the line), or a job in it can't work (with its place).
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InvalidSuite(f"config: {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidSuite(f"config: {path}: is not UTF-8 text (byte {error.start})") from error
    return parse_config(text, name=f"config: {path}")


def parse_config(text: str, *, name: str) -> Config:
    """Read a list of jobs from text; `name` says where it comes from. Raises as `read_config`."""
    value, problems = yaml_reader.read(text, name=name)
    if problems:
        # A problem of the text names the file itself, one of a value its place within.
        said = (str(problem) if problem.path.startswith(name) else f"{name}: {problem}" for problem in problems)
        raise InvalidSuite("; ".join(said))
    if not isinstance(value, dict):
        raise InvalidSuite(f"{name}: must be a map with the key 'jobs', a list of jobs")
    try:
        file = _File.model_validate(value)
    except ValidationError as error:
        raise InvalidSuite(f"{name}: {'; '.join(validation_errors(error, model=_File))}") from None
    unknown = sorted(file.model_extra or {})
    warnings = [f"{name}: {', '.join(unknown)}: passed over, only 'jobs' is read"] if unknown else []
    return Config(jobs=file.jobs, warnings=tuple(warnings))


FILE = "canonical.yaml"


@cache
def canonical_jobs() -> tuple[SuiteJob, ...]:
    """Return the seven jobs of the original, in its order."""
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return tuple(entry.job() for entry in parse_config(text, name=FILE).jobs)
