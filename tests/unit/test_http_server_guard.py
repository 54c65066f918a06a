"""What our ASGI applications are handed on: requests that are whole, not too large, and not too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
from starlette.types import Receive, Scope, Send

from shardwise_api.http_guard import ConnectionGuard, HttpLimits
from shardwise_jobs.services.guard import Guard


class App:
    """Answers with what it was sent; `/held` waits to be released."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.held = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.bodies.append(message["body"])
        if scope["path"] == "/held":
            self.held.set()
            await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})


def told(story: Callable[[httpx.AsyncClient, App], Awaitable[None]], *, loopback: bool = False, **limits: Any) -> None:
    async def run() -> None:
        app = App()
        guard = Guard(app, connections=ConnectionGuard(HttpLimits(**limits), name="test"), loopback=loopback)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://test") as http:
            await story(http, app)
        # Nothing is held that has ended.
        assert (guard._at_work, guard._held_bytes, guard._held_of_peer) == (0, 0, {})

    asyncio.run(run())


def at(address: str, http: httpx.AsyncClient) -> httpx.AsyncClient:
    """Return a client of the same guard at another address."""
    transport = http._transport
    assert isinstance(transport, httpx.ASGITransport)
    return httpx.AsyncClient(transport=httpx.ASGITransport(transport.app, client=(address, 1)), base_url="http://test")


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def test_a_body_in_pieces_comes_in_one() -> None:
    async def story(http: httpx.AsyncClient, app: App) -> None:
        assert (await http.post("/", content=_pieces(b"[1", b",2]"))).content == b"[1,2]"

    told(story)


def test_a_body_has_a_size_whether_it_says_so_or_not() -> None:
    async def story(http: httpx.AsyncClient, app: App) -> None:
        assert (await http.post("/", content=b"x" * 10)).status_code == 200
        for content in (b"x" * 11, _pieces(b"x" * 6, b"x" * 6)):
            refused = await http.post("/", content=content)
            assert (refused.status_code, refused.headers["connection"]) == (413, "close")
            assert refused.json()["detail"] == "The body is longer than 10 bytes; send less at once"
        assert len(app.bodies) == 1

    told(story, body_bytes=10)


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async def story(http: httpx.AsyncClient, app: App) -> None:
        assert (await http.post("/", content=never())).status_code == 408
        assert app.bodies == []

    told(story, body_seconds=0.05)


def test_bodies_have_a_size_together() -> None:
    async def story(http: httpx.AsyncClient, app: App) -> None:
        held = [asyncio.create_task(http.post("/held", content=b"x" * 10)) for _ in range(3)]
        while len(app.bodies) < 3:
            await asyncio.sleep(0)
        # One address leaves room for a body of another's.
        assert (await http.post("/", content=b"x" * 10)).status_code == 503
        async with at("10.0.0.2", http) as other:
            assert (await other.post("/", content=b"x" * 10)).status_code == 200
            held.append(asyncio.create_task(other.post("/held", content=b"x" * 10)))
            while len(app.bodies) < 5:
                await asyncio.sleep(0)
            assert (await other.post("/", content=b"x")).status_code == 503
            app.release.set()
            await asyncio.gather(*held)
        app.release.set()
        assert {(await each).status_code for each in held} == {200}
        assert (await http.post("/", content=b"x" * 10)).status_code == 200

    told(story, body_bytes=10)


def test_what_is_nested_too_deep_or_holds_too_much_is_not_parsed() -> None:
    async def story(http: httpx.AsyncClient, app: App) -> None:
        for content in (b"[[[[1]]]]", b"[1,2,3,4,5,6,7,8,9]"):
            refused = await http.post("/", content=content)
            assert refused.status_code == 422
            assert "the body" in refused.json()["detail"][0]["msg"]
        assert app.bodies == []

    told(story, depth=3, values=8)


def test_beyond_the_requests_at_work_the_answer_is_503_but_for_health() -> None:
    async def story(http: httpx.AsyncClient, app: App) -> None:
        held = asyncio.create_task(http.post("/held"))
        await app.held.wait()
        refused = await http.post("/")
        assert (refused.status_code, refused.text) == (503, "Service Unavailable")
        assert (await http.get("/health")).status_code == 200
        app.release.set()
        await held
        assert (await http.post("/")).status_code == 200

    told(story, requests=1)


def test_another_name_is_refused_before_anything_is_read() -> None:
    async def story(http: httpx.AsyncClient, app: App) -> None:
        refused = await http.post("/", content=b"{}", headers={"host": "evil.example"})
        assert refused.status_code == 421
        assert "SHARDWISE_HTTP_HOSTS" in refused.json()["detail"]
        assert (await http.post("/", headers={"host": "localhost:1"})).status_code == 200
        assert app.bodies == [b""]

    told(story, loopback=True)
