"""Inputs that the `datasets` library reads: hub datasets, streamed, and parquet files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from shardwise_jobs.errors import BadConfiguration, BadInput, Unavailable, WorkError
from shardwise_jobs.files import local_size
from shardwise_jobs.http_client import adapt_to_hub

from .base import Record, Survey, require_samples, tally, text_of
from .parquet import ParquetRows

if TYPE_CHECKING:
    from datasets import IterableDataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A dataset that goes by a short key."""

    path: str
    name: str | None = None
    column: str = "text"


KNOWN = {
    "c4": Known(path="allenai/c4", name="en"),
    "redpajama_sample": Known(path="togethercomputer/RedPajama-Data-1T-Sample"),
    "pile": Known(path="monology/pile-uncopyrighted"),
    "refinedweb": Known(path="tiiuae/falcon-refinedweb", column="content"),
    "dolma": Known(path="allenai/dolma"),
    "wikitext": Known(path="Salesforce/wikitext", name="wikitext-103-raw-v1"),
    "openwebtext": Known(path="Skylion007/openwebtext"),
    "bookcorpus": Known(path="bookcorpusopen"),
    "simple_wiki": Known(path="legacy-datasets/wikipedia", name="20220301.simple"),
}
"""Keys of the original learner's loader."""


class LibraryDataset:
    """A streamed dataset; `arguments` are those of `datasets.load_dataset`."""

    def __init__(self, *, arguments: dict[str, Any], column: str, field: str, full_pass: bool) -> None:
        self._arguments = arguments
        self._column = column
        self._field = field
        self._full_pass = full_pass

    @classmethod
    def hub(
        cls, *, path: str, name: str | None, split: str, column: str | None, revision: str | None
    ) -> LibraryDataset:
        """Open a hub dataset, or a folder that holds one; a known key stands for its path, name and column."""
        known = KNOWN.get(path, Known(path=path))
        arguments = {"path": known.path, "name": name or known.name, "split": split, "revision": revision}
        return cls(
            arguments={key: value for key, value in arguments.items() if value is not None},
            column=column or known.column,
            field="spec.engine.kato.dataset.hub",
            # Without maxSamples a survey would stream hundreds of gigabytes.
            full_pass=False,
        )

    @classmethod
    def parquet(cls, *, uris: list[str], column: str) -> LibraryDataset:
        """Open parquet files."""
        return cls(
            arguments={"path": "parquet", "data_files": uris, "split": "train"},
            column=column,
            field="spec.engine.kato.dataset.files.uris",
            full_pass=True,
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """What `datasets.load_dataset` is called with."""
        return dict(self._arguments)

    @property
    def column(self) -> str:
        """Where a record has its text."""
        return self._column

    def survey(self, *, max_samples: int | None) -> Survey:
        """See `RecordSource.survey`: a hub's stream is only counted up to `max_samples`, never read through."""
        dataset = self._open()
        if self._column not in (dataset.column_names or [self._column]):
            found = ", ".join(map(repr, dataset.column_names or []))
            raise BadInput(f"{self._field}: no column {self._column!r}; columns are {found}")
        if max_samples is None and not self._full_pass:
            identity = json.dumps({**self._arguments, "column": self._column}, sort_keys=True)
            fingerprint = f"sha256:{hashlib.sha256(identity.encode()).hexdigest()}"
            assert not isinstance(dataset, ParquetRows)
            split = (dataset.info.splits or {}).get(self._arguments["split"])
            return Survey(fingerprint=fingerprint, items_total=None if split is None else split.num_examples)
        # What was read counts, not where it lies: a moved file is the same input, a changed one is another.
        digest = hashlib.sha256(self._column.encode())
        survey = Survey(fingerprint="", items_total=None, size_bytes=self._size())
        tally(survey, _seen(self._records(self._rows(dataset)), digest.update), max_samples=max_samples)
        survey.fingerprint = f"sha256:{digest.hexdigest()}"
        return require_samples(survey, what=self._field)

    def read(self, items: range) -> Iterator[Record]:
        """See `RecordSource.read`."""
        return self._records(islice(self._rows(self._open()), items.start, items.stop, items.step))

    def unchanged(self, *, size_bytes: int | None) -> bool:
        """See `RecordSource.unchanged`: of a hub's dataset there is no cheap way to know."""
        return size_bytes == self._size()

    def _size(self) -> int | None:
        return local_size(self._arguments["data_files"]) if "data_files" in self._arguments else None

    def _records(self, rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[Record]:
        for item, row in rows:
            yield text_of(
                row.get(self._column), where=f"record {item}", item=item, column=self._column, columns=list(row)
            )

    def _open(self) -> IterableDataset | ParquetRows:
        if "data_files" in self._arguments:
            return ParquetRows(uris=self._arguments["data_files"], column=self._column, field=self._field)
        try:
            import datasets
        except ImportError as error:
            raise BadConfiguration(f"{self._field}: needs pip install 'shardwise[datasets]'") from error
        datasets.disable_progress_bars()
        adapt_to_hub(self._arguments["path"])
        with self._translated():
            return datasets.load_dataset(**self._arguments, streaming=True)

    def _rows(self, dataset: IterableDataset | ParquetRows) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._translated():
            yield from enumerate(dataset)

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
            raise BadInput(f"{self._field}: {self._arguments['path']}: {what}") from error


def _seen(records: Iterator[Record], tell: Callable[[bytes], object]) -> Iterator[Record]:
    for record in records:
        text = record.text if record.failure is None else record.failure
        tell(f"\n{record.failure is None} {len(text)} {text}".encode("utf-8", "surrogatepass"))
        yield record


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:500]
