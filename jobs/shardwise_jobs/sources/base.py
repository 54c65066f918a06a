"""The interface of an input, and what a look through all of it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from shardwise_jobs.errors import BadInput

MIN_CHARACTERS = 11
"""A sample's text, stripped, must have at least these: the original loader takes more than ten."""
MAX_LISTED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One item: its text, or why it has none."""

    item: int
    text: str = ""
    failure: str | None = None

    @property
    def too_short(self) -> bool:
        """Whether there is too little to learn from; such an item is skipped, which is no failure."""
        return self.failure is None and len(self.text.strip()) < MIN_CHARACTERS


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a full pass over an input found; `items_total` None when no full pass was made."""

    fingerprint: str
    items_total: int | None
    samples: int | None = None
    failed: int = 0
    skipped: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    """The first few failed items: (index, reason)."""
    size_bytes: int | None = None


class RecordSource(Protocol):
    """Numbered records, read as often as needed, in bounded memory."""

    def survey(self, *, max_samples: int | None) -> Survey:
        """Look at the input once, before any work.

        Raises:
            BadInput: it can't be read, or has nothing to learn from.
        """

    def read(self, items: range) -> Iterator[Record]:
        """Yield the records of `items`, which has a positive step, in order; fewer when the input ends before."""

    def unchanged(self, *, size_bytes: int | None) -> bool:
        """Say, without reading it, whether the input still looks as it did at the survey."""


def text_of(value: object, *, where: str, item: int, column: str, columns: list[str]) -> Record:
    """Return the record of a column's value, a failed one when that is no text."""
    if column not in columns:
        found = ", ".join(map(repr, columns[:10])) or "none"
        return Record(item=item, failure=f"{where}: no column {column!r}; columns are {found}")
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        return Record(item=item, failure=f"{where}: column {column!r} is {kind}, not text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return Record(item=item, failure=f"{where}: column {column!r} holds half a surrogate pair")
    return Record(item=item, text=value)


def tally(survey: Survey, records: Iterator[Record], *, max_samples: int | None) -> None:
    """Count records into a survey, up to and with the one that is the `max_samples`-th sample."""
    total = samples = 0
    for record in records:
        total += 1
        if record.failure is not None:
            survey.failed += 1
            if len(survey.failures) < MAX_LISTED:
                survey.failures.append((record.item, record.failure))
        elif record.too_short:
            survey.skipped += 1
        else:
            samples += 1
            if samples == max_samples:
                break
    survey.items_total = total
    survey.samples = samples


def require_samples(survey: Survey, *, what: str) -> Survey:
    """Return the survey when there is something to learn from.

    Raises:
        BadInput: nothing was found; a run of 0 samples is a mistake, not a success.
    """
    if survey.samples == 0:
        first = f"; first: {survey.failures[0][1]}" if survey.failures else ""
        raise BadInput(
            f"{what}: no sample to learn from ({survey.items_total} records: {survey.failed} failed, "
            f"{survey.skipped} shorter than {MIN_CHARACTERS} characters{first})"
        )
    return survey
