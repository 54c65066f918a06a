"""Chunks as they come in, and what is wrong with them, said once for the service and for files.

Two kinds of wrong are kept apart. A value of another type than the interface has breaks the interface (the service
answers 422). A text that can be sent but not stored or embedded costs that one chunk, and the others go on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from shardwise.engine.errors import BadInput
from shardwise.engine.sources.lines import read_lines

from .codes import DOMAINS, MODIFIERS, TASKS, Codes

MAX_TEXT_BYTES = 1_000_000
"""A text must stay under this many bytes of UTF-8: what is longer is a document that nobody cut."""
MAX_LINE_BYTES = 8 * MAX_TEXT_BYTES
"""More than any chunk needs, escapes and metadata included; a longer line is passed over without being held."""
MAX_REQUEST_BYTES = 512 << 20
"""A request document is read whole, so it must be no longer, however small it is when compressed."""

MAX_DEPTH = 200
"""Lists and objects within each other in a field: what is to be written as JSON again may be no deeper than 255."""

_MOST_WRONGS = 3
_BLANKS = b" \t\r\n"
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


class Chunk(BaseModel):
    """A chunk of a request. Fields the interface does not name are ignored, as they always were."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: StrictStr = Field(min_length=1)
    source_document: StrictStr = "web_input"
    article_title: StrictStr | None = None
    article_index: StrictInt | None = None
    chunk_index: StrictInt = 0
    document_id: StrictStr | None = None
    metadata: dict[str, Any] | None = None
    parent_cpe_ids: list[StrictStr] | None = None
    """None when not given, which is not the same as an empty list: then the chunk is linked to its neighbours."""
    child_cpe_ids: list[StrictStr] | None = None
    domain_code: Annotated[StrictInt, Field(ge=0, lt=len(DOMAINS))] | None = None
    task_code: Annotated[StrictInt, Field(ge=0, lt=len(TASKS))] | None = None
    modifier_code: Annotated[StrictInt, Field(ge=0, lt=len(MODIFIERS))] | None = None

    @property
    def document(self) -> str:
        """What the chunk is a part of."""
        return self.document_id or self.source_document

    @property
    def codes(self) -> Codes | None:
        """The codes the sender gave; None unless all three are there."""
        if self.domain_code is None or self.task_code is None or self.modifier_code is None:
            return None
        return Codes(self.domain_code, self.task_code, self.modifier_code)


class RequestHead(BaseModel):
    """A request without its chunks."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    dataset_source: StrictStr = "user_input"
    batch_id: StrictStr | None = None
    skip_cpesh: StrictBool = False
    chunking_time_ms: float | None = None


class IngestRequest(RequestHead):
    """The body of `POST /ingest`."""

    chunks: list[Chunk] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadChunk:
    """A chunk that can't be ingested; it counts as a failed item."""

    reason: str
    """In one line, with the chunk's index and the field."""


def flaw(chunk: Chunk) -> str | None:
    """Return what keeps a well-formed chunk from being ingested, with the field's name; None when nothing does."""
    if not chunk.text.strip():
        return "text: is blank"
    for field, value in chunk:
        if (wrong := _unstorable(value)) is not None:
            return f"{field}: {wrong}"
    size = len(chunk.text.encode("utf-8"))
    if size >= MAX_TEXT_BYTES:
        return f"text: {size} bytes are too many for a chunk, which must stay under {MAX_TEXT_BYTES}"
    return None


def read_request(stream: IO[bytes], *, where: str = "request") -> Iterator[Chunk | BadChunk]:
    """Yield the chunks of a request document in order, a `BadChunk` for each that can't be ingested.

    Raises:
        BadInput: the document as a whole is no request; the message begins with `where`.
    """
    content = stream.read(MAX_REQUEST_BYTES + 1)
    if len(content) > MAX_REQUEST_BYTES:
        raise BadInput(f"{where}: longer than {MAX_REQUEST_BYTES} bytes, which a request is held in; use format: jsonl")
    _, chunks = parse_request(content, where=where)
    return iter(chunks)


