"""A report is taken from a pod for its own shard only, and everything else is told what was wrong with it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web

from shardwise_api.bounds import MAX_COUNT
from shardwise_api.wire import ProgressReport, Step
from shardwise_operator.shell import progress_server
from shardwise_operator.shell.api import ApiError
from shardwise_operator.shell.progress_server import (
    FORWARDED,
    MAX_AT_ONCE,
    MAX_BODY_BYTES,
    PATH,
    REPORTS_PER_POD,
    PodOfRun,
    ProgressServer,
)  # fmt: skip
from shardwise_operator.shell.tokens import Reviewer
from tests.unit.test_tokens import World, good, token

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_POD = PodOfRun(run_uid="run-1", namespace="team", shard=3, step=Step.WORK)
Body = dict[str, Any]
T = TypeVar("T")
Answer = tuple[int, Any, dict[str, str]]


class TestTaking:
    def test_a_good_report_is_taken(self) -> None:
        place = Place()
        assert place.send(report())[0] == 204
        (taken,) = place.taken
        assert (taken.run, taken.shard, taken.items.done) == ("run-1", 3, 10)
        assert place.outcomes == ["accepted"]

    @pytest.mark.parametrize("change", [{"run": "run-2"}, {"shard": 4}])
    def test_a_pod_speaks_for_its_own_shard_only(self, change: Body) -> None:
        place = Place()
        assert place.send(report(**change))[0] == 403
        assert place.asked == 0

    @pytest.mark.parametrize(
        "pod",
        [
            None,
            PodOfRun(run_uid="run-1", namespace="team", shard=3, step=Step.FINALIZE),
            PodOfRun(run_uid="run-1", namespace="other", shard=3, step=Step.WORK),
        ],
    )
    def test_a_pod_that_does_not_work_here_is_refused(self, pod: PodOfRun | None) -> None:
        assert Place(pod=pod).send(report())[0] == 403

    def test_a_token_that_claims_to_be_of_another_pod_is_refused(self) -> None:
        place = Place()
        # Only its claim is false: the API server says that it is uid-1's.
        assert place.send(report(), bearer=token(pod="uid-2"))[0] == 403
        assert place.taken == []

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer not-a-token"])
    def test_without_a_token_nobody_is_asked(self, header: str | None) -> None:
        place = Place()
        status, body, headers = place.send(report(), authorization=header)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "not-a-token" not in json.dumps(body)
        assert place.asked == 0

    def test_a_token_that_the_api_server_refuses_is_refused(self) -> None:
        place = Place()
        place.world.status = {"authenticated": False}
        status, body, _ = place.send(report())
        assert (status, body) == (401, {"error": "not a valid token for shardwise-progress"})

    def test_trouble_with_the_api_server_is_not_the_pod_s_fault(self) -> None:
        place = Place()
        place.world.error = no_api_server()
        status, _, headers = place.send(report())
        assert (status, headers["Retry-After"]) == (503, "5")

    def test_a_pod_that_reports_too_often_is_told_to_wait(self) -> None:
        place = Place()
        answers = place.send_all([report()] * (REPORTS_PER_POD.burst + 1))
        assert [status for status, _, _ in answers] == [204] * REPORTS_PER_POD.burst + [429]
        assert answers[-1][2]["Retry-After"] == "1"
        place.world.clock += 1
        assert place.send(report())[0] == 204


class TestForgedTokens:
    def test_that_name_a_victim_s_pod_do_not_silence_it(self) -> None:
        async def story(place: Place, port: int) -> list[int]:
            place.world.status = {"authenticated": False}
            forged = [await post(port, report(), bearer=token(salt=n), source="127.0.0.2") for n in range(60)]
            assert {status for status, _, _ in forged} == {401, 503}
            place.world.status = good()
            return [(await post(port, report(), bearer=token(salt=-n)))[0] for n in range(1, 3)]

        assert serve(Place(), story) == [204, 204]

    def test_handed_on_by_another_replica_do_not_silence_it_either(self) -> None:
        async def story(place: Place, port: int) -> int:
            place.world.status = {"authenticated": False}
            for number in range(60):
                await post(port, report(), bearer=token(salt=number), headers={FORWARDED: "10.0.0.66"})
            place.world.status = good()
            return (await post(port, report(), bearer=token(salt=-1), headers={FORWARDED: "10.0.0.5"}))[0]

        assert serve(Place(), story) == 204

    def test_are_handed_on_with_their_sender(self) -> None:
        async def story() -> Any:
            async with AsyncExitStack() as stack:
                leader, follower = Place(), Place(leads=False)
                follower.leader, follower.port = "127.0.0.1", await stack.enter_async_context(leader.serving())
                port = await stack.enter_async_context(follower.serving())
                leader.world.status = {"authenticated": False}
                for number in range(60):
                    await post(port, report(), bearer=token(salt=number), source="127.0.0.2")
                leader.world.status = good()
                return (await post(port, report(), bearer=token(salt=-1)))[0]

        assert asyncio.run(story()) == 204


class TestLimits:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_that_is_too_large_is_refused(self, chunked: bool) -> None:
        place = Place()
        assert place.send(b" " * (MAX_BODY_BYTES + 1), chunked=chunked)[0] == 413
        assert place.asked == 0

    def test_a_body_that_just_fits_is_read(self) -> None:
        body = json.dumps(report()).encode()
        assert Place().send(body + b" " * (MAX_BODY_BYTES - len(body)))[0] == 204

    def test_a_body_that_does_not_come_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress_server, "READ_SECONDS", 0.05)

        async def never() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        assert Place().send(never)[0] == 408

    def test_compressed_bodies_are_not_unpacked(self) -> None:
        bomb = gzip.compress(b" " * 1000 * MAX_BODY_BYTES)[:MAX_BODY_BYTES]
        assert Place().send(bomb, headers={"Content-Encoding": "gzip"})[0] == 415

    def test_too_many_at_once_are_sent_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress_server, "MAX_AT_ONCE", 0)
        assert MAX_AT_ONCE > 0
        status, _, headers = Place().send(report())
        assert (status, headers["Retry-After"]) == (503, "1")

    def test_one_source_of_slow_bodies_does_not_keep_others_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress_server, "MAX_AT_ONCE", 4)

        async def never() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        async def story(place: Place, port: int) -> int:
            before = place.leads_for
            slow = [asyncio.create_task(post(port, never, source="127.0.0.2")) for _ in range(4)]
            async with asyncio.timeout(10):
                while place.leads_for > before - len(slow):
                    await asyncio.sleep(0.005)
            status, _, _ = await post(port, report())
            for each in slow:
                each.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            return status

        assert serve(Place(), story) == 204

    @pytest.mark.parametrize("leads", [True, False])
    def test_one_source_has_a_share_of_the_places_and_others_find_theirs(
        self, monkeypatch: pytest.MonkeyPatch, leads: bool
    ) -> None:
        monkeypatch.setattr(progress_server, "MAX_AT_ONCE", 8)

        async def story() -> None:
            async with AsyncExitStack() as stack:
                leader, place = Place(), Place(leads=leads)
                place.leader, place.port = "127.0.0.1", await stack.enter_async_context(leader.serving())
                port = await stack.enter_async_context(place.serving())
                asked = (place if leads else leader).world
                asked.hold()
                greedy = [
                    asyncio.create_task(post(port, report(), bearer=token(salt=n), source="127.0.0.2"))
                    for n in range(8)
                ]
                async with asyncio.timeout(10):
                    while sum(each.done() for each in greedy) < 6 or len(asked.asked) < 2:
                        await asyncio.sleep(0.005)
                    assert {each.result()[0] for each in greedy if each.done()} == {503}
                    honest = asyncio.create_task(post(port, report(), bearer=token(salt=9)))
                    while len(asked.asked) < 3:
                        await asyncio.sleep(0.005)
                    asked.released.set()
                    assert (await honest)[0] == 204
                    assert sorted(status for status, _, _ in await asyncio.gather(*greedy)) == [204] * 2 + [503] * 6

        asyncio.run(story())

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10_000, b'{"run": "run-1"}'])
    def test_what_is_no_report_is_refused_unasked(self, body: bytes) -> None:
        place = Place()
        assert place.send(body)[0] == 422
        assert place.asked == 0

    def test_a_refusal_names_the_field_and_not_what_the_sender_wrote(self) -> None:
        bad = {**report(shard="secret-value"), "secretField": 1}
        assert Place().send(bad)[1] == {"error": "not a progress report: shard"}

    @pytest.mark.parametrize(
        "change",
        [
            {"items": {"done": -1}},
            {"items": {"failed": MAX_COUNT + 1}},
            {"total": -5},
            {"resumed": 10**30},
            {"resumedDone": -1},
            {"awaited": "all of them"},
            {"checkpoint": {"uri": "s3://b/c", "step": -1}},
            {"checkpoint": {"uri": "s3://b/c", "step": MAX_COUNT + 1}},
            {"checkpoint": {"uri": "x" * 2049, "step": 1}},
            {"time": "2026-01-01T12:00:00"},
            {"attemptStarted": "0001-01-01T00:00:00Z", "time": "9999-12-31T00:00:00Z"},
        ],
    )
    def test_counts_and_times_that_nobody_can_count_with_are_refused(self, change: Body) -> None:
        place = Place()
        assert place.send(report(**change))[0] == 422
        assert place.taken == []

    def test_figures_a_checkpoint_and_awaited_ranks_are_taken(self) -> None:
        place = Place()
        told: Body = {
            "awaited": "0-3,7", "checkpoint": {"uri": "s3://b/c", "step": 5}, "metrics": [{"name": "a", "value": 1.5}],
        }  # fmt: skip
        assert place.send(report(**told))[0] == 204
        (taken,) = place.taken
        assert taken.model_dump(mode="json", by_alias=True, exclude_none=True).items() >= told.items()

    def test_a_clock_that_is_ahead_is_set_back_and_the_rate_stays(self) -> None:
        place = Place()
        place.send(report(time="2026-01-01T13:00:00+00:00", attemptStarted="2026-01-01T12:59:00+00:00"))
        (taken,) = place.taken
        assert taken.time == _NOW
        assert taken.time - taken.attempt_started == timedelta(seconds=60)

    def test_times_of_anywhere_are_the_same_time(self) -> None:
        place = Place()
        there = timezone(timedelta(hours=9))
        place.send(report(time=(_NOW - timedelta(seconds=5)).astimezone(there).isoformat()))
        assert place.taken[0].time == _NOW - timedelta(seconds=5)

    def test_a_long_message_is_cut(self) -> None:
        place = Place()
        place.send(report(message="x" * 5000))
        assert len(place.taken[0].message) == 1024

    def test_other_paths_and_verbs_are_not_there(self) -> None:
        place = Place()
        assert place.send(report(), path="/v1/other")[0] == 404
        assert place.send(report(), method="GET")[0] == 405


class TestFollowers:
    def test_a_follower_hands_a_report_on_with_its_token(self) -> None:
        leader, follower = Place(), Place(leads=False)
        assert together(leader, follower, report())[0] == 204
        assert (len(leader.taken), len(follower.taken), follower.asked) == (1, 0, 0)
        assert follower.outcomes == ["forwarded"]

    def test_a_follower_answers_what_the_leader_answers(self) -> None:
        leader, follower = Place(pod=None), Place(leads=False)
        assert together(leader, follower, report())[:2] == (403, {"error": "not a working pod of a run"})
        status, _, headers = together(Place(error=True), Place(leads=False), report())
        assert (status, headers["Retry-After"]) == (503, "5")

    def test_two_that_take_each_other_for_the_leader_do_not_play_ball(self) -> None:
        one, other = Place(leads=False), Place(leads=False)
        assert together(one, other, report())[0] == 503
        assert (one.outcomes, other.outcomes) == (["503"], ["forwarded"])

    @pytest.mark.parametrize("address", [None, "evil.example", "127.0.0.1/x", ""])
    def test_without_a_known_leader_a_report_is_sent_away(self, address: str | None) -> None:
        status, _, headers = Place(leads=False, leader=address).send(report())
        assert (status, headers["Retry-After"]) == (503, "2")

    def test_a_leader_that_is_gone_is_not_waited_for(self) -> None:
        # Port 1 of loopback: nobody listens there.
        assert Place(leads=False, leader="127.0.0.1", port=1).send(report())[:2] == (
            503, {"error": "the leader can't be reached"},
        )  # fmt: skip

    def test_what_is_plainly_wrong_is_not_handed_on(self) -> None:
        leader, follower = Place(), Place(leads=False)
        assert together(leader, follower, report(), authorization=None)[0] == 401
        assert together(leader, follower, b" " * (MAX_BODY_BYTES + 1))[0] == 413
        assert leader.outcomes == []

    def test_who_stops_leading_meanwhile_takes_nothing(self) -> None:
        place = Place()
        place.leads_for = 1
        assert place.send(report())[0] == 503
        assert place.taken == []

    def test_no_token_is_ever_logged_or_answered(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("DEBUG"):
            for place in (Place(), Place(pod=None), Place(error=True), Place(leads=False)):
                _, body, headers = place.send(report())
                assert token() not in json.dumps([body, headers])
        assert token() not in caplog.text


class Place:
    """A progress server with all it needs, on a free port of loopback."""

    def __init__(
        self, *, pod: PodOfRun | None = _POD,
        leads: bool = True, leader: str | None = None, port: int = 1, error: bool = False,
    ) -> None:  # fmt: skip
        self.world = World()
        if error:
            self.world.error = no_api_server()
        self.taken: list[ProgressReport] = []
        self.outcomes: list[str] = []
        self.leads_for = 10**9 if leads else 0
        self.leader, self.port = leader, port
        self._pod = pod
        self._reviewer = Reviewer(self.world, clock=lambda: self.world.clock, wall_clock=lambda: 1_000_000.0)

    @property
    def asked(self) -> int:
        return len(self.world.asked)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        server = ProgressServer(
            reviewer=self._reviewer,
            lookup=lambda uid: self._pod if uid in ("uid-1", "uid-2") else None,
            accept=self.taken.append,
            leading=self._leading,
            leader_address=lambda: self.leader,
            port=self.port,
            counted=self.outcomes.append,
            clock=lambda: self.world.clock,
            now=lambda: _NOW,
        )
        runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    def send(self, body: Any, **how: Any) -> Answer:
        return self.send_all([body], **how)[0]

    def send_all(self, bodies: list[Any], **how: Any) -> list[Answer]:
        async def story() -> list[Answer]:
            async with self.serving() as port:
                return [await post(port, body, **how) for body in bodies]

        return asyncio.run(story())

    def _leading(self) -> bool:
        self.leads_for -= 1
        return self.leads_for >= 0


def serve(place: Place, story: Callable[[Place, int], Awaitable[T]]) -> T:
    """Have a story told to a place that serves."""

    async def told() -> T:
        async with place.serving() as port:
            return await story(place, port)

    return asyncio.run(told())


def together(leader: Place, follower: Place, body: Any, **how: Any) -> Answer:
    """Send to the follower, while both serve."""

    async def story() -> Answer:
        async with AsyncExitStack() as stack:
            follower.leader, follower.port = "127.0.0.1", await stack.enter_async_context(leader.serving())
            # As if they took each other for the leader.
            leader.leader, leader.port = "127.0.0.1", await stack.enter_async_context(follower.serving())
            return await post(leader.port, body, **how)

    return asyncio.run(story())


async def post(
    port: int, body: Any, *, bearer: str | None = None, authorization: str | None = "token", chunked: bool = False,
    path: str = PATH, method: str = "POST", headers: dict[str, str] | None = None, source: str = "127.0.0.1",
) -> Answer:  # fmt: skip
    sent = dict(headers or {})
    if authorization is not None:
        sent["Authorization"] = f"Bearer {bearer or token()}" if authorization == "token" else authorization
    data: Any = body if isinstance(body, bytes) else body() if callable(body) else json.dumps(body)
    if chunked:
        data = _chunks(data)
    async with (
        aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(local_addr=(source, 0))) as session,
        session.request(method, f"http://127.0.0.1:{port}{path}", data=data, headers=sent) as answer,
    ):
        said = await answer.text()
        return answer.status, json.loads(said) if said.startswith("{") else said, dict(answer.headers)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def report(**changes: Any) -> Body:
    known = {
        "run": "run-1",
        "shard": 3,
        "attemptStarted": (_NOW - timedelta(seconds=60)).isoformat(),
        "time": _NOW.isoformat(),
        "items": {"done": 10, "failed": 1, "skipped": 0},
        "total": 100,
    }
    return {**known, **changes}


def no_api_server() -> ApiError:
    return ApiError(status=0, reason="Unreachable", message="no route")
