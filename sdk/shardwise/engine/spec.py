"""What an engine's block of a manifest is made of, and how it is judged: every mistake at once, each with its field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from shardwise_api import uris
from shardwise_api.base import ApiModel
from shardwise_api.rules import below
from shardwise_api.validation import validate

from .errors import BadConfiguration


class EngineSpec(ApiModel):
    """Base of an engine's settings: camelCase in the manifest, snake_case in Python, nothing unknown is let through."""


Spec = TypeVar("Spec", bound=EngineSpec)


def parse_spec(model: type[Spec], values: Mapping[str, Any], *, at: str, folder: Path | None) -> Spec:
    """Return the settings that a manifest's values are; relative paths are seen from `folder`.

    Raises:
        BadConfiguration: with every mistake, each with its field below `at`.
    """
    spec, problems = validate(model, dict(values), context={"folder": folder})
    if spec is None:
        told = (f"{below(at, problem.path)}: {problem.message}" for problem in problems)
        raise BadConfiguration("; ".join(told))
    return spec


def _resolved(value: str, info: ValidationInfo) -> str:
    if info.context is None:
        return value
    folder: Path | None = info.context["folder"]
    try:
        problem = uris.problem_of(value, schemes=uris.allowed_schemes())
        if problem is None and folder is not None:
            return uris.resolved(value, base=folder)
        if problem is None and (path := uris.local_path(value)) is not None and not path.is_absolute():
            problem = "a relative path means nothing in a pod: name an absolute one, on a volume"
    except uris.BadUri as error:
        problem = str(error)
    if problem is not None:
        raise PydanticCustomError("uri", "{problem}", {"problem": problem})
    return value


Uri = Annotated[str, AfterValidator(_resolved)]
"""A path or URI of a file; a relative one is made absolute, as seen from the manifest's folder."""
