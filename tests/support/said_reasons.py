"""Reads from the source which reasons it can set: one that nobody explains is found before a person meets it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OPERATOR = REPOSITORY / "operator" / "shardwise_operator"
SOURCES = (
    *sorted((OPERATOR / "core").rglob("*.py")),
    *sorted((OPERATOR / "observe").rglob("*.py")),
    OPERATOR / "shell" / "diagnosis.py",
    REPOSITORY / "operator" / "shardwise_cli" / "local" / "jobs.py",
    *sorted((REPOSITORY / "sdk" / "shardwise").rglob("*.py")),
    *sorted((REPOSITORY / "jobs" / "shardwise_jobs").rglob("*.py")),
)
_CARRIERS = ("reason", "otherwise")
"""Arguments, variables and attributes that hold a reason."""


def reasons_in(source: str) -> set[str]:
    """Return the words that become a reason somewhere in a module."""
    return {word for word in _Module(ast.parse(source)).reasons() if re.fullmatch(r"\w+", word)}


def words_in(source: str) -> set[str]:
    """Return every literal that looks like a reason of two words or more, whatever it is used for."""
    literals = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return {text for text in literals if isinstance(text, str) and re.fullmatch(r"(?:[A-Z]+[a-z]+){2,}", text)}


class _Module:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        self._constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value.value, str)
        }

    def reasons(self) -> Iterator[str]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.keyword) and node.arg in _CARRIERS:
                yield from self._values(node.value)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    yield from self._assigned(target, node.value)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                yield from self._assigned(node.target, node.value)
            elif isinstance(node, ast.Tuple):
                yield from self._of_pattern(node)
        # A word with a name of its own is shared with other modules, which set it.
        yield from (value for name, value in self._constants.items() if name in ("FAILED_INDEXES", "INVALID_SPEC"))

    def _assigned(self, target: ast.expr, value: ast.expr) -> Iterator[str]:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, its in zip(target.elts, value.elts, strict=True):
                yield from self._assigned(one, its)
        name = target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
        if name.strip("_") in _CARRIERS:
            yield from self._values(value)

    def _of_pattern(self, pair: ast.Tuple) -> Iterator[str]:
        """A pattern of what Kubernetes says, and the reason that it stands for."""
        match pair.elts:
            case [ast.Call(func=ast.Attribute(attr="compile")), ast.Constant(value=str(reason))]:
                yield reason

    def _values(self, value: ast.expr) -> Iterator[str]:
        match value:
            case ast.Constant(value=str(text)):
                yield text
            case ast.Name(id=name) if name in self._constants:
                yield self._constants[name]
            case ast.IfExp(body=body, orelse=orelse):
                yield from self._values(body)
                yield from self._values(orelse)
            case ast.BoolOp(values=parts):
                for part in parts:
                    yield from self._values(part)
            case ast.Call(func=ast.Name(id="str"), args=[inner]):
                yield from self._values(inner)
            case ast.Call(func=ast.Name(id=name)) if name in self._functions:
                for node in ast.walk(self._functions[name]):
                    if isinstance(node, ast.Return) and node.value is not None:
                        yield from self._values(node.value)
