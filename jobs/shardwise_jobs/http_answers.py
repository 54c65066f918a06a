"""What an answer over HTTP may cost us: a size once it is decompressed, and one time for the whole call.

A client library's own limits begin anew with each piece that comes, so a server that drips is never late for it; and it
decompresses whatever a server sends, a thousandfold if need be.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

ACCEPTED = {"accept-encoding": "identity"}
"""What requests say: nothing compressed is asked for. What a gateway compresses all the same is bounded below."""
_ZLIB = {"": None, "identity": None, "gzip": 31, "x-gzip": 31, "deflate": 47}
_PIECE = 1 << 16


class UnusableBody(ValueError):
    """An answer's body is too long, or compressed in a way that nobody asked for."""


class Body:
    """Collects an answer's body, decompressed, up to a size."""

    def __init__(self, response: httpx.Response, *, most_bytes: int) -> None:
        """Prepare.

        Raises:
            UnusableBody: it is compressed by other means than gzip and deflate.
        """
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ZLIB:
            raise UnusableBody(f"the answer is compressed ({encoding[:40]}), which was not asked for")
        kind = _ZLIB[encoding]
        self._unpack = None if kind is None else zlib.decompressobj(wbits=kind)
        self._most = most_bytes
        self._content = bytearray()

    def add(self, piece: bytes) -> None:
        """Take a piece as it came over the line.

        Raises:
            UnusableBody: it is no such compression, or the body gets too long.
        """
        for plain in self._unpacked(piece):
            self._content += plain
            if len(self._content) > self._most:
                raise UnusableBody(f"the answer is longer than {self._most} bytes")

    def _unpacked(self, piece: bytes) -> Iterator[bytes]:
        if self._unpack is None:
            yield piece
            return
        try:
            while piece and not self._unpack.eof:
                yield self._unpack.decompress(piece, _PIECE)
                piece = self._unpack.unconsumed_tail
        except zlib.error as error:
            raise UnusableBody(f"the answer is neither gzip nor deflate: {error}") from error

    def whole(self) -> bytes:
        """Return the body.

        Raises:
            UnusableBody: what is compressed breaks off.
        """
        if self._unpack is not None and not self._unpack.eof and self._content:
            raise UnusableBody("the compressed answer breaks off")
        return bytes(self._content)


def content_of(response: httpx.Response, *, most_bytes: int) -> bytes:
    """Return the body of a streamed answer, decompressed. Raises UnusableBody as `Body`, and what httpx raises."""
    body = Body(response, most_bytes=most_bytes)
    for piece in response.iter_raw():
        body.add(piece)
    return body.whole()


def lines_of(pieces: Iterable[bytes], *, most_bytes: int) -> Iterator[str]:
    """Yield the lines of a text that comes in pieces, each of which is at most so long; bytes that are no UTF-8 show.

    Raises:
        UnusableBody: a line is longer.
    """
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")
        if len(rest) > most_bytes:
            raise UnusableBody(f"a line of the answer is longer than {most_bytes} bytes")
    if rest:
        yield rest.decode("utf-8", "replace").rstrip("\r")


class CallDeadline:
    """One time for all of a call of a synchronous client, from its first byte to the last; per thread."""

    def __init__(self, client: httpx.Client) -> None:
        """Have every read and write of this client's connections keep to it."""
        self._calls = threading.local()
        for transport in (client._transport, *client._mounts.values()):
            pool: Any = getattr(transport, "_pool", None)
            if pool is not None:
                # httpx hands no backend on to its pool, which would take one.
                pool._network_backend = _Backend(pool._network_backend, self)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Let what is called in here take so long; what takes longer ends with httpx's own error for a timeout."""
        before = getattr(self._calls, "end", None)
        self.renew(seconds)
        try:
            yield
        finally:
            self._calls.end = before

    def renew(self, seconds: float) -> None:
        """Give this thread's call so much time from now on."""
        self._calls.end = time.monotonic() + seconds

    def left(self, timeout: float | None, error: type[Exception]) -> float | None:
        """Return the seconds that a step may take, which would take `timeout`; raise `error` when there are none."""
        end: float | None = getattr(self._calls, "end", None)
        if end is None:
            return timeout
        left = end - time.monotonic()
        if left <= 0:
            raise error("the time for the whole call is over")
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    """A connection that keeps to a deadline."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: CallDeadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, *arguments: Any, **named: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(*arguments, **named), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Connects so."""

    def __init__(self, inner: httpcore.NetworkBackend, deadline: CallDeadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        made = self._inner.connect_tcp(host, port, left, local_address=local_address, socket_options=socket_options)
        return _Stream(made, self._deadline)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
