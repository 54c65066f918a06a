"""Line-based files as an input: one record per line, so that a broken line costs one item and not the file."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import IO

from shardwise_api.kato import FileFormat
from shardwise_api.uris import redacted
from shardwise_jobs.errors import BadInput
from shardwise_jobs.files import local_path, local_size, open_input
from shardwise_jobs.remote import translated

from .base import Record, Survey, require_samples, tally, text_of

FIELD = "spec.engine.kato.dataset.files.uris"


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

    def _numbered(self, seen: Callable[[bytes], object] | None) -> Iterator[tuple[int, str, int, bytes]]:
        item = 0
        for uri in self._uris:
            with ExitStack() as stack:
                stream = stack.enter_context(open_input(uri, field=self._field))
                for number, line in enumerate(self._lines(stream, uri), start=1):
                    if seen is not None:
                        # A last line without its end is the same item as with it, and ends where the next file begins.
                        seen(line if line.endswith(b"\n") else line + b"\n")
                    yield item, uri, number, line
                    item += 1

    def _lines(self, stream: IO[bytes], uri: str) -> Iterator[bytes]:
        try:
            if local_path(uri) is not None:
                yield from stream
                return
            with translated(field=self._field, uri=uri):
                yield from stream
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise BadInput(f"{self._field}: {redacted(uri)}: the compressed file is broken: {error}") from error

    def _records(self, lines: Iterator[tuple[int, str, int, bytes]]) -> Iterator[Record]:
        parse = self._parse_json if self._format is FileFormat.JSONL else self._parse_text
        for item, uri, number, line in lines:
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
