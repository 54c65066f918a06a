"""Validates plain values against a model as an API server would, and says what is wrong in plain words.

pydantic's own rules are laxer than a CRD's schema ("4" and true pass for numbers) and its messages speak of inputs and
types; neither is what a person with a manifest needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from .base import ApiModel
from .rules import Problem, alias_of, check, join
from .uris import redacted

Model = TypeVar("Model", bound=ApiModel)
_MAX_SHOWN = 60


def validate(
    model: type[Model], data: Any, *, context: Mapping[str, Any] | None = None
) -> tuple[Model | None, list[Problem]]:
    """Return the model and no problem, or none and every problem: of single fields, and of the rules between them.

    `context` is for the model's own validators.
    """
    data = drop_nulls(model, data)
    try:
        found = _strictly(model, data, context=context)
    except ValidationError as error:
        return None, [
            *(_problem(model, details) for details in error.errors(include_url=False)),
            *_broken_rules(model, data, at=""),
        ]
    problems = check(found)
    return (None if problems else found), problems


def drop_nulls(model: type[ApiModel], data: Any) -> Any:
    """Return a copy without the fields that are null: to an API server they are absent, defaults apply."""
    if not isinstance(data, dict):
        return data
    fields = {alias_of(model, name): field.annotation for name, field in model.model_fields.items()}
    return {
        key: _drop_nulls_of_field(fields[key], value) if key in fields else value
        for key, value in data.items()
        if value is not None or key not in fields
    }


def _drop_nulls_of_field(annotation: Any, value: Any) -> Any:
    part = _model_in(annotation)
    if part is not None:
        return [drop_nulls(part, item) for item in value] if isinstance(value, list) else drop_nulls(part, value)
    if annotation == dict[str, str] and isinstance(value, dict):
        return {key: item for key, item in value.items() if item is not None}
    return value


def _strictly(model: type[Model], data: Any, *, context: Mapping[str, Any] | None = None) -> Model:
    # By way of JSON: strict as to numbers, strings and booleans, but enumerations and times are strings there.
    return model.model_validate_json(json.dumps(data), strict=True, by_alias=True, by_name=False, context=context)


def _broken_rules(model: type[ApiModel], data: Any, *, at: str) -> list[Problem]:
    """Check the rules of those parts of an invalid document that are valid in themselves."""
    if not isinstance(data, dict):
        return []
    problems = []
    for field, part in _nested(model).items():
        value = data.get(field)
        path = join(at, field)
        places = [(join(path, n), item) for n, item in enumerate(value)] if isinstance(value, list) else [(path, value)]
        for place, item in places:
            try:
                problems.extend(check(_strictly(part, item), at=place))
            except ValidationError:
                problems.extend(_broken_rules(part, item, at=place))
    return problems


def _nested(model: type[ApiModel]) -> dict[str, type[ApiModel]]:
    """Return the models that the fields of a model hold, alone or in a list, by the fields' manifest spelling."""
    found = {alias_of(model, name): _model_in(field.annotation) for name, field in model.model_fields.items()}
    return {alias: part for alias, part in found.items() if part is not None}


def _model_in(annotation: Any) -> type[ApiModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _problem(model: type[ApiModel], details: ErrorDetails) -> Problem:
    path = ""
    for part in details["loc"]:
        path = join(path, part)
    if details["type"] == "extra_forbidden":
        return Problem(path, _unknown(model, details["loc"]))
    if details["type"] == "missing":
        return Problem(path, "required")
    return Problem(path, f"{_expectation(details)}, got {_shown(details)}{_hint(details)}")


def _unknown(model: type[ApiModel], loc: tuple[int | str, ...]) -> str:
    for part in loc[:-1]:
        if isinstance(part, str):
            model = _nested(model)[part]
    return f"unknown field; {suggestion(str(loc[-1]), [alias_of(model, name) for name in model.model_fields])}"


def suggestion(word: str, known: list[str]) -> str:
    """Return what was probably meant, or all there is."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(to_camel(word).lower(), by_lower, n=1)
    return f"did you mean {by_lower[close[0]]}?" if close else f"known are {', '.join(known)}"


def _expectation(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    match details["type"]:
        case "int_type" | "int_from_float":
            return "must be a whole number"
        case "float_type":
            return "must be a number"
        case "bool_type":
            return "must be true or false"
        case "string_type":
            return "must be a string"
        case "list_type":
            return "must be a list"
        case "dict_type" | "model_type":
            return "must be a mapping"
        case "enum" | "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            return f"must be one of {', '.join(choices)}" if len(choices) > 1 else f"must be {choices[0]}"
        case "string_pattern_mismatch":
            return f"must match {context['pattern']}"
        case "greater_than_equal":
            return f"must be at least {_number(context['ge'])}"
        case "less_than_equal":
            return f"must be at most {_number(context['le'])}"
        case "string_too_short" if context["min_length"] == 1:
            return "must not be empty"
        case "string_too_short":
            return f"must have at least {context['min_length']} characters"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_short":
            return f"must have at least {_entries(context['min_length'])}"
        case "too_long":
            return f"must have at most {_entries(context['max_length'])}"
        case _:
            return details["msg"][:1].lower() + details["msg"][1:]


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _shown(details: ErrorDetails) -> str:
    value = details["input"]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return str(len(value)) if details["type"] in ("too_short", "too_long") else "a list"
    if isinstance(value, str):
        if details["type"] == "string_too_long":
            return str(len(value))
        # A mistyped URI is the likeliest place of a password, and errors end up in logs.
        value = redacted(value) if "://" in value else value
        return repr(value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}…")
    return json.dumps(value)


def _hint(details: ErrorDetails) -> str:
    value = details["input"]
    match details["type"], value:
        case "string_type", bool():
            return " (YAML takes y, yes, on, n, no, off for booleans: put it in quotes)"
        case "string_type", int() | float():
            return ": put it in quotes"
        case (("int_type" | "float_type" | "bool_type"), str()) if _is_number_or_bool(value):
            return ": leave the quotes out"
    return ""


def _is_number_or_bool(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?|true|false", text) is not None
