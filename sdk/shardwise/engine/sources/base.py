"""The interface of an input, and what a look through all of it finds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

MAX_LISTED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of an input: its value, or why it has none."""

    number: int
    """From 0, over the whole input."""
    value: Any = None
    failure: str | None = None


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a full pass over an input found; `items_total` None when no full pass was made and nobody knows."""

    fingerprint: str
    """Of the content, and of how it is read; not of where it lies."""
    items_total: int | None
    samples: int | None = None
    """Items that neither failed nor are passed over."""
    failed: int = 0
    skipped: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    """The first few failed items: (number, reason)."""
    size_bytes: int | None = None


Skip = Callable[[Item], bool]
"""Says of an item without failure whether it is passed over, which is no failure."""


class Source(Protocol):
    """Numbered items, read as often as needed, in bounded memory; item i is the same in every pass and process."""

    def survey(self, *, skip: Skip | None = None, limit: int | None = None) -> Survey:
        """Look at the input once, before any work; at no more of it than `limit` samples, where that is given.

        Raises:
            BadConfiguration: it can't be opened.
            BadInput: it can't be read.
            Unavailable: its place can't be reached.
        """

    def read(self, *items: range) -> Iterator[Item]:
        """Yield the items of ascending ranges that don't overlap, in order; fewer when the input ends before.

        A single range may have a step; of several each has step 1.
        """

    def unchanged(self, *, size_bytes: int | None) -> bool:
        """Say, without reading it, whether the input still looks as it did at the survey, whose size this is."""


def tally(survey: Survey, items: Iterable[Item], *, skip: Skip | None, limit: int | None) -> Survey:
    """Count items into a survey, up to and with the one that is the `limit`-th sample, and return it."""
    total = samples = 0
    for item in items:
        total += 1
        if item.failure is not None:
            survey.failed += 1
            if len(survey.failures) < MAX_LISTED:
                survey.failures.append((item.number, item.failure))
        elif skip is not None and skip(item):
            survey.skipped += 1
        else:
            samples += 1
            if samples == limit:
                break
    survey.items_total = total
    survey.samples = samples
    return survey


def picked(stream: Iterator[T], items: tuple[range, ...]) -> Iterator[T]:
    """Yield of a stream the elements at the places that `Source.read` is asked for, in one pass."""
    if len(items) == 1:
        yield from islice(stream, items[0].start, items[0].stop, items[0].step)
        return
    place = 0
    for wanted in items:
        deque(islice(stream, wanted.start - place), maxlen=0)
        yield from islice(stream, len(wanted))
        place = wanted.stop


def text_item(value: object, *, where: str, number: int, column: str, columns: list[str]) -> Item:
    """Return the item of a column's value, a failed one when that is no text."""
    if column not in columns:
        found = ", ".join(map(repr, columns[:10])) or "none"
        return Item(number=number, failure=f"{where}: no column {column!r}; columns are {found}")
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        return Item(number=number, failure=f"{where}: column {column!r} is {kind}, not text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return Item(number=number, failure=f"{where}: column {column!r} holds half a surrogate pair")
    return Item(number=number, value=value)
