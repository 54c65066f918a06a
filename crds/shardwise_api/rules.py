"""Judges the rules of a validated model where no API server does: the same text, the same values, the same verdict.

An API server evaluates a rule on the stored object (defaults filled in, absent fields absent); `check` dumps each model
in that shape, so that a manifest refused by a cluster is refused on a laptop too, in the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from .base import ApiModel, Rule


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a manifest, and where."""

    path: str
    """In manifest spelling, as `spec.engine.kato.nodes[1].chunkSize`; empty for the manifest as a whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def join(path: str, field: str | int) -> str:
    """Return the path of a field, of an entry of a list, or of a map's key that a dot would not set off."""
    if isinstance(field, int):
        return f"{path}[{field}]"
    if not field.replace("_", "").isalnum():
        return f"{path}[{field}]"
    return f"{path}.{field}" if path else field


def below(path: str, rest: str) -> str:
    """Return the path of what `rest` is the path of, as seen from `path`."""
    return f"{path}{rest}" if not rest or not path or rest.startswith("[") else f"{path}.{rest}"


def alias_of(model: type[ApiModel], name: str) -> str:
    """Return how manifests spell a field."""
    return model.model_fields[name].alias or name


def check(model: ApiModel, *, at: str = "") -> list[Problem]:
    """Evaluate every rule in a validated model and in the models within it; transition rules need an API server.

    `at` is the path of the model itself, when it is a part of a manifest.
    """
    problems = []
    document = _document(model)
    for rule in type(model).rules:
        if not rule.transition and (message := _complaint(rule, document)):
            problems.append(Problem(f"{at}.{rule.field}".strip(".") if rule.field else at, message))
    for field, part in _parts(model):
        problems.extend(check(part, at=f"{at}.{field}" if at else field))
    return problems


def _parts(model: ApiModel) -> Iterator[tuple[str, ApiModel]]:
    for name in type(model).model_fields:
        field = alias_of(type(model), name)
        value = getattr(model, name)
        if isinstance(value, ApiModel):
            yield field, value
        elif isinstance(value, list):
            yield from ((join(field, index), item) for index, item in enumerate(value) if isinstance(item, ApiModel))


def _document(model: ApiModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _complaint(rule: Rule, document: dict[str, Any]) -> str | None:
    try:
        verdict = _compiled(rule.expression).execute({"self": document})
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        # As the API server has it: what can't be evaluated is refused.
        return f"{rule.message} (can't be judged here: {error})"
    return None if verdict is True else rule.message


@cache
def _compiled(expression: str) -> Any:
    # Imported late: it takes 0.4 seconds, and most commands of the client have no manifest to check.
    import cel

    return cel.compile(expression)
