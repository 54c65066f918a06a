"""The input as numbered items: item i is the same chunk, with the same id and links, in every attempt and shard.

Links lead to neighbours that other shards work on, and of chunks that are one row only one may be written, whichever
shard comes first. So every worker looks through the whole input once, and keeps ids and links of all of it. It is read
again for the texts, and may be another one by then: what is not what was seen before is never handed out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import IO
from uuid import UUID

from shardwise.engine.errors import BadInput
from shardwise.engine.files import local_path, local_size, open_input
from shardwise.engine.remote import translated
from shardwise_api.ingest import Dedup, SourceFiles, SourceFormat
from shardwise_api.uris import redacted

from . import identifiers
from .chunk import BadChunk, Chunk, read_jsonl, read_request
from .identifiers import Links, Place, linked, links_of

FIELD = "spec.source.files.uris"
MAX_LISTED = 10
_MARK_BYTES = 8
"""Of an item's mark: enough to tell what was edited from what was not, and little beside its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One item with all that follows from the input alone."""

    item: int
    chunk: Chunk | None = None
    """None when it can't be ingested."""
    failure: str | None = None
    """Why not."""
    cpe_id: UUID | None = None
    links: Links = field(default_factory=Links)
    duplicate: bool = False
    """Another item of this input makes the same row, and is the one to write it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a full pass over the input found."""

    fingerprint: str
    items_total: int
    failed: int
    duplicates: int
    failures: tuple[tuple[int, str], ...]
    """The first few failed items: (item, reason)."""
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """An item that another one of this input writes the row of."""

    item: int
    writer: int
    """The item that does."""
    cpe_id: UUID


class InputChanged(BadInput):
    """The input is another one than `prepare` has seen."""

    def __init__(self) -> None:
        super().__init__(
            f"{FIELD}: the input has changed since this run was prepared; put it back as it was and start the run "
            "again, or give it another metadata.name to ingest it as it is now"
        )


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What a pass over the whole input leaves, by item."""

    places: list[Place | None] = field(default_factory=list)
    """None: a chunk that can't be ingested."""
    writers: dict[UUID, int] = field(default_factory=dict)
    """Which item writes a row."""
    marks: list[bytes] = field(default_factory=list)
    """Of the items that will be read again, in order."""


