"""Sessions live in memory: each has its own lock, memory and configuration, and sees nothing of any other.

Reads need no lock, for a session's memory is replaced, never changed. An unused session is gone when its time is up.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from .learning import Memory
from .models import NewSession, SessionConfig
from .predictions import NO_PREDICTIONS, Predictions

MAX_SESSIONS = 10_000
_MAX_REMEMBERED_EXPIRED = 10_000


class SessionNotFound(Exception):
    """The session is unknown, expired or deleted."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session {session_id} not found or expired")
        self.session_id = session_id


class TooManySessions(Exception):
    """No room for another session."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One session. Who changes `memory`, `config` or `predictions` holds `lock`."""

    id: str
    node_id: str
    ttl_seconds: int
    deadline: float
    """On the monotonic clock, so that a set wall clock ends no session."""
    created: datetime
    born: float
    """`created` on the monotonic clock."""
    metadata: Mapping[str, Any]
    config: SessionConfig
    memory: Memory = field(default_factory=Memory)
    predictions: Predictions = NO_PREDICTIONS
    deleted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def shown(self) -> dict[str, object]:
        """Return the session object of the protocol."""
        return {
            "session_id": self.id,
            "node_id": self.node_id,
            "created_at": _iso(self.created),
            "expires_at": _iso(self.created + timedelta(seconds=self.deadline - self.born)),
            # Rounded at milliseconds first: a session just used has all its time left, not a second less.
            "ttl_seconds": int(self.deadline - time.monotonic() + 0.001),
            "metadata": self.metadata,
            "session_config": self.config.shown(),
        }


class Sessions:
    """All sessions of the server, found by id."""

    def __init__(self, *, default_ttl: int, auto_extend: bool) -> None:
        self.default_ttl = default_ttl
        self._auto_extend = auto_extend
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._expired: OrderedDict[str, None] = OrderedDict()

    def create(self, new: NewSession) -> Session:
        """Make a session with an id of its own."""
        ttl = new.ttl_seconds or self.default_ttl
        now = time.monotonic()
        session = Session(
            id=f"session-{secrets.token_hex(16)}-{time.time_ns() // 1_000_000}",
            node_id=new.node_id,
            ttl_seconds=ttl,
            deadline=now + ttl,
            created=datetime.now(UTC),
            born=now,
            metadata=new.metadata,
            config=new.config or SessionConfig(),
        )
        if len(self._sessions) >= MAX_SESSIONS:
            self.sweep()
        with self._lock:
            if len(self._sessions) >= MAX_SESSIONS:
                raise TooManySessions(f"there are {MAX_SESSIONS} sessions already")
            self._sessions[session.id] = session
        return session

    def get(self, session_id: str) -> Session:
        """Return a session and start its time anew."""
        session = self._sessions.get(session_id)
        if session is None or self._is_over(session):
            raise SessionNotFound(session_id)
        self._touch(session)
        return session

    @contextmanager
    def use(self, session_id: str) -> Iterator[Session]:
        """Hold a session for a call that changes it; calls of one session take turns."""
        session = self.get(session_id)
        with session.lock:
            if session.deleted:
                raise SessionNotFound(session_id)
            try:
                yield session
            finally:
                self._touch(session)

    def extend(self, session_id: str, *, ttl_seconds: int) -> Session:
        """Give a session another time to live, for good."""
        session = self.get(session_id)
        session.ttl_seconds = ttl_seconds or self.default_ttl
        session.deadline = time.monotonic() + session.ttl_seconds
        return session

    def delete(self, session_id: str) -> None:
        """Forget a session; a call that is at work on it ends as if it were still there."""
        session = self.get(session_id)
        session.deleted = True
        with self._lock:
            self._sessions.pop(session_id, None)

    def exists(self, session_id: str) -> tuple[bool, bool]:
        """Return whether a session is there, and whether it was until its time was up. Its time goes on."""
        session = self._sessions.get(session_id)
        if session is None:
            return False, session_id in self._expired
        over = self._is_over(session)
        return not over, over

    def count(self) -> int:
        """Return the number of sessions that are not over."""
        return sum(not self._is_over(session) for session in self._snapshot())

    def of_run(self, run: str) -> list[Session]:
        """Return the sessions whose creator named this run in their metadata. Their time goes on."""
        found = (session for session in self._snapshot() if session.metadata.get("run") == run)
        return [session for session in found if not self._is_over(session)]

    def sweep(self) -> set[str]:
        """Forget sessions that are over; returns the ids of the nodes that still have one."""
        for session in self._snapshot():
            # Held while it is forgotten, so that no call begins on it in between.
            if self._is_over(session) and session.lock.acquire(blocking=False):
                try:
                    if session.deadline <= time.monotonic():
                        self._forget_expired(session)
                finally:
                    session.lock.release()
        return {session.node_id for session in self._snapshot()}

    def _forget_expired(self, session: Session) -> None:
        session.deleted = True
        with self._lock:
            self._sessions.pop(session.id, None)
            self._expired[session.id] = None
            if len(self._expired) > _MAX_REMEMBERED_EXPIRED:
                self._expired.popitem(last=False)

    def _snapshot(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())

    def _touch(self, session: Session) -> None:
        if self._auto_extend:
            session.deadline = time.monotonic() + session.ttl_seconds

    def _is_over(self, session: Session) -> bool:
        # A call at work on a session keeps it alive, however slow the store.
        return session.deadline <= time.monotonic() and not session.lock.locked()


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
