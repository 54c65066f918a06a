"""Posts what happened as Kubernetes Events, beside the work and never in its way.

Events are for people and may be lost: the queue is bounded, the rate too, and no trouble reaches the caller. Names are
made from what is reported, so that reporting it again, by a restarted operator, makes no second Event.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from shardwise_api.common import OPERATOR

from ..core.events import RunEvent
from .api import Api, ApiError
from .rate_limit import RateLimit, TokenBucket

CONTROLLER = OPERATOR
ACTION = "Reconcile"
MAX_NOTE_BYTES = 1024
"""The API server takes no more."""
MAX_WAITING = 500
POSTS = RateLimit(per_second=5, burst=25)
_TRIES = 3
_RETRY_SECONDS = 5.0
_MAX_NAME = 253

Run = Mapping[str, Any]
"""A run as the API server tells it; apiVersion, kind and metadata are read."""

log = logging.getLogger(__name__)


def event_document(run: Run, event: RunEvent, *, instance: str, at: datetime) -> dict[str, Any]:
    """Return the Event, as events.k8s.io/v1 takes it."""
    about = run["metadata"]
    identity = "\0".join((about["uid"], event.reason, event.message, event.occasion))
    suffix = f".{hashlib.sha256(identity.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{about['name'][: _MAX_NAME - len(suffix)]}{suffix}", "namespace": about["namespace"]},
        "eventTime": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": event.type,
        "reason": str(event.reason),
        "action": ACTION,
        "note": _cut(event.message),
        "regarding": {
            "apiVersion": run["apiVersion"],
            "kind": run["kind"],
            "namespace": about["namespace"],
            "name": about["name"],
            "uid": about["uid"],
        },
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
    }


class EventPoster:
    """A queue of Events and the one who empties it."""

    def __init__(
        self, *, api: Api, instance: str, clock: Callable[[], float] = time.monotonic,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:  # fmt: skip
        self._api = api
        self._instance = instance
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._waiting: deque[dict[str, Any]] = deque()
        self._something, self._nothing = asyncio.Event(), asyncio.Event()
        self._nothing.set()
        self._posts = TokenBucket(POSTS)
        self._complaints: set[str] = set()
        self.dropped = 0
        """Events that nobody will see: too many at once, or refused."""

    def post(self, run: Run, *events: RunEvent) -> None:
        """Queue what happened. Returns at once; of too many, the oldest are dropped."""
        at = datetime.now(UTC)
        for event in events:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(event_document(run, event, instance=self._instance, at=at))
        if events:
            self._nothing.clear()
            self._something.set()

    async def run(self) -> None:
        """Post what is queued, for ever."""
        while True:
            await self._something.wait()
            while self._waiting:
                while wait := self._posts.take(self._clock()):
                    await asyncio.sleep(wait)
                await self.flush_one()
            self._something.clear()
            self._nothing.set()

    async def drained(self) -> None:
        """Wait until `run` has nothing left to do, for a clean end."""
        await self._nothing.wait()

    async def flush_one(self) -> None:
        """Post the oldest, trying again while the API server has trouble of its own."""
        if not self._waiting:
            return
        event = self._waiting.popleft()
        path = f"/apis/events.k8s.io/v1/namespaces/{event['metadata']['namespace']}/events"
        for attempt in range(1, _TRIES + 1):
            try:
                await self._api.create(path, event)
            except ApiError as error:
                # Told before, by us or by the operator's last incarnation.
                if error.status == 409:
                    return
                passing = error.status == 0 or error.status == 429 or error.status >= 500
                if not passing or attempt == _TRIES:
                    self._drop(error)
                    return
                await asyncio.sleep(self._retry_seconds)
            else:
                self._complaints.clear()
                return

    def _drop(self, error: ApiError) -> None:
        self.dropped += 1
        kind = f"{error.status} {error.reason}"
        if kind not in self._complaints:
            self._complaints.add(kind)
            log.warning("events can't be posted: %s", error)


def _cut(text: str) -> str:
    note = text.encode("utf-8", "replace")
    if len(note) <= MAX_NOTE_BYTES:
        return note.decode()
    end = "…"
    return note[: MAX_NOTE_BYTES - len(end.encode())].decode("utf-8", "ignore") + end
