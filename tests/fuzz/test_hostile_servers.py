"""Whatever a server answers, each client of ours gives an answer or one of our own errors, soon and within bounds."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.engine import progress_http
from shardwise.engine.errors import WorkError
from shardwise.engine.progress_http import HttpSink
from shardwise_jobs.engines.ingest.tmd.ollama_wire import OllamaWire
from shardwise_jobs.engines.ingest.tmd.parser import UnusableAnswer
from shardwise_jobs.engines.kato.http import HttpClient
from shardwise_jobs.http_answers import Body, UnusableBody, lines_of
from tests.support.examples import examples

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Answer = Callable[[socket.socket], None]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """Serve each connection the same on loopback; it ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError):
                        connection.recv(1 << 16)
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def kato(url: str) -> object:
    wire = HttpClient(base_url=url, timeout_seconds=1, max_attempts=1)
    try:
        return wire.call("GET", "/status", repeatable=True)
    finally:
        wire.close()


def kato_lines(url: str) -> object:
    wire = HttpClient(base_url=url, timeout_seconds=1, max_attempts=1)
    try:
        return list(wire.lines("/patterns"))
    finally:
        wire.close()


def ollama(url: str) -> object:
    async def ask() -> object:
        wire = OllamaWire(endpoint=url, timeout_seconds=1, connections=1)
        try:
            return await wire.models()
        finally:
            await wire.close()

    return asyncio.run(ask())


CLIENTS = {"kato": kato, "kato lines": kato_lines, "ollama": ollama}
every_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


def judged(client: Callable[[str], object], answer: Answer) -> str:
    """Ask the server once; return what was said of its answer."""
    with server(answer) as url:
        try:
            client(url)
        except (WorkError, UnusableAnswer) as error:
            return str(error)
    return "well"


@every_client
def test_any_bytes(client: Callable[[str], object]) -> None:
    heads = st.sampled_from(
        [b"", HEAD + b"\r\n", HEAD + b"Content-Encoding: gzip\r\n\r\n", HEAD + b"Content-Length: 9\r\n\r\n"]
    )
    bodies = st.binary(max_size=40) | st.sampled_from(
        [
            b"{}",
            b'{"a": NaN}',
            b"[" * 100_000,
            b'"\\ud800"',
            b'{"models": 1}',
            b'{"models": [{"name": 1}]}',
            b"1" * 6000,
        ]
    )

    @given(head=heads, body=bodies)
    @examples(25)
    def answered(head: bytes, body: bytes) -> None:
        assert judged(client, lambda connection: connection.sendall(head + body))

    answered()


def endless(connection: socket.socket) -> None:
    connection.sendall(HEAD + b'\r\n{"a": "')
    for _ in range(200):
        connection.sendall(b"a" * (1 << 20))


def packed() -> bytes:
    """Return 200 MiB in less than one."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()


PACKED = packed()


def bomb(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED)


@every_client
@pytest.mark.parametrize("answer", [endless, bomb])
def test_an_answer_without_end_is_not_held(client: Callable[[str], object], answer: Answer) -> None:
    tracemalloc.start()
    try:
        assert judged(client, answer) != "well"
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
    finally:
        tracemalloc.stop()


@every_client
def test_a_server_that_drips_is_late(client: Callable[[str], object]) -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        while not stop.wait(0.2):
            connection.sendall(b" ")

    started = time.monotonic()
    try:
        assert judged(client, drip) != "well"
    finally:
        stop.set()
    # For ever, were each byte in time by itself.
    assert time.monotonic() - started < 60


def test_a_receiver_of_progress_that_drips_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_http, "_WHOLE_CALL_SECONDS", 0.5)
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.1):
            connection.sendall(b"X-A: 1\r\n")

    with server(drip) as url:
        try:
            # It returns: what came of an answer until then may well be one.
            with suppress(OSError, HTTPException):
                HttpSink(url=url, token_file=None)._answered(b"{}")
        finally:
            stop.set()


@given(
    content=st.binary(max_size=300),
    cuts=st.lists(st.integers(min_value=1, max_value=40), max_size=20),
    kind=st.sampled_from(["", "gzip", "deflate"]),
)
@examples(60)
def test_a_body_is_what_was_sent_however_it_comes(content: bytes, cuts: list[int], kind: str) -> None:
    packed = {"": content, "gzip": gzip.compress(content), "deflate": zlib.compress(content)}[kind]
    headers = {"content-encoding": kind} if kind else {}
    body = Body(httpx.Response(200, headers=headers), most_bytes=300)
    for size in cuts:
        body.add(packed[:size])
        packed = packed[size:]
    body.add(packed)
    assert body.whole() == content


def test_lines_are_bounded() -> None:
    assert list(lines_of([b"a\nb", b"c\r\n\xff"], most_bytes=3)) == ["a", "bc", "\ufffd"]
    with pytest.raises(UnusableBody, match="longer than 3 bytes"):
        list(lines_of([b"abcd", b"e\n"], most_bytes=3))
