"""Sessions live in memory: each has its own lock, memory and configuration, and sees nothing of any other.

Reads need no lock, for a session's memory is replaced, never changed. An unused session is gone when its time is up.

All sessions together are bounded, in number and in what they hold. When there is no room, those whose time is up go,
then those that nobody has used for a while, the longest unused first; one in use never does, and who comes is refused.
"""

from __future__ import annotations

import secrets
import sys
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

IDLE_SECONDS = 60.0
"""A session unused for so long may be ended to make room, whatever time it has left."""
_SHARE = 4
"""One session may hold this part of what all may."""
_MAX_REMEMBERED_EXPIRED = 10_000


class SessionNotFound(Exception):
    """The session is unknown, expired or deleted."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session {session_id} not found or expired")
        self.session_id = session_id


class NoRoom(Exception):
    """No room for another session, or for what one is to hold; nothing has changed, and another try may find some."""


class TooLarge(Exception):
    """More than one session may hold."""


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
    used: float = 0.0
    """When it was used last, on the monotonic clock."""
    size: int = 0
    """Bytes that it holds, about, as `Sessions` counts them."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def footprint(
        self,
        *,
        memory: Memory | None = None,
        predictions: Predictions | None = None,
        config: SessionConfig | None = None,
    ) -> int:
        """Return about how many bytes the session would hold, with what is given in the place of its own."""
        memory, predictions = memory or self.memory, predictions or self.predictions
        return _bytes_of(
            self.node_id,
            self.metadata,
            (config or self.config).stm_mode,
            memory.stm,
            memory.gathered.emotives,
            memory.gathered.metadata,
            predictions.predictions,
            predictions.future_potentials,
        )

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

    def __init__(self, *, default_ttl: int, auto_extend: bool, most: int, most_bytes: int) -> None:
        """`most` sessions, which together hold `most_bytes`."""
        self.default_ttl = default_ttl
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0
        self._auto_extend = auto_extend
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._expired: OrderedDict[str, None] = OrderedDict()

    def create(self, new: NewSession) -> Session:
        """Make a session with an id of its own. Raises as `hold`."""
        ttl = new.ttl_seconds or self.default_ttl
        now = time.monotonic()
        session = Session(
            id=f"session-{secrets.token_hex(16)}-{time.time_ns() // 1_000_000}",
            node_id=new.node_id,
            ttl_seconds=ttl,
            deadline=now + ttl,
            created=datetime.now(UTC),
            born=now,
            used=now,
            metadata=new.metadata,
            config=new.config or SessionConfig(),
        )
        self._admit(session, size=session.footprint(), new=1)
        return session

    def hold(self, session: Session, size: int) -> None:
        """Count a session as so large; its caller has it in use.

        Raises:
            NoRoom: all sessions together would hold too much, and none is idle.
            TooLarge: the one would.
        """
        self._admit(session, size=size, new=0)

    def _admit(self, session: Session, *, size: int, new: int) -> None:
        grown = size - session.size
        if grown > 0 and size > self._most_bytes // _SHARE:
            raise TooLarge(
                f"a session may hold {self._most_bytes // _SHARE} bytes of memory (a {_SHARE}th of "
                "KATO_SESSION_MEMORY_MIB), and this needs more: send less, or learn or clear in between"
            )
        while True:
            with self._lock:
                surplus = len(self._sessions) + new - self._most if new else 0
                needed = self._bytes + grown - self._most_bytes if grown > 0 else 0
                if surplus <= 0 and needed <= 0:
                    if new:
                        self._sessions[session.id] = session
                    if session.id in self._sessions:
                        self._bytes += grown
                        session.size = size
                    return
            if not self._end_idle(sessions=surplus, size=needed):
                raise NoRoom(
                    f"there are {self._most} sessions already, and all are in use (KATO_MAX_SESSIONS)"
                    if surplus > 0
                    else "all sessions together hold too much, and all are in use (KATO_SESSION_MEMORY_MIB)"
                )

    def _end_idle(self, *, sessions: int, size: int) -> bool:
        """End idle sessions until so many, with so many bytes, are gone; returns whether any was."""
        now = time.monotonic()
        idle = [each for each in self._snapshot() if self._is_over(each) or now - each.used >= IDLE_SECONDS]
        ended = False
        for session in sorted(idle, key=lambda each: (not self._is_over(each), each.used)):
            if sessions <= 0 and size <= 0:
                break
            if session.lock.acquire(blocking=False):
                try:
                    if session.deadline <= now or now - session.used >= IDLE_SECONDS:
                        sessions, size, ended = sessions - 1, size - session.size, True
                        self._forget_expired(session)
                finally:
                    session.lock.release()
        return ended

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
            self._drop(session)

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
            self._drop(session)
            self._expired[session.id] = None
            if len(self._expired) > _MAX_REMEMBERED_EXPIRED:
                self._expired.popitem(last=False)

    def _drop(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is not None:
            self._bytes -= session.size

    def _snapshot(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())

    def _touch(self, session: Session) -> None:
        session.used = time.monotonic()
        if self._auto_extend:
            session.deadline = time.monotonic() + session.ttl_seconds

    def _is_over(self, session: Session) -> bool:
        # A call at work on a session keeps it alive, however slow the store.
        return session.deadline <= time.monotonic() and not session.lock.locked()


def _bytes_of(*values: object) -> int:
    """Return about how much memory JSON-like values take, each object counted once."""
    total, seen, waiting = 0, set[int](), list(values)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        total += sys.getsizeof(value)
        if isinstance(value, Mapping):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return total


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
