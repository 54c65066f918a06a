"""Command lines written for the original, in the form that click reads.

The original's parser takes lists (`--only als diabetes`) and options cut short (`--max-w 6`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

LISTS = frozenset({"--only", "--exclude", "--discover-root"})
"""Options followed by any number of values, none included: `--exclude $NAMES` is right where there are no names."""
ANY_WORD = frozenset({"--extra-arg"})
"""Options whose value may be called like one of ours, since it is meant for the scripts."""
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
    """Return the words with lists spread (`--only a --only b`) and options spelt out; values stay as they are.

    Raises:
        click.UsageError: an option stands where another's value should; read as that value, it would have no effect.
    """
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
        if full in LISTS:
            if equals:
                yield f"{full}={value}"
            while words and not words[0].startswith("-"):
                yield full
                yield words.pop(0)
            continue
        yield f"{full}{equals}{value}"
        if option is None or option.is_flag or option.count or equals or not words:
            continue
        following = words.pop(0)
        if full not in ANY_WORD and _full(following.partition("=")[0], known=options) in options:
            raise click.BadOptionUsage(
                full,
                f"Option {full!r} requires an argument, not the option {following!r}; {full}={following} if meant.",
            )
        yield following


def _full(name: str, *, known: dict[str, click.Option]) -> str:
    if name in known:
        return name
    meant = [option for option in known if option.startswith(name)]
    meant = [option for option in meant if option not in ADDED] or meant
    return meant[0] if len(meant) == 1 and name != "--" else name