class ChunkFiles:
    """Files of chunks, read in order; items are counted over all of them."""

    def __init__(self, files: SourceFiles, *, dataset: str, dedup: Dedup) -> None:
        self._uris = list(files.uris)
        self._read = read_request if files.format is SourceFormat.REQUEST else read_jsonl
        self._dataset = dataset
        self._dedup = dedup

    def survey(self) -> Survey:
        """Look through the input once, before any work.

        Raises:
            BadConfiguration: a file can't be opened.
            BadInput: a file as a whole is not what it should be, or there is no chunk at all.
            Unavailable: a file's place can't be reached.
        """
        digest = hashlib.sha256()
        total = failed = 0
        failures: list[tuple[int, str]] = []
        seen: set[UUID] = set()
        for item, chunk in enumerate(self._chunks()):
            total += 1
            digest.update(_line(chunk))
            if isinstance(chunk, BadChunk):
                failed += 1
                failures += [(item, chunk.reason)] if len(failures) < MAX_LISTED else []
            else:
                seen.add(self._id(chunk))
        if total == failed:
            first = f"; first: {failures[0][1]}" if failures else ""
            raise BadInput(f"{FIELD}: no chunk that can be ingested ({total} found{first})")
        return Survey(
            fingerprint=_fingerprint(digest),
            items_total=total,
            failed=failed,
            duplicates=total - failed - len(seen),
            failures=tuple(failures),
            size_bytes=local_size(self._uris),
        )

    def unchanged(self, *, size_bytes: int | None) -> bool:
        """Say, without reading it, whether the input still looks as it did at the survey; `entries` looks closer."""
        return size_bytes == local_size(self._uris)

    def entries(self, items: range, *, fingerprint: str | None = None) -> Iterator[Entry]:
        """Yield the entries of `items`, which has a positive step, in order.

        `fingerprint` is the survey's, None where there was none. Raises as `survey`, and

        Raises:
            InputChanged: before the first entry, or before the one that is not what it was a moment ago.
        """
        seen = self._seen(fingerprint=fingerprint, marked=items)
        if len(seen.marks) < len(items):
            raise InputChanged
        ids = [None if place is None else place.cpe_id for place in seen.places]
        links = links_of(seen.places)
        seen.places.clear()
        marks = iter(seen.marks)
        number = 0
        for item, chunk in islice(enumerate(self._chunks()), items.start, items.stop, items.step):
            number += 1
            if _mark(_line(chunk)) != next(marks):
                raise InputChanged
            if isinstance(chunk, BadChunk):
                yield Entry(item=item, failure=chunk.reason)
                continue
            own_id = ids[item]
            assert own_id is not None
            yield Entry(
                item=item,
                chunk=chunk,
                cpe_id=own_id,
                links=linked(chunk, links[item]),
                duplicate=seen.writers[own_id] != item,
            )
        if number < len(items):
            raise InputChanged

    def duplicates(self, *, fingerprint: str) -> Iterator[Duplicate]:
        """Yield the items that write no row, since another one does, in order. Raises as `entries`."""
        seen = self._seen(fingerprint=fingerprint)
        for item, place in enumerate(seen.places):
            if place is not None and seen.writers[place.cpe_id] != item:
                yield Duplicate(item=item, writer=seen.writers[place.cpe_id], cpe_id=place.cpe_id)

    def _seen(self, *, fingerprint: str | None, marked: range = range(0)) -> _Seen:
        """Look through the whole input; `marked` items will be read again."""
        seen = _Seen()
        digest = hashlib.sha256()
        given: set[UUID] = set()
        for item, chunk in enumerate(self._chunks()):
            line = _line(chunk)
            digest.update(line)
            if item in marked:
                seen.marks.append(_mark(line))
            if isinstance(chunk, BadChunk):
                seen.places.append(None)
                continue
            own = self._id(chunk)
            seen.places.append(Place(document=chunk.document, chunk_index=chunk.chunk_index, cpe_id=own))
            # One that brings its codes can't fail for want of them.
            if own not in seen.writers or (chunk.codes is not None and own not in given):
                seen.writers[own] = item
            if chunk.codes is not None:
                given.add(own)
        if fingerprint not in (None, _fingerprint(digest)):
            raise InputChanged
        return seen

    def _id(self, chunk: Chunk) -> UUID:
        return identifiers.cpe_id(
            dataset_source=self._dataset,
            document=chunk.document,
            chunk_index=chunk.chunk_index,
            text=chunk.text,
            dedup=self._dedup,
        )

    def _chunks(self) -> Iterator[Chunk | BadChunk]:
        for uri in self._uris:
            with open_input(uri, field=FIELD) as stream, _explained(uri):
                yield from self._parsed(stream, uri)

    def _parsed(self, stream: IO[bytes], uri: str) -> Iterator[Chunk | BadChunk]:
        # A URI's query may hold a signature.
        name = redacted(uri).rsplit("/", 1)[-1]
        try:
            yield from self._read(stream, where=name)
        except BadInput as error:
            raise BadInput(f"{FIELD}: {error}") from error


def _line(chunk: Chunk | BadChunk) -> bytes:
    # What is read counts, not where it lies nor how it is written down: a moved input is the same input.
    return b"bad\n" if isinstance(chunk, BadChunk) else chunk.model_dump_json().encode() + b"\n"


def _mark(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=_MARK_BYTES).digest()


def _fingerprint(digest: hashlib._Hash) -> str:
    return f"sha256:{digest.hexdigest()}"


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    if local_path(uri) is not None:
        yield
        return
    with translated(field=FIELD, uri=uri):
        yield
