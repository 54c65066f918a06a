"""The base of every model of the contract: camelCase outside, snake_case inside, and nothing unknown is let through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A condition over several fields, written once in the Common Expression Language.

    The API server evaluates it from the CRD, the local runner evaluates the same text (`rules.check`); `self` is the
    model that carries the rule. `transition` rules also read `oldSelf`, so only an API server can judge them.
    """

    expression: str
    message: str
    field: str | None = None
    """The field to blame, relative to the model, in manifest spelling; the model itself when None."""
    transition: bool = False


class ApiModel(BaseModel):
    """A part of a manifest, a status or a wire document."""

    model_config = ConfigDict(
        # A process uses few of the models that it imports.
        defer_build=True,
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        use_enum_values=False,
        validate_default=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
