"""Whole numbers as an input: for work that needs no data, only to be numbered."""

from __future__ import annotations

from collections.abc import Iterator

from .base import Item, Skip, Survey, tally


class RangeSource:
    """The numbers from 0 up to and without `count`, each an item whose value is its number."""

    def __init__(self, count: int) -> None:
        self._count = count

    def survey(self, *, skip: Skip | None = None, limit: int | None = None) -> Survey:
        """See `Source.survey`."""
        survey = Survey(fingerprint=f"range:{self._count}", items_total=self._count, samples=self._count)
        if skip is None and limit is None:
            return survey
        return tally(survey, self.read(range(self._count)), skip=skip, limit=limit)

    def read(self, *items: range) -> Iterator[Item]:
        """See `Source.read`."""
        for wanted in items:
            for number in range(wanted.start, min(wanted.stop, self._count), wanted.step):
                yield Item(number=number, value=number)

    def unchanged(self, *, size_bytes: int | None) -> bool:
        """See `Source.unchanged`."""
        return size_bytes is None
