"""What others said, fit to be kept and shown: a database takes no NUL, and no encoder takes half a surrogate pair.

A reason may quote a server's bytes. One that could not be stored would cost its whole block, or its request.
"""

from __future__ import annotations

_REPLACEMENT = "\ufffd"
_LINES = frozenset("\n\t")


def readable(text: str) -> str:
    """Return a text with U+FFFD for each character that can't be shown; ends of lines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in _LINES else _REPLACEMENT for letter in text)


def excerpt(text: str, *, longest: int) -> str:
    """Return a text in one readable line of at most `longest` characters, and a mark where it was cut."""
    line = readable(" ".join(text.split()))
    return line if len(line) <= longest else line[:longest] + "…"
