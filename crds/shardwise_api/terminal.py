"""Text from outside on its way to a terminal or a log: what others wrote must not move cursors, set titles or lie.

A model's answer, a script's line, a key of somebody's file or a status of a foreign operator may hold control codes.
Every command prints through `echo`, a `console.console` or, where it mixes in colours of its own, `sanitize`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

_REPLACEMENT = "\ufffd"
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m|\r(?=\n|$)")
"""Codes that do nothing but colour what follows, and the first half of another system's end of line: left out."""
_UNSAFE = re.compile(
    # Controls but tab and line feed, marks and overrides of writing direction, other line ends, half surrogate pairs.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def sanitize(text: str) -> str:
    """Return a text with U+FFFD for each character that a terminal or a database would not take as a letter.

    Ends of lines and tabs stay; colours are left out.
    """
    if text.isprintable() and text.isascii():
        return text
    return _UNSAFE.sub(_REPLACEMENT, _COLOURS.sub("", text))


def sanitize_values(value: Any) -> Any:
    """Return plain JSON values with all their texts, keys too, sanitized."""
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, dict):
        return {sanitize(str(key)): sanitize_values(item) for key, item in value.items()}
    return [sanitize_values(item) for item in value] if isinstance(value, list) else value


def excerpt(text: str, *, longest: int) -> str:
    """Return a text in one sanitized line of at most `longest` characters, and a mark where it was cut."""
    line = sanitize(" ".join(text.split()))
    return line if len(line) <= longest else line[:longest] + "…"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return JSON of exactly this value; what could harm a terminal is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}" if found[0] != "\n" else "\n", text)


def echo(text: str, *, err: bool = False, file: TextIO | None = None) -> None:
    """Print a line, sanitized."""
    import click

    click.echo(sanitize(text), err=err, file=file)


def print_exactly(lines: Iterable[str]) -> None:
    """Print lines that a digest is made of: a pipe or a file gets them as they are, a terminal sanitized."""
    sys.stdout.writelines(map(sanitize, lines) if sys.stdout.isatty() else lines)
