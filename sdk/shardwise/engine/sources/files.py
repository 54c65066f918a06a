"""Files as an input: lines, rows of CSV, or each file as a whole; a broken item costs itself and not the file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Literal

from shardwise.engine.errors import BadInput
from shardwise.engine.files import local_path, local_size, open_input
from shardwise.engine.remote import translated
from shardwise_api.uris import redacted

from .base import Item, Skip, Survey, picked, tally, text_item
from .lines import read_lines

MAX_LINE_BYTES = 64 << 20
"""A longer line is a failed item, and is passed over without being held: a small compressed file may hold gigabytes."""
MAX_FILE_BYTES = 256 << 20
"""A longer file is a failed item where a file is an item."""

LineFormat = Literal["text", "jsonl"]


class _Files:
    """What sources of files have in common: where they lie, and how much there is of them."""

    def __init__(self, uris: Sequence[str], *, field: str) -> None:
        self._uris = list(uris)
        self._field = field

    def unchanged(self, *, size_bytes: int | None) -> bool:
        """See `Source.unchanged`."""
        return size_bytes == local_size(self._uris)

    @contextmanager
    def _opened(self, uri: str) -> Iterator[IO[bytes]]:
        with ExitStack() as stack:
            stream = stack.enter_context(open_input(uri, field=self._field))
            if local_path(uri) is None:
                stack.enter_context(translated(field=self._field, uri=uri))
            yield stream


class LineSource(_Files):
    """Plain text or JSON lines in files, local or by URI, compressed or not; an item is a line, over all files.

    The value of a line of text is the line without its end; of JSON lines it is the object, or its text in `column`.
    """

    def __init__(
        self, uris: Sequence[str], *, field: str, format: LineFormat = "text", column: str | None = None
    ) -> None:
        super().__init__(uris, field=field)
        self._format = format
        self._column = column

    def survey(self, *, skip: Skip | None = None, limit: int | None = None) -> Survey:
        """See `Source.survey`: every line is parsed, so that bad ones are known before work starts."""
        # Content and reading count, not where the files lie: a moved input is the same input.
        digest = hashlib.sha256(f"{self._format} {self._column or ''}\n".encode())
        survey = Survey(fingerprint="", items_total=None, size_bytes=local_size(self._uris))
        tally(survey, self._items(self._numbered(digest.update)), skip=skip, limit=limit)
        survey.fingerprint = f"sha256:{digest.hexdigest()}"
        return survey

    def read(self, *items: range) -> Iterator[Item]:
        """See `Source.read`."""
        return self._items(picked(self._numbered(None), items))

    def _numbered(self, seen: Callable[[bytes], object] | None) -> Iterator[tuple[int, str, int, bytes | None]]:
        item = 0
        for uri in self._uris:
            with self._opened(uri) as stream:
                lines = read_lines(
                    stream,
                    max_bytes=MAX_LINE_BYTES,
                    where=f"{self._field}: {redacted(uri)}",
                    seen=seen,
                    # JSON's own reader drops it, and its fingerprints have always had it.
                    drop_bom=self._format == "text",
                )
                for number, line in lines:
                    yield item, uri, number, line
                    item += 1

    def _items(self, lines: Iterator[tuple[int, str, int, bytes | None]]) -> Iterator[Item]:
        parse = self._parse_json if self._format == "jsonl" else self._parse_text
        for item, uri, number, line in lines:
            if line is None:
                failure = f"{_where(uri, number)}: the line is longer than {MAX_LINE_BYTES} bytes"
                yield Item(number=item, failure=failure)
            else:
                yield parse(item, uri, number, line)

    def _parse_json(self, item: int, uri: str, number: int, line: bytes) -> Item:
        if not line.strip():
            return Item(number=item, value={} if self._column is None else "")
        try:
            value = json.loads(line)
        except UnicodeDecodeError as error:
            why = f"{_where(uri, number)}: not UTF-8: byte {error.object[error.start]:#04x}"
            return Item(number=item, failure=why)
        except (ValueError, RecursionError) as error:
            return Item(number=item, failure=f"{_where(uri, number)}: not JSON: {error}")
        if not isinstance(value, dict):
            why = f"{_where(uri, number)}: not a JSON object but {type(value).__name__}"
            return Item(number=item, failure=why)
        if self._column is None:
            return Item(number=item, value=value)
        return text_item(
            value.get(self._column), where=_where(uri, number), number=item, column=self._column, columns=list(value)
        )

    def _parse_text(self, item: int, uri: str, number: int, line: bytes) -> Item:
        try:
            return Item(number=item, value=line.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError as error:
            return Item(number=item, failure=f"{_where(uri, number)}: not UTF-8: byte {line[error.start]:#04x}")


class CsvSource(_Files):
    """CSV files with a first line of column names; an item is a row, over all files, as column -> text."""

    def __init__(self, uris: Sequence[str], *, field: str, delimiter: str = ",") -> None:
        super().__init__(uris, field=field)
        self._delimiter = delimiter

    def survey(self, *, skip: Skip | None = None, limit: int | None = None) -> Survey:
        """See `Source.survey`: every row is parsed."""
        digest = hashlib.sha256(f"csv {self._delimiter}\n".encode())
        survey = Survey(fingerprint="", items_total=None, size_bytes=local_size(self._uris))
        tally(survey, _seen(self._items(), digest.update), skip=skip, limit=limit)
        survey.fingerprint = f"sha256:{digest.hexdigest()}"
        return survey

    def read(self, *items: range) -> Iterator[Item]:
        """See `Source.read`."""
        return picked(self._items(), items)

    def _items(self) -> Iterator[Item]:
        item = 0
        for uri in self._uris:
            with self._opened(uri) as stream:
                # A byte that isn't UTF-8 fails its row alone, and shows in it as half a surrogate pair.
                text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
                rows = csv.reader(text, delimiter=self._delimiter, strict=True)
                columns = self._columns(rows, uri)
                while (row := self._next(rows)) is not None:
                    if row != []:
                        yield self._item(item, row, columns=columns, where=_where(uri, rows.line_num))
                        item += 1
                text.detach()

    def _columns(self, rows: Iterator[list[str]], uri: str) -> list[str]:
        found = self._next(rows)
        if not isinstance(found, list) or len(set(found)) != len(found):
            raise BadInput(f"{self._field}: {redacted(uri)}: its first line must hold column names, each of them once")
        return found

    @staticmethod
    def _next(rows: Iterator[list[str]]) -> list[str] | str | None:
        try:
            return next(rows, None)
        except csv.Error as error:
            return f"not CSV: {error}"

    @staticmethod
    def _item(item: int, row: list[str] | str, *, columns: list[str], where: str) -> Item:
        if isinstance(row, str):
            return Item(number=item, failure=f"{where}: {row}")
        if len(row) != len(columns):
            return Item(number=item, failure=f"{where}: {len(row)} values for {len(columns)} columns")
        try:
            "".join(row).encode("utf-8")
        except UnicodeEncodeError:
            return Item(number=item, failure=f"{where}: not UTF-8")
        return Item(number=item, value=dict(zip(columns, row, strict=True)))


class WholeFileSource(_Files):
    """Files, each of them an item whose value is its content (bytes), decompressed by its ending."""

    def survey(self, *, skip: Skip | None = None, limit: int | None = None) -> Survey:
        """See `Source.survey`: every file is read."""
        digest = hashlib.sha256(b"files\n")
        survey = Survey(fingerprint="", items_total=None, size_bytes=local_size(self._uris))
        tally(survey, _seen(self.read(range(len(self._uris))), digest.update), skip=skip, limit=limit)
        survey.fingerprint = f"sha256:{digest.hexdigest()}"
        return survey

    def read(self, *items: range) -> Iterator[Item]:
        """See `Source.read`: no other files than these are opened."""
        for wanted in items:
            for number in wanted[: max(0, -(-(len(self._uris) - wanted.start) // wanted.step))]:
                yield self._item(number)

    def _item(self, number: int) -> Item:
        uri = self._uris[number]
        with self._opened(uri) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            name = redacted(uri).rsplit("/", 1)[-1]
            return Item(number=number, failure=f"{name}: the file is longer than {MAX_FILE_BYTES} bytes")
        return Item(number=number, value=content)


def _seen(items: Iterator[Item], tell: Callable[[bytes], object]) -> Iterator[Item]:
    for item in items:
        value = item.value if isinstance(item.value, bytes) else json.dumps(item.value, sort_keys=True).encode()
        tell(f"{item.failure} {len(value)}\n".encode("utf-8", "surrogatepass"))
        tell(value)
        yield item


def _where(uri: str, number: int) -> str:
    return f"{redacted(uri).rsplit('/', 1)[-1]} line {number}"
