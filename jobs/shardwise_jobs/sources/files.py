"""Line-based files as an input: one record per line, so that a broken line costs one item and not the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice

from shardwise_api.kato import FileFormat
from shardwise_api.uris import redacted
from shardwise_jobs.files import local_path, local_size, open_input
from shardwise_jobs.remote import translated

from .base import Record, Survey, require_samples, tally, text_of
from .lines import read_lines

FIELD = "spec.engine.kato.dataset.files.uris"
MAX_LINE_BYTES = 64 << 20
"""A longer line is a failed item, and is passed over without being held: a small compressed file may hold gigabytes."""


class LineFiles:
    """JSON lines or plain text in files, local or by URI, compressed or not; an item is a line, over all files."""

    def __init__(self, *, uris: list[str], format: FileFormat, column: str, field: str = FIELD) -> None:
        self._uris = uris
        self._format = format
        self._column = column
        self._field = field

    def survey(self, *, max_samples: int | None) -> Survey:
        """See `RecordSource.survey`: every line is parsed, so that bad ones are known before work starts."""
        # Content and reading count, not where the files lie: a moved input is the same input.
        digest = hashlib.sha256(f"{self._format} {self._column}\n".encode())
        survey = Survey(fingerprint="", items_total=None, size_bytes=local_size(self._uris))
        tally(survey, self._records(self._numbered(digest.update)), max_samples=max_samples)
        survey.fingerprint = f"sha256:{digest.hexdigest()}"
        return require_samples(survey, what=self._field)

    def read(self, items: range) -> Iterator[Record]:
        """See `RecordSource.read`."""
        return self._records(islice(self._numbered(None), items.start, items.stop, items.step))

    def unchanged(self, *, size_bytes: int | None) -> bool:
        """See `RecordSource.unchanged`."""
        return size_bytes == local_size(self._uris)

    def _numbered(self, seen: Callable[[bytes], object] | None) -> Iterator[tuple[int, str, int, bytes | None]]:
        item = 0
        for uri in self._uris:
            with ExitStack() as stack:
                stream = stack.enter_context(open_input(uri, field=self._field))
                if local_path(uri) is None:
                    stack.enter_context(translated(field=self._field, uri=uri))
                lines = read_lines(
                    stream,
                    max_bytes=MAX_LINE_BYTES,
                    where=f"{self._field}: {redacted(uri)}",
                    seen=seen,
                    # JSON's own reader drops it, and its fingerprints have always had it.
                    drop_bom=self._format is FileFormat.TEXT,
                )
                for number, line in lines:
                    yield item, uri, number, line
                    item += 1

    def _records(self, lines: Iterator[tuple[int, str, int, bytes | None]]) -> Iterator[Record]:
        parse = self._parse_json if self._format is FileFormat.JSONL else self._parse_text
        for item, uri, number, line in lines:
            if line is None:
                failure = f"{_where(uri, number)}: the line is longer than {MAX_LINE_BYTES} bytes"
                yield Record(item=item, failure=failure)
            else:
                yield parse(item, uri, number, line)

    def _parse_json(self, item: int, uri: str, number: int, line: bytes) -> Record:
        if not line.strip():
            return Record(item=item)
        try:
            value = json.loads(line)
        except UnicodeDecodeError as error:
            return Record(item=item, failure=f"{_where(uri, number)}: not UTF-8: byte {error.object[error.start]:#04x}")
        except (ValueError, RecursionError) as error:
            return Record(item=item, failure=f"{_where(uri, number)}: not JSON: {error}")
        if not isinstance(value, dict):
            return Record(item=item, failure=f"{_where(uri, number)}: not a JSON object but {type(value).__name__}")
        return text_of(
            value.get(self._column), where=_where(uri, number), item=item, column=self._column, columns=list(value)
        )

    def _parse_text(self, item: int, uri: str, number: int, line: bytes) -> Record:
        try:
            return Record(item=item, text=line.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError as error:
            return Record(item=item, failure=f"{_where(uri, number)}: not UTF-8: byte {line[error.start]:#04x}")


def _where(uri: str, number: int) -> str:
    return f"{redacted(uri).rsplit('/', 1)[-1]} line {number}"
