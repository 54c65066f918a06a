"""Reads YAML exactly as kubectl does, and refuses what kubectl would let through by accident.

PyYAML alone takes `1:30` for 90 and `2024-01-01` for a date, and keeps the last of two equal keys; kubectl reads the
first two as strings and takes `y` for true. The same file must mean the same on a laptop and in a cluster.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from .rules import Problem, join

MAX_VALUES = 1_000_000
"""Aliases of aliases make a huge document from a small text."""
MAX_DEPTH = 100
_BOOL = r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"
_SCALARS = {
    "bool": (rf"^(?:{_BOOL})$", "yYnNtTfFoO"),
    "int": (r"^[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$", "-+0123456789"),
    "float": (
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "merge": (r"^<<$", "<"),
}


class _Loader(yaml.SafeLoader):
    """The safe loader with kubectl's idea of scalars, and an eye on repeated keys."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own name, filled below
    bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}  # noqa: RUF012 - PyYAML's own name

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[tuple[yaml.Mark, str, int]] = []

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not in construct_mapping: merge keys (`<<`) repeat keys on purpose, later.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                if (key.tag, key.value) in first:
                    self.repeated.append((key.start_mark, key.value, first[key.tag, key.value]))
                first.setdefault((key.tag, key.value), key.start_mark.line + 1)
        return node


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), list(_first))


def read(text: str, *, name: str) -> tuple[Any, list[Problem]]:
    """Return the one document of a text as JSON values, and what is wrong with the text.

    With problems the value is not to be used. `name` says where the text comes from.
    """
    try:
        loader = _Loader(text)
        nodes = _documents(loader)
        problems = [
            Problem(_place(name, mark), f"duplicate key {key!r}, first given in line {line}")
            for mark, key, line in loader.repeated
        ]
        if len(nodes) != 1:
            held = f"holds {len(nodes)} documents" if nodes else "holds no document"
            problems.append(Problem(name, f"{held}, exactly one is expected: a manifest is one run"))
        if problems:
            return None, problems
        return _plain(loader.construct_document(nodes[0]))
    except yaml.MarkedYAMLError as error:
        what = ", ".join(filter(None, (error.context, error.problem)))
        return None, [Problem(_place(name, error.problem_mark or error.context_mark), f"not valid YAML: {what}")]
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        return None, [Problem(name, f"not valid YAML: {(str(error).splitlines() or [type(error).__name__])[0]}")]
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        # How PyYAML's constructors take a tag, as `!!bool` or `!!timestamp`, before a value that isn't one.
        return None, [Problem(name, f"not valid YAML: a tag (as !!bool) before a value that doesn't fit it: {error}")]
    except RecursionError:
        return None, [Problem(name, f"nested deeper than {MAX_DEPTH} levels")]


def _documents(loader: _Loader) -> list[yaml.Node]:
    nodes = []
    while loader.check_node():
        node = loader.get_node()
        # What stands between two `---` may be comments only; kubectl passes over it as well.
        if node is not None and not (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
            nodes.append(node)
    return nodes


def _place(name: str, mark: Any) -> str:
    return f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name


def _plain(value: Any) -> tuple[Any, list[Problem]]:
    copier = _Copier()
    copy = copier.copy(value, path="", depth=0)
    return copy, copier.problems


class _Copier:
    """Copies a document to JSON values: nothing shared between two aliases, nothing that JSON lacks."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.count = 0

    def copy(self, value: Any, *, path: str, depth: int) -> Any:
        self.count += 1
        if depth > MAX_DEPTH:
            raise RecursionError
        if self.count > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        if isinstance(value, dict):
            return {
                self.key(key, path=path): self.copy(item, path=join(path, str(key)), depth=depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.copy(item, path=join(path, index), depth=depth + 1) for index, item in enumerate(value)]
        if isinstance(value, float):
            return self.number(value, path=path)
        if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
            self.problems.append(Problem(path, "must fit into 64 bits"))
        elif not isinstance(value, str | int | None):
            self.problems.append(Problem(path, f"must be plain YAML, a {type(value).__name__} has no place here"))
        return value

    def key(self, key: Any, *, path: str) -> str:
        if isinstance(key, bool):
            word = str(key).lower()
            self.problems.append(
                Problem(
                    path, f"a key is read as {word} (YAML takes y, yes, on, n, no, off for booleans): put it in quotes"
                )
            )
        elif not isinstance(key, str):
            self.problems.append(Problem(path, f"the key {key!r} is not a string: put it in quotes"))
        return str(key)

    def number(self, value: float, *, path: str) -> float | int:
        if not math.isfinite(value):
            self.problems.append(Problem(path, "must be a finite number"))
            return value
        # On its way to the API server 4.0 becomes JSON's 4, which is a whole number.
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
