"""Events are posted beside the work: never in its way, never twice, and dropped when there are too many."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from shardwise_operator.core.events import EventReason, RunEvent
from shardwise_operator.shell.api import Api, ApiError
from shardwise_operator.shell.event_poster import MAX_NOTE_BYTES, MAX_WAITING, EventPoster, event_document

_RUN = {
    "apiVersion": "shardwise.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "words", "namespace": "team", "uid": "1234"},
}
_ACCEPTED = RunEvent(reason=EventReason.ACCEPTED, message="The manifest is valid", occasion="1")
_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
Body = dict[str, Any]


class TestDocument:
    def test_it_says_what_happened_to_whom(self) -> None:
        event = document(_ACCEPTED)
        assert event["regarding"] == {
            "apiVersion": "shardwise.dev/v1alpha1", "kind": "TrainingRun", "namespace": "team", "name": "words",
            "uid": "1234",
        }  # fmt: skip
        assert (event["type"], event["reason"], event["note"]) == ("Normal", "Accepted", "The manifest is valid")
        assert (event["eventTime"], event["reportingInstance"]) == ("2026-01-01T12:00:00.000000Z", "operator-0")

    def test_its_name_is_the_same_for_the_same_and_another_for_another(self) -> None:
        names = {
            document(_ACCEPTED)["metadata"]["name"],
            document(_ACCEPTED, at=datetime(2027, 1, 1, tzinfo=UTC))["metadata"]["name"],
        }
        assert len(names) == 1
        others = [
            RunEvent(reason=EventReason.RESUMED, message="The manifest is valid", occasion="1"),
            RunEvent(reason=EventReason.ACCEPTED, message="The manifest is fine", occasion="1"),
            RunEvent(reason=EventReason.ACCEPTED, message="The manifest is valid", occasion="2"),
        ]
        names |= {document(other)["metadata"]["name"] for other in others}
        names.add(document(_ACCEPTED, uid="5678")["metadata"]["name"])
        assert len(names) == 5
        assert all(re.fullmatch(r"words\.[0-9a-f]{16}", name) for name in names)

    @pytest.mark.parametrize("text", ["x" * 5000, "ä" * 5000, "€" * 600, "\U0001f600" * 600])
    def test_a_long_note_is_cut_between_characters(self, text: str) -> None:
        note = document(RunEvent(reason=EventReason.FAILED, message=text))["note"]
        assert MAX_NOTE_BYTES - 6 <= len(note.encode()) <= MAX_NOTE_BYTES
        assert note[:-1] == text[: len(note) - 1]
        assert note.endswith("…")


class TestPosting:
    def test_what_happened_is_posted_in_order(self) -> None:
        server = Server()
        server.run([event(number) for number in range(5)])
        assert [event["note"] for event in server.posted] == [f"number {number}" for number in range(5)]
        assert server.poster.dropped == 0

    def test_what_was_told_before_is_fine(self, caplog: pytest.LogCaptureFixture) -> None:
        server = Server(*[ApiError(status=409, reason="AlreadyExists", message="")] * 3)
        server.run([event(number) for number in range(4)])
        assert len(server.posted) == 1
        assert server.poster.dropped == 0
        assert caplog.records == []

    def test_a_missing_right_costs_the_events_and_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        server = Server(*[ApiError(status=403, reason="Forbidden", message="may not create events")] * 3)
        server.run([event(number) for number in range(4)])
        assert len(server.posted) == 1
        assert server.poster.dropped == 3
        assert [record.getMessage() for record in caplog.records] == [
            "events can't be posted: Forbidden: may not create events"
        ]

    def test_trouble_of_the_api_server_is_waited_out(self) -> None:
        server = Server(
            ApiError(status=0, reason="Unreachable", message=""), ApiError(status=503, reason="Unavailable", message="")
        )
        server.run([event(0)])
        assert [event["note"] for event in server.posted] == ["number 0"]

    def test_but_not_for_ever(self) -> None:
        server = Server(*[ApiError(status=0, reason="Unreachable", message="")] * 3)
        server.run([event(0), event(1)])
        assert [event["note"] for event in server.posted] == ["number 1"]
        assert server.poster.dropped == 1

    def test_of_too_many_the_oldest_are_dropped(self) -> None:
        async def story() -> list[Body]:
            server = Server()
            poster = EventPoster(api=server, instance="operator-0")
            poster.post(_RUN, *[event(number) for number in range(MAX_WAITING + 7)])
            assert poster.dropped == 7
            await poster.flush_one()
            return server.posted

        assert [event["note"] for event in asyncio.run(story())] == ["number 7"]

    def test_a_flood_is_slowed_down(self) -> None:
        async def story() -> int:
            server = Server()
            # A clock that stands still fills no bucket.
            poster = EventPoster(api=server, instance="operator-0", clock=lambda: 0.0)
            poster.post(_RUN, *[event(number) for number in range(100)])
            task = asyncio.create_task(poster.run())
            while len(server.posted) < 25:
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            task.cancel()
            return len(server.posted)

        assert asyncio.run(story()) == 25


class Server(Api):
    """An API server that has these errors at first."""

    def __init__(self, *errors: ApiError) -> None:
        self._errors = list(errors)
        self.posted: list[Body] = []
        self.poster: EventPoster

    async def create(self, path: str, body: Body) -> Body:
        assert path == "/apis/events.k8s.io/v1/namespaces/team/events"
        if self._errors:
            raise self._errors.pop(0)
        self.posted.append(body)
        return body

    def run(self, events: list[RunEvent]) -> None:
        """Post all of them, and wait until the last is over."""

        async def story() -> None:
            self.poster = EventPoster(api=self, instance="operator-0", retry_seconds=0)
            task = asyncio.create_task(self.poster.run())
            self.poster.post(_RUN, *events)
            await self.poster.drained()
            task.cancel()

        asyncio.run(story())


def event(number: int) -> RunEvent:
    return RunEvent(reason=EventReason.SHARD_FAILED, message=f"number {number}")


def document(event: RunEvent, *, uid: str = "1234", at: datetime = _AT) -> Body:
    metadata = {"name": "words", "namespace": "team", "uid": uid}
    return event_document({**_RUN, "metadata": metadata}, event, instance="operator-0", at=at)