def parse_request(content: bytes, *, where: str = "request") -> tuple[RequestHead, list[Chunk | BadChunk]]:
    """Return a request document's head and chunks. Raises as `read_request`."""
    try:
        document = _json(content)
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from error
    if not isinstance(document, dict):
        raise BadInput(f"{where}: not a JSON object but {_kind(document)}")
    try:
        head = RequestHead.model_validate(document)
    except ValidationError as error:
        raise BadInput(f"{where}: {_wrongs(error)}") from error
    chunks = document.get("chunks")
    if not isinstance(chunks, list):
        raise BadInput(f"{where}: chunks: a list is needed, found {_kind(chunks)}")
    if not chunks:
        raise BadInput(f"{where}: chunks: at least 1 is needed")
    return head, [_chunk(value, where=f"{where}: chunk {index}") for index, value in enumerate(chunks)]


def read_jsonl(stream: IO[bytes], *, where: str = "chunks") -> Iterator[Chunk | BadChunk]:
    """Yield a chunk, or a `BadChunk`, for each line that is not blank; memory stays bounded, whatever a line holds."""
    index = 0
    for number, line in read_lines(stream, max_bytes=MAX_LINE_BYTES, where=where):
        place = f"{where}: chunk {index} (line {number})"
        if line is None:
            yield BadChunk(reason=f"{place}: the line is longer than {MAX_LINE_BYTES} bytes")
        elif not line.strip(_BLANKS):
            continue
        else:
            try:
                value = _json(line)
            except ValueError as error:
                yield BadChunk(reason=f"{place}: {error}")
            else:
                yield _chunk(value, where=place)
        index += 1


def _json(content: bytes) -> Any:
    """Return the value; raises ValueError with a line that says what is wrong."""
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte {content[error.start]:#04x} at {error.start}") from error
    except RecursionError as error:
        raise ValueError("not JSON: nested too deep") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    # Python reads NaN and Infinity, no database's JSON does.
    raise ValueError(f"{name} is no JSON number")


def _chunk(value: object, *, where: str) -> Chunk | BadChunk:
    if not isinstance(value, dict):
        return BadChunk(reason=f"{where}: not a JSON object but {_kind(value)}")
    # Before the model sees it: its own words for half a surrogate pair don't say what to do.
    for field in Chunk.model_fields.keys() & value.keys():
        if (wrong := _unstorable(value[field])) is not None:
            return BadChunk(reason=f"{where}: {field}: {wrong}")
    try:
        chunk = Chunk.model_validate(value)
    except ValidationError as error:
        return BadChunk(reason=f"{where}: {_wrongs(error)}")
    wrong = flaw(chunk)
    return chunk if wrong is None else BadChunk(reason=f"{where}: {wrong}")


def _unstorable(value: object) -> str | None:
    # With a stack of its own: what the parser lets through may be nested deeper than calls can be.
    waiting = [(value, 0)]
    while waiting:
        inner, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"is nested too deep: lists and objects within each other may be {MAX_DEPTH}"
        match inner:
            case str(text):
                if "\x00" in text:
                    return f"holds a NUL character at {text.index(chr(0))}, which databases refuse"
                if not text.isascii() and (half := _HALF_A_PAIR.search(text)):
                    return f"holds half a surrogate pair at {half.start()}, which is not UTF-8"
            case float(number) if not math.isfinite(number):
                return "holds a number that is too big for a float"
            case dict(members):
                waiting += [(member, depth + 1) for member in (*members.keys(), *members.values())]
            case list(members):
                waiting += [(member, depth + 1) for member in members]
    return None


def _wrongs(error: ValidationError) -> str:
    wrongs = error.errors(include_url=False, include_input=False, include_context=False)
    said = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrongs[:_MOST_WRONGS]]
    if len(wrongs) > _MOST_WRONGS:
        said.append(f"and {len(wrongs) - _MOST_WRONGS} more")
    return "; ".join(said)


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
