"""The operator's servers: a crowd that sends nothing, or endlessly, keeps no probe and no report out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from shardwise_api.http_guard import HttpLimits
from shardwise_operator.shell.health import Health
from shardwise_operator.shell.http_server import serve

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def told(
    application: web.Application, story: Callable[[str, int], Awaitable[None]], host: str = "127.0.0.1", **limits: Any
) -> None:
    async def run() -> None:
        runner = await serve(application, name="test", host=host, port=0, limits=HttpLimits(**limits))
        try:
            async with asyncio.timeout(60):
                await story("127.0.0.1", runner.addresses[0][1])
        finally:
            await runner.cleanup()

    asyncio.run(run())


@asynccontextmanager
async def crowd(port: int, *, count: int, sent: bytes) -> AsyncIterator[list[Streams]]:
    """Open connections that each send something, and leave it at that."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        for _, writer in opened:
            writer.write(sent)
        yield opened
    finally:
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)


async def _status(port: int, path: str = "/healthz", **options: Any) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}", **options) as answer:
        await answer.read()
        return answer.status


def test_half_open_connections_keep_no_probe_out() -> None:
    half = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-A: aaa"

    async def story(host: str, port: int) -> None:
        async with crowd(port, count=60, sent=half) as opened:
            assert await _status(port) == 200
            with suppress(ConnectionError):
                # The first had to go, and the last is answered once it has sent the rest.
                assert await opened[0][0].read() == b""
            opened[-1][1].write(b"\r\n\r\n")
            assert (await opened[-1][0].read()).startswith(b"HTTP/1.1 200")

    told(Health().application(), story, connections=50, connections_per_peer=40)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nX: ", b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"]
)
def test_whoever_waits_for_a_sender_makes_room_also_within_a_body(sent: bytes) -> None:
    async def slow(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    application = Health().application()
    application.router.add_post("/slow", slow)

    async def story(host: str, port: int) -> None:
        async with crowd(port, count=10, sent=sent):
            for _ in range(3):
                assert await _status(port) == 200

    told(application, story, connections=5)


def test_headers_end() -> None:
    async def story(host: str, port: int) -> None:
        async with crowd(port, count=1, sent=b"GET /healthz HTTP/1.1\r\n") as [(reader, _)]:
            with suppress(ConnectionError):
                assert await reader.read() == b""

    told(Health().application(), story, header_seconds=0.05)


def test_a_client_that_keeps_its_connection_is_answered_on_it() -> None:
    async def story(host: str, port: int) -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                    assert answer.status == 200

    told(Health().application(), story, connections=1)


def test_names_are_checked_where_they_are_set_and_probes_come_by_address() -> None:
    async def story(host: str, port: int) -> None:
        assert await _status(port) == 200
        for name, status in (("operator.svc", 200), ("10.9.8.7", 200), ("evil.example", 421)):
            assert await _status(port, headers={"Host": name}) == status

    told(Health().application(), story, host="0.0.0.0", hosts=("operator.svc",))


def test_a_local_server_answers_to_local_names_alone() -> None:
    async def story(host: str, port: int) -> None:
        assert await _status(port, headers={"Host": "evil.example"}) == 421

    told(Health().application(), story)
