"""Both ends of the handshake: rank 0 answers at the rendezvous, the others call until it does.

Threads of their own talk, so that a silent or malicious peer holds up nobody; what they hear comes out of one queue.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from dataclasses import dataclass

import tenacity

from shardwise.engine.errors import WorkError

from . import rendezvous as place
from .channel import BEAT, BEAT_SECONDS, AuthenticationError, Caller, Channel, ConnectionLost, Message, answer, call

log = logging.getLogger(__name__)
_LONGEST_WAIT_SECONDS = 4.0
_TELL_SECONDS = 30.0
_UNKNOWN_AT_ONCE = 64
"""Callers that have not proved who they are yet. Each has `HANDSHAKE_SECONDS`, so that nobody is kept out for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A worker of this run is there; at a caller, that is rank 0."""

    channel: Channel
    caller: Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReceived:
    """A worker says something."""

    channel: Channel
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """A worker is lost, or its connection was closed."""

    channel: Channel
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Hydra's launch lines, one per rank in order; None: it has none to give."""

    lines: list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A meeting is not possible at all."""

    error: WorkError


Event = Joined | MessageReceived | Disconnected | Launch | Broken
Events = queue.SimpleQueue[Event]


class _Heartbeats:
    """Says to each peer, again and again, that this worker lives."""

    def __init__(self) -> None:
        self._channels: set[Channel] = set()
        self._over = threading.Event()
        threading.Thread(target=self._beat, name="beats", daemon=True).start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            for channel in tuple(self._channels):
                try:
                    channel.send(BEAT)
                except ConnectionLost:
                    # Whoever listens to it finds out.
                    self._channels.discard(channel)

    def listen(self, channel: Channel, caller: Caller, events: Events) -> str:
        """Pass on what comes, until nothing does any more; return why."""
        self._channels.add(channel)
        events.put(Joined(channel=channel, caller=caller))
        try:
            while True:
                message = channel.receive()
                if message != BEAT:
                    events.put(MessageReceived(channel=channel, message=message))
        except (ConnectionLost, AuthenticationError) as error:
            return str(error)
        finally:
            self._channels.discard(channel)
            channel.close()

    def close(self) -> None:
        self._over.set()
        for channel in tuple(self._channels):
            channel.close()


class Listener:
    """Rank 0's end: takes callers in that prove that they are workers of this run."""

    def __init__(self, *, rendezvous: str, token: str, events: Events) -> None:
        self._rendezvous = rendezvous
        self._token = token
        self._events = events
        self._heartbeats = _Heartbeats()
        self._unknown = threading.BoundedSemaphore(_UNKNOWN_AT_ONCE)
        self._listener = place.listen(rendezvous)
        self._over = False
        threading.Thread(target=self._accept, name="rendezvous", daemon=True).start()

    def _accept(self) -> None:
        while not self._over:
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                if not self._over:
                    log.warning("a caller was not let in: %s", error)
                    time.sleep(BEAT_SECONDS)
                continue
            if not self._unknown.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._meet, args=(connection, address[0]), name="caller", daemon=True).start()

    def _meet(self, connection: socket.socket, address: str) -> None:
        try:
            try:
                caller, channel = answer(connection, token=self._token)
            finally:
                self._unknown.release()
        except (ConnectionLost, AuthenticationError) as error:
            log.warning("dropped a caller from %s: %s", address, error)
            connection.close()
            return
        why = self._heartbeats.listen(channel, caller, self._events)
        self._events.put(Disconnected(channel=channel, why=why))

    def close(self) -> None:
        """Leave the place, and everybody who came to it."""
        self._over = True
        place.leave(self._rendezvous)
        try:
            # Wakes the thread that accepts.
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.info("rendezvous: %s", error)
        self._listener.close()
        self._heartbeats.close()


class Dialer:
    """Any other rank's end: calls rank 0 until it answers, and again when it is lost."""

    def __init__(self, *, rendezvous: str, token: str, caller: Caller, events: Events) -> None:
        self._rendezvous = rendezvous
        self._token = token
        self._caller = caller
        self._events = events
        self._heartbeats = _Heartbeats()
        self._over = threading.Event()
        self._told_at = float("-inf")
        threading.Thread(target=self._call, name="caller", daemon=True).start()

    def _call(self) -> None:
        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((OSError, ConnectionLost, AuthenticationError)),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_SECONDS),
            sleep=self._pause,
            before_sleep=self._tell,
        )
        while not self._over.is_set():
            try:
                channel = again(self._try)
            except WorkError as error:
                self._events.put(Broken(error=error))
                return
            if channel is not None:
                why = self._heartbeats.listen(channel, self._caller, self._events)
                self._events.put(Disconnected(channel=channel, why=why))

    def _try(self) -> Channel | None:
        if self._over.is_set():
            return None
        connection = place.connect(self._rendezvous)
        try:
            return call(connection, token=self._token, caller=self._caller)
        except BaseException:
            connection.close()
            raise

    def _pause(self, seconds: float) -> None:
        self._over.wait(seconds)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        now = time.monotonic()
        if now > self._told_at + _TELL_SECONDS:
            self._told_at = now
            log.info("rank 0 is not there yet: %s", state.outcome.exception())

    def close(self) -> None:
        """Hang up."""
        self._over.set()
        self._heartbeats.close()
