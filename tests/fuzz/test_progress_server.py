"""Whatever is sent to the operator's progress server, it answers, and what it takes can be counted with."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from typing import Any

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.bounds import MAX_COUNT
from tests.support.examples import examples
from tests.unit.test_progress_server import Place, report

from .test_servers import JSON, changed, dumped, places

WELL: dict[str, Any] = report(
    resumed=1,
    resumedDone=1,
    message="m",
    awaited="1-2",
    metrics=[{"name": "loss", "value": 0.5}],
    checkpoint={"step": 3, "uri": "file:///a"},
)
PIECES = [
    b"POST /v1/progress HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"Content-Length: 9\r\n",
    b"\r\n",
    b"{}",
]
PIECES += [
    b"Transfer-Encoding: chunked\r\n",
    b"Authorization: Bearer \xff.\x00.a\r\n",
    b"Content-Length: -1\r\n",
    b"\xff\x00",
]


def _refused_or_taken(place: Place, body: bytes) -> None:
    status, said, _ = place.send(body)
    assert 200 <= status < 500, said
    for taken in place.taken:
        counts = taken.items
        assert all(0 <= count <= MAX_COUNT for count in (counts.done, counts.failed, counts.skipped, taken.resumed))
        assert all(math.isfinite(metric.value) for metric in taken.metrics)
        taken.model_dump_json().encode()


def test_the_report_that_is_changed_is_a_good_one() -> None:
    assert Place().send(WELL)[0] == 204


@given(place=st.sampled_from(places(WELL)), value=JSON)
@examples(150)
def test_any_value_at_any_place(place: tuple[Any, ...], value: object) -> None:
    _refused_or_taken(Place(), dumped(changed(WELL, place, value)))


@given(st.binary(max_size=60) | st.sampled_from([b"[" * 9000, b'{"a": NaN}', b"\xff", json.dumps("\ud800").encode()]))
@examples(40)
def test_any_bytes(body: bytes) -> None:
    _refused_or_taken(Place(), body)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_any_request(caplog: pytest.LogCaptureFixture) -> None:
    async def answered(content: bytes) -> bytes:
        async with Place().serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(content)
            writer.write_eof()
            try:
                return await asyncio.wait_for(reader.read(), 10)
            except ConnectionError:
                return b""
            finally:
                writer.close()

    @given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=8))
    @examples(60)
    def sent(pieces: list[bytes]) -> None:
        assert not asyncio.run(answered(b"".join(pieces))).startswith(b"HTTP/1.1 5")

    with caplog.at_level(logging.ERROR):
        sent()
    # That somebody sent what is no HTTP is aiohttp's to say, at a bounded rate; anything else would be a fault.
    unhandled = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [error for error in unhandled if not isinstance(error, HttpProcessingError)] == []
