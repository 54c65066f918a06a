"""Finds out which options a script takes without running it: by its text as the original does, or by its syntax tree.

The text is compatible and errs: a comment that mentions `--epochs` counts, and so does `--sample-rate` for `--sample`.
The syntax tree reads what the script declares to argparse or click, spelling included. Where it can't see everything
(no valid Python, names made at run time) the text decides, and the job says so.
"""

from __future__ import annotations

import ast
import io
import os
import stat
import tokenize
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Literal

from ..model.job import Option
from ..model.validation_errors import InvalidSuite

TEXT_CHARACTERS = 40_000
"""As far as the original reads."""
MAX_SYNTAX_BYTES = 4_000_000
"""A script longer than this is data; parsing it would cost memory for nothing."""

_IN_TEXT: dict[Option, tuple[str, ...]] = {
    "output_dir": ("--output-dir", "--output_dir"),
    "epochs": ("--epochs",),
    "folds": ("--folds",),
    "sample": ("--sample",),
    "batch": ("--batch",),
}
_SPELLINGS: dict[Option, tuple[str, ...]] = {
    **_IN_TEXT,
    "batch": ("--batch-size", "--batch_size", "--batch"),
}
"""The first that a script declares is passed."""
_OTHER_DECLARATIONS = frozenset({"add_option", "option", "Option"})
"""optparse, click and typer."""


class UnreadableScript(InvalidSuite):
    """A script is there and can't be read: exit 2 when it is selected, before anything is started."""

    reason = "InvalidInput"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """What a script takes."""

    options: frozenset[Option]
    method: Literal["text", "ast"]
    spellings: dict[Option, str] = field(default_factory=dict)
    """Exact, where the syntax tree showed them."""


def detect(source: bytes, *, method: Literal["text", "ast"]) -> Detected:
    """Return which options a script takes. `source` is the file's content, in whatever encoding."""
    if method == "ast":
        declared = _declared(source)
        if declared is not None:
            spellings = {
                option: next(form for form in forms if form in declared)
                for option, forms in _SPELLINGS.items()
                if declared & set(forms)
            }
            return Detected(options=frozenset(spellings), method="ast", spellings=spellings)
    text = io.TextIOWrapper(io.BytesIO(source), "utf-8", errors="ignore").read(TEXT_CHARACTERS).lower()
    found = frozenset(option for option, forms in _IN_TEXT.items() if any(form in text for form in forms))
    return Detected(options=found, method="text")


def read_script(path: Path, *, name: str) -> bytes | None:
    """Return a script's content as far as detection needs it, None when it isn't there.

    `name` is what messages call it.

    Raises:
        UnreadableScript: it is not a regular file, or may not be read.
    """
    with open_script(path, name=name) as stream:
        return None if stream is None else stream.read(MAX_SYNTAX_BYTES + 1)


@contextmanager
def open_script(path: Path, *, name: str) -> Iterator[BufferedReader | None]:
    """Open a script for reading, None when it isn't there. Raises as `read_script`."""
    try:
        # Not to wait for a writer, should it be a named pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        raise UnreadableScript(f"{name}: can't be read: {error.strerror or error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableScript(f"{name}: can't be read: it is not a regular file")
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def _declared(source: bytes) -> set[str] | None:
    """Return every option spelling that a script declares, None when its syntax tree does not show them all."""
    if len(source) > MAX_SYNTAX_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            # `"\d"` in a script is the script's affair.
            warnings.simplefilter("ignore")
            tree = ast.parse(_decoded(source))
        return {form for call in _calls(tree) for form in _spelled(call)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _decoded(source: bytes) -> str:
    # The parser's own decoding lets a wrong byte in a comment pass, in some versions of Python.
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    return source.decode(encoding)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _spelled(call: ast.Call) -> Iterator[str]:
    """Yield the option spellings of one call. Raises ValueError when they are made at run time."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    if name == "add_argument":
        if not all(isinstance(argument, ast.Constant) for argument in call.args):
            raise ValueError("an option's name is made at run time")
    elif name not in _OTHER_DECLARATIONS:
        return
    for argument in call.args:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value.startswith("-"):
            # click writes a switch and its opposite as one: --shuffle/--no-shuffle.
            yield from argument.value.split("/")
