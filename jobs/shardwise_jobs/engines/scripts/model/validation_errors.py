"""Turns what pydantic finds wrong with a suite into short sentences that name the setting and the way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from shardwise.engine.errors import BadConfiguration
from shardwise_api.rules import join


class InvalidSuite(BadConfiguration):
    """The suite's settings or its list of jobs can't work: exit 2, before anything is started."""


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda found: f"must be greater than {found['gt']:g}",
    "greater_than_equal": lambda found: f"must be {found['ge']:g} or greater",
    "missing": lambda _: "is missing",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda found: f"must have at most {found['max_length']} characters",
    "string_type": lambda _: "must be text",
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "literal_error": lambda found: f"must be {found['expected']}",
    "tuple_type": lambda _: "must be a list",
    "list_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be a map of names to values",
    "model_type": lambda _: "must be a map of names to values",
    "model_attributes_type": lambda _: "must be a map of names to values",
}


def validation_errors(error: ValidationError, *, model: type[BaseModel], at: str = "") -> list[str]:
    """Return one sentence for each thing wrong; `at` is the place of the model itself."""
    sentences: list[str] = []
    for found in error.errors(include_url=False, include_input=False):
        place = at
        # `[key]` is how pydantic points at the key of a map instead of its value.
        for part in found["loc"]:
            if part != "[key]":
                place = join(place, part)
        sentences.append(f"{place} {_said(found, model=model)}".strip())
    return sentences


def _said(found: Mapping[str, Any], *, model: type[BaseModel]) -> str:
    context = found.get("ctx", {})
    if found["type"] == "extra_forbidden":
        name = str(found["loc"][-1])
        close = get_close_matches(name, _names(model), n=1)
        return "is not known" + (f"; did you mean {close[0]}?" if close else "")
    if found["type"] == "value_error":
        return str(context["error"])
    words = _WORDS.get(found["type"])
    return words(context) if words else f"can't be used: {found['msg']}"


def _names(model: type[BaseModel]) -> set[str]:
    names = set(model.model_fields)
    for field in model.model_fields.values():
        for part in get_args(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names |= _names(part)
    return names
