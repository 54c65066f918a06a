"""`--set path=value`: changes single fields of a manifest before it is validated, so that a typo is caught as usual."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .rules import Problem
from .yaml_reader import read

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_SEGMENT = re.compile(r"((?:\\.|[^\\.\[\]])+)|\[(\d+)\]")


class BadOverride(ValueError):
    """An override that can't be applied, with the reason."""


def apply(document: Any, overrides: Sequence[str]) -> list[Problem]:
    """Apply overrides to a document in place, in the order given; return those that could not be applied.

    A path starts in `spec` unless its first part is a field of the resource itself: `sharding.shards=8`,
    `metadata.name=x`, `engine.kato.nodes[0].chunkSize=6` (or `nodes.0.`). `\\.` is a dot within a key. The value is
    YAML; an empty one takes the field away.
    """
    problems = []
    for override in overrides:
        try:
            path, value = _parse(override)
            _assign(document, path, value)
        except BadOverride as error:
            problems.append(Problem(f"--set {override.partition('=')[0]}", str(error)))
    return problems


def _parse(override: str) -> tuple[list[str | int], Any]:
    left, equals, right = override.partition("=")
    if not equals:
        raise BadOverride("write path=value, as sharding.shards=8")
    path: list[str | int] = []
    position = 0
    while position < len(left):
        match = _SEGMENT.match(left, position)
        if match is None or (position == 0 and match[1] is None):
            break
        path.append(re.sub(r"\\(.)", r"\1", match[1]) if match[1] is not None else int(match[2]))
        position = match.end()
        if left[position : position + 1] == "." and position + 1 < len(left) and left[position + 1] != "[":
            position += 1
        elif left[position : position + 1] not in ("", "["):
            break
    if not path or position != len(left):
        raise BadOverride(f"{left!r} is not a path, as sharding.shards or engine.kato.nodes[0].chunkSize")
    if path[0] not in _TOP:
        path.insert(0, "spec")
    return path, _value(right)


def _value(text: str) -> Any:
    if text.strip() in ("", "null", "~"):
        return None
    value, problems = read(text, name="value")
    if problems:
        raise BadOverride("; ".join(map(str, problems)))
    return value


def _assign(document: Any, path: list[str | int], value: Any) -> None:
    here = document
    for position, (segment, following) in enumerate(zip(path, [*path[1:], None], strict=True)):
        key = _key(here, segment, name=_name(path[:position]))
        if following is None:
            here[key] = value
            return
        if here[key] is None:
            here[key] = [] if following == 0 and isinstance(following, int) else {}
        here = here[key]


def _key(here: Any, segment: str | int, *, name: str) -> Any:
    """Return the key or index of `segment`, after making room for it."""
    if isinstance(here, list):
        if not str(segment).isdecimal():
            raise BadOverride(f"{name} is a list: give an index, as {name}[0]")
        index = int(segment)
        if index > len(here):
            raise BadOverride(f"{name} has {len(here)} entries, there is no [{index}]")
        if index == len(here):
            here.append(None)
        return index
    if isinstance(here, dict):
        if isinstance(segment, int):
            raise BadOverride(f"{name} is not a list")
        here.setdefault(segment, None)
        return segment
    raise BadOverride(f"{name} is {here!r}, which has no fields")


def _name(path: list[str | int]) -> str:
    text = ""
    for segment in path:
        text += f"[{segment}]" if isinstance(segment, int) else f".{segment}"
    return text.removeprefix(".") or "the manifest"
