"""The guard of our HTTP services: who sends nothing keeps nobody out, and too much is known before it is parsed."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.http_guard import PREFIX, ConnectionGuard, HttpLimits, LogThrottle, is_loopback, json_flaw

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answering(asyncio.Protocol):
    """Answers a line with a line; `hold` begins a request that does not end."""

    def __init__(self, guard: ConnectionGuard) -> None:
        self._guard = guard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        connection = self._guard.find(self._transport.get_extra_info("peername"))
        assert connection is not None
        if data == b"hold\n":
            self._held = connection.request()
            self._held.__enter__()
            connection.works()
        elif data == b"flood\n":
            self._transport.write(b"x" * (64 << 20))
        elif data.endswith(b"\n"):
            with connection.request():
                connection.works()
        else:
            return
        self._transport.write(b"done\n")


class Place:
    """A guarded server, and clients of it."""

    def __init__(self, limits: HttpLimits) -> None:
        self.guard = ConnectionGuard(limits, name="test")
        self._opened: list[Streams] = []
        self._port = 0

    async def open(self, sent: bytes) -> Streams:
        streams = await asyncio.open_connection("127.0.0.1", self._port)
        self._opened.append(streams)
        streams[1].write(sent)
        return streams

    async def run(self, story: Callable[[Place], Awaitable[None]]) -> None:
        factory = self.guard.wrapping(lambda: Answering(self.guard))
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(30):
                await story(self)
        finally:
            server.close()
            for _, writer in self._opened:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
            async with asyncio.timeout(30):
                while len(self.guard):
                    await asyncio.sleep(0.01)


def told(story: Callable[[Place], Awaitable[None]], **limits: Any) -> None:
    asyncio.run(Place(HttpLimits(**limits)).run(story))


async def ended(streams: Streams) -> bool:
    """Wait for the end of a connection."""
    with suppress(ConnectionError):
        return await streams[0].read() == b""
    return True


async def answered(streams: Streams) -> bool:
    return await streams[0].readline() == b"done\n"


class TestConnections:
    @pytest.mark.parametrize("limits", [{"connections": 3}, {"connections_per_peer": 3}])
    def test_the_one_that_has_waited_longest_for_its_sender_makes_room(self, limits: dict[str, int]) -> None:
        async def story(place: Place) -> None:
            half_open = [await place.open(b"GET") for _ in range(3)]
            assert await answered(await place.open(b"GET\n"))
            assert await ended(half_open[0])
            half_open[2][1].write(b"\n")
            assert await answered(half_open[2])

        told(story, **limits)

    def test_one_that_is_worked_for_stays_and_who_comes_is_refused(self) -> None:
        async def story(place: Place) -> None:
            held = [await place.open(b"hold\n") for _ in range(2)]
            assert [await answered(each) for each in held] == [True, True]
            assert await ended(await place.open(b"GET\n"))
            held[0][1].write(b"GET\n")
            assert await answered(held[0])

        told(story, connections=2)

    def test_no_server_takes_all_files_of_its_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (6, 6))

        async def story(place: Place) -> None:
            first, second = await place.open(b"GET"), await place.open(b"GET")
            assert await answered(await place.open(b"GET\n"))
            assert await ended(first)
            second[1].write(b"\n")

        told(story, connections=512)

    def test_headers_that_do_not_come_are_not_waited_for(self) -> None:
        async def story(place: Place) -> None:
            assert await ended(await place.open(b"GET"))
            assert await ended(await place.open(b""))

        told(story, header_seconds=0.05)

    def test_an_idle_connection_ends_too_and_one_that_is_worked_for_does_not(self) -> None:
        async def story(place: Place) -> None:
            held, idle = await place.open(b"hold\n"), await place.open(b"GET\n")
            assert await answered(held)
            assert await answered(idle)
            assert await ended(idle)
            held[1].write(b"GET\n")
            assert await answered(held)

        told(story, header_seconds=0.05)

    def test_headers_without_end_end(self) -> None:
        async def story(place: Place) -> None:
            streams = await place.open(b"GET")
            with suppress(ConnectionError):
                while not streams[0].at_eof():
                    streams[1].write(b"X" * 1000)
                    await streams[1].drain()
                    await asyncio.sleep(0)
            assert await ended(streams)

        told(story, header_bytes=10_000)

    def test_who_does_not_read_is_not_waited_for(self) -> None:
        async def story(place: Place) -> None:
            await place.open(b"flood\n")
            while not len(place.guard):
                await asyncio.sleep(0.01)
            while len(place.guard):
                await asyncio.sleep(0.01)

        told(story, write_seconds=0.05)

    def test_the_log_tells_of_many_at_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async def story(place: Place) -> None:
            for _ in range(50):
                await place.open(b"GET")
            assert await answered(await place.open(b"GET\n"))

        told(story, connections=2)
        assert len(caplog.records) == 1


class TestHosts:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST.", "localhost:8000", "127.0.0.1", "127.1.2.3:80", "[::1]:1"]
    )
    def test_a_local_server_answers_to_local_names(self, host: str) -> None:
        assert HttpLimits().answers_to(host, loopback=True)
        assert HttpLimits(hosts=("other",)).answers_to(host, loopback=True)

    @pytest.mark.parametrize(
        "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "a:b:c"]
    )
    def test_and_to_no_other(self, host: str) -> None:
        assert not HttpLimits().answers_to(host, loopback=True)

    def test_a_server_for_others_answers_to_every_name_unless_told(self) -> None:
        limits = HttpLimits.from_environment({"SHARDWISE_HTTP_HOSTS": "kato, Kato.Team.svc:8000"})
        assert HttpLimits().answers_to("whatever", loopback=False)
        assert [
            limits.answers_to(host, loopback=False) for host in ("kato:8000", "KATO.team.svc", "10.1.2.3:8000")
        ] == ([True] * 3)
        assert not limits.answers_to("evil.example", loopback=False)

    def test_who_names_none_is_no_browser(self) -> None:
        assert HttpLimits().answers_to(None, loopback=True)

    @pytest.mark.parametrize(
        ("address", "local"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), (None, False)]
    )
    def test_where_a_server_listens(self, address: str | None, local: bool) -> None:
        assert is_loopback(address) is local


class TestSettings:
    def test_every_limit_has_a_variable(self) -> None:
        variables = {PREFIX + field.name.upper(): "7" for field in fields(HttpLimits)}
        limits = HttpLimits.from_environment(variables, body_bytes=1)
        assert {getattr(limits, field.name) for field in fields(HttpLimits)} == {7, ("7",)}

    def test_defaults_count_where_there_is_none(self) -> None:
        assert HttpLimits.from_environment({"SHARDWISE_HTTP_DEPTH": ""}, depth=3) == HttpLimits(depth=3)

    @pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "1e999", str(2**63), "nan"])
    def test_what_is_no_number_is_named(self, value: str) -> None:
        with pytest.raises(ValueError, match="SHARDWISE_HTTP_CONNECTIONS="):
            HttpLimits.from_environment({"SHARDWISE_HTTP_CONNECTIONS": value})


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _values(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_values, value.values()))
    return 1 + sum(map(_values, value)) if isinstance(value, list) else 1


_JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{},"\\aé', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[{"\\', max_size=3), inner, max_size=4),
    max_leaves=30,
)


class TestJson:
    @given(_JSON, st.integers(1, 6))
    def test_the_depth_is_that_of_the_parsed(self, value: object, most: int) -> None:
        flaw = json_flaw(json.dumps(value).encode(), limits=HttpLimits(depth=most))
        assert (flaw is not None) == (_depth(value) > most)

    @given(_JSON, st.integers(1, 20))
    def test_a_body_within_its_number_of_values_is_never_refused(self, value: object, most: int) -> None:
        flaw = json_flaw(json.dumps(value).encode(), limits=HttpLimits(values=most))
        assert flaw is None or _values(value) > most // 2

    @given(st.binary(max_size=60))
    def test_any_bytes_have_an_answer(self, body: bytes) -> None:
        flaw = json_flaw(body, limits=HttpLimits(values=3, depth=2))
        assert flaw is None or "the body" in flaw

    @pytest.mark.parametrize("piece", [b"[", b"{", b'"', b'\\"', b"]", b",", b'"\\', b"[[[]"])
    def test_a_large_body_is_looked_at_in_one_go(self, piece: bytes) -> None:
        # Not a time: what goes back and forth would need hours for this.
        json_flaw(b'["' + piece * ((8 << 20) // len(piece)), limits=HttpLimits())


class TestLogThrottle:
    def test_what_comes_too_often_is_counted_and_told_later(self) -> None:
        throttle = LogThrottle(most=2, seconds=10)
        records = [logging.makeLogRecord({"msg": "bad %s", "args": (n,), "levelno": logging.WARNING}) for n in range(6)]
        for record, created in zip(records, (0, 1, 2, 3, 11, 12), strict=True):
            record.created = created
        assert [throttle.filter(record) for record in records] == [True, True, False, False, True, True]
        assert [records[at].getMessage() for at in (4, 5)] == ["bad 4 (and 2 more like it)", "bad 5"]

    def test_other_kinds_and_information_pass(self) -> None:
        throttle = LogThrottle(most=1)
        assert throttle.filter(logging.makeLogRecord({"msg": "one", "levelno": logging.WARNING}))
        assert throttle.filter(logging.makeLogRecord({"msg": "other", "levelno": logging.WARNING}))
        for _ in range(3):
            assert throttle.filter(logging.makeLogRecord({"msg": "info", "levelno": logging.INFO}))

    def test_it_knows_few_kinds(self) -> None:
        throttle = LogThrottle(most=1, kinds=3)
        for number in range(10):
            throttle.filter(logging.makeLogRecord({"msg": f"kind {number}", "levelno": logging.ERROR}))
        assert len(throttle._seen) == 3
