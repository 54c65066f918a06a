"""Lines of a stream of text: none is held beyond a limit, and what isn't UTF-8 as a whole is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO

from shardwise.engine.errors import BadInput

BOM = b"\xef\xbb\xbf"
"""A mark at the begin of a UTF-8 file, which is no part of its text."""
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LOOKED_AT = 1024
_PIECE = 1 << 20


def read_lines(
    stream: IO[bytes],
    *,
    max_bytes: int,
    where: str,
    seen: Callable[[bytes], object] | None = None,
    drop_bom: bool = False,
) -> Iterator[tuple[int, bytes | None]]:
    """Yield (number from 1, line with its end); None for a line of more than `max_bytes`, which is never held.

    `seen` gets every byte, and the end of a last line that has none: as the same line it is the same input.

    Raises:
        BadInput: the stream is UTF-16 or UTF-32; the message begins with `where`.
    """
    number = 0
    while line := stream.readline(max_bytes + 1):
        number += 1
        if number == 1:
            _require_utf8(line, where=where)
            if drop_bom:
                line = line.removeprefix(BOM)
        if seen is not None:
            seen(line)
        if len(line) <= max_bytes:
            if seen is not None and not line.endswith(b"\n"):
                seen(b"\n")
            yield number, line
            continue
        while not line.endswith(b"\n") and (line := stream.readline(_PIECE)):
            if seen is not None:
                seen(line)
        if seen is not None and not line.endswith(b"\n"):
            seen(b"\n")
        yield number, None


def _require_utf8(begin: bytes, *, where: str) -> None:
    looked_at = begin[:_LOOKED_AT]
    # Without a mark, UTF-16 of Latin text is valid UTF-8: every other byte of it is a NUL.
    if looked_at.startswith(_UTF16_MARKS) or looked_at.count(b"\0") * 3 > len(looked_at):
        raise BadInput(f"{where}: the text is UTF-16 or UTF-32, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8")
