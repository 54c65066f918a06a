"""Inputs in columns: parquet files, and data sets that the `datasets` library streams."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shardwise.engine.errors import BadConfiguration, BadInput, Unavailable, WorkError
from shardwise.engine.files import local_size
from shardwise.engine.http_client import adapt_to_hub

from .base import Item, Skip, Survey, picked, tally, text_item
from .parquet import ParquetRows

if TYPE_CHECKING:
    from datasets import IterableDataset


class _ColumnSource(ABC):
    """Rows of which one column is read, which holds text."""

    def __init__(self, *, name: str, column: str, field: str) -> None:
        self._name = name
        self._column = column
        self._field = field

    @property
    def column(self) -> str:
        """Where a row has its text."""
        return self._column

    def survey(self, *, skip: Skip | None = None, limit: int | None = None) -> Survey:
        """See `Source.survey`: every row is read."""
        rows = self._opened()
        # What was read counts, not where it lies: a moved file is the same input, a changed one is another.
        digest = hashlib.sha256(self._column.encode())
        survey = Survey(fingerprint="", items_total=None, size_bytes=self._size())
        tally(survey, _seen(self._items(self._rows(rows)), digest.update), skip=skip, limit=limit)
        survey.fingerprint = f"sha256:{digest.hexdigest()}"
        return survey

    def read(self, *items: range) -> Iterator[Item]:
        """See `Source.read`."""
        return self._items(picked(self._rows(self._open()), items))

    def unchanged(self, *, size_bytes: int | None) -> bool:
        """See `Source.unchanged`."""
        return size_bytes == self._size()

    @abstractmethod
    def _open(self) -> Any:
        """Return the rows, as mappings, with `column_names`."""

    @abstractmethod
    def _size(self) -> int | None: ...

    def _opened(self) -> Any:
        rows = self._open()
        if self._column not in (rows.column_names or [self._column]):
            found = ", ".join(map(repr, rows.column_names or []))
            raise BadInput(f"{self._field}: no column {self._column!r}; columns are {found}")
        return rows

    def _items(self, rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[Item]:
        for number, row in rows:
            yield text_item(
                row.get(self._column), where=f"record {number}", number=number, column=self._column, columns=list(row)
            )

    def _rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._translated():
            yield from enumerate(rows)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except WorkError:
            raise
        except ConnectionError as error:
            raise Unavailable(f"{self._field}: {_first_line(error)}") from error
        except Exception as error:  # the library's errors have no base of their own
            # Its own words for a file that can't be read are "an error occurred".
            behind = error.__cause__ if isinstance(error.__cause__, Exception) else error
            what = f"{type(behind).__name__}: {_first_line(behind)}"
            raise BadInput(f"{self._field}: {self._name}: {what}") from error


class ParquetSource(_ColumnSource):
    """Parquet files; an item is a row, over all files, and its value the text in a column."""

    def __init__(self, uris: Sequence[str], *, field: str, column: str = "text") -> None:
        super().__init__(name="parquet", column=column, field=field)
        self._uris = list(uris)

    def _open(self) -> ParquetRows:
        return ParquetRows(uris=self._uris, column=self._column, field=self._field)

    def _size(self) -> int | None:
        return local_size(self._uris)


class HubSource(_ColumnSource):
    """A data set of the hub, or a folder that holds one, streamed; an item's value is the text in a column."""

    def __init__(
        self,
        path: str,
        *,
        field: str,
        name: str | None = None,
        split: str = "train",
        column: str = "text",
        revision: str | None = None,
    ) -> None:
        super().__init__(name=path, column=column, field=field)
        arguments = {"path": path, "name": name, "split": split, "revision": revision}
        self._arguments = {key: value for key, value in arguments.items() if value is not None}

    @property
    def arguments(self) -> dict[str, Any]:
        """What `datasets.load_dataset` is called with."""
        return dict(self._arguments)

    def survey(self, *, skip: Skip | None = None, limit: int | None = None) -> Survey:
        """See `Source.survey`: the stream is read up to `limit`, and without one never: it may be terabytes."""
        if limit is not None:
            return super().survey(skip=skip, limit=limit)
        rows: IterableDataset = self._opened()
        identity = json.dumps({**self._arguments, "column": self._column}, sort_keys=True)
        fingerprint = f"sha256:{hashlib.sha256(identity.encode()).hexdigest()}"
        split = (rows.info.splits or {}).get(self._arguments["split"])
        return Survey(fingerprint=fingerprint, items_total=None if split is None else split.num_examples)

    def _open(self) -> IterableDataset:
        try:
            import datasets
        except ImportError as error:
            raise BadConfiguration(f"{self._field}: needs pip install 'shardwise[datasets]'") from error
        datasets.disable_progress_bars()
        adapt_to_hub(self._arguments["path"])
        with self._translated():
            return datasets.load_dataset(**self._arguments, streaming=True)

    def _size(self) -> int | None:
        # There is no cheap way to know.
        return None


def _seen(items: Iterator[Item], tell: Callable[[bytes], object]) -> Iterator[Item]:
    for item in items:
        text = item.value if item.failure is None else item.failure
        tell(f"\n{item.failure is None} {len(text)} {text}".encode("utf-8", "surrogatepass"))
        yield item


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:500]
