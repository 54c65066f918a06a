"""Command lines written for the original, in the form that click reads.

The original's parser takes lists (`--only als diabetes`) and options cut short (`--max-w 6`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

LISTS = frozenset({"--only", "--exclude", "--discover-root"})
"""Options followed by any number of values."""
ADDED = frozenset(
    {
        "--detect",
        "--grace-seconds",
        "--interpreter",
        "--only-pattern",
        "--output",
        "--retry-backoff",
        "--retry-delay-seconds",
        "--root",
        "--self-test",
        "--timeout-seconds",
    }
)
"""Options that the original does not have: what is short enough for one of its own means that one."""


def as_click_reads(words: Sequence[str], *, parameters: Sequence[click.Parameter]) -> list[str]:
    """Return the words with lists spread (`--only a --only b`) and options spelt out; values stay as they are."""
    options = {
        name: option
        for option in parameters
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
    }
    return [*_spread(list(words), options=options)]


def _spread(words: list[str], *, options: dict[str, click.Option]) -> Iterator[str]:
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        full = _full(name, known=options) if name.startswith("--") else name
        option = options.get(full)
        yield f"{full}{equals}{value}"
        if option is None or option.is_flag or option.count:
            continue
        if not equals and words:
            yield words.pop(0)
        while full in LISTS and words and not words[0].startswith("-"):
            yield full
            yield words.pop(0)


def _full(name: str, *, known: dict[str, click.Option]) -> str:
    if name in known:
        return name
    meant = [option for option in known if option.startswith(name)]
    meant = [option for option in meant if option not in ADDED] or meant
    return meant[0] if len(meant) == 1 and name != "--" else name
