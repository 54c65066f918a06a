"""A connection between two workers of one run: each proves that it knows the run's token, and nobody else is heard.

Nothing of the token is on the wire: both sides answer the other's challenge by an HMAC, and every message after that
carries one, made with a key of this connection alone and the message's number. Messages are lines of JSON with bounds
on their length and on the time that they may take.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 8192
"""Of one line; a launch line has some 300."""
HANDSHAKE_SECONDS = 5.0
"""For both sides to know each other."""
SILENCE_SECONDS = 5.0
"""A peer that has said nothing for so long is lost."""
BEAT_SECONDS = 1.0
"""A peer that has nothing else to say says so that often."""

Message = dict[str, Any]
BEAT: Message = {"kind": "beat"}


class ConnectionLost(Exception):
    """The peer is gone, or silent."""


class AuthenticationError(Exception):
    """Whoever this is, it has not proved that it is a worker of this run, or it does not speak as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a worker says of itself as it calls."""

    rank: int
    size: int
    """How many ranks its documents tell of."""


class Channel:
    """One end of a connection whose two sides know each other. Sending is for any thread, receiving for one."""

    def __init__(self, lines: Lines, *, key: bytes, sends: str, receives: str) -> None:
        self._lines = lines
        self._key = key
        self._sends = sends
        self._receives = receives
        self._sent = self._received = 0
        self._sending = threading.Lock()
        self.here = _plain(lines.socket.getsockname()[0])
        """This side's address, as the other one sees it where nothing translates between them."""
        self.there = _plain(lines.socket.getpeername()[0])

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            ConnectionLost: it can't be sent.
        """
        text = json.dumps(message)
        with self._sending:
            mark = _mark(self._key, self._sends, self._sent, text)
            self._sent += 1
            self._lines.send(f"{mark} {text}")

    def receive(self) -> Message:
        """Return the next message.

        Raises:
            ConnectionLost: none came for `SILENCE_SECONDS`, or the connection is closed.
            AuthenticationError: somebody else writes into this connection.
        """
        mark, _, text = self._lines.receive(end=time.monotonic() + SILENCE_SECONDS).partition(" ")
        if not hmac.compare_digest(mark, _mark(self._key, self._receives, self._received, text)):
            raise AuthenticationError("a message that is not of this connection's peer")
        self._received += 1
        return _message(text)

    def close(self) -> None:
        """Close it; whoever is receiving sees it lost."""
        self._lines.close()


class Lines:
    """Lines of ASCII over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        # For sending; who receives waits by another clock, and it may be another thread.
        connection.settimeout(SILENCE_SECONDS)
        self._buffer = b""

    def send(self, text: str) -> None:
        """Send a line."""
        try:
            self.socket.sendall(text.encode("ascii") + b"\n")
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    def receive(self, *, end: float) -> str:
        """Return the next line, which must be whole at that time (monotonic)."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_BYTES:
                raise AuthenticationError(f"a message of more than {MAX_BYTES} bytes")
            try:
                waiting = select.poll()
                waiting.register(self.socket, select.POLLIN)
                if not waiting.poll(max(0.0, end - time.monotonic()) * 1000):
                    raise ConnectionLost("silence")
                data = self.socket.recv(MAX_BYTES)
            except (OSError, ValueError) as error:
                # ValueError: closed by another thread.
                raise ConnectionLost(str(error)) from error
            if not data:
                raise ConnectionLost("the connection was closed")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        if len(line) > MAX_BYTES or not line.isascii():
            raise AuthenticationError("no message of a worker")
        return line.decode("ascii")

    def close(self) -> None:
        """Close the socket, also under a thread that waits for it."""
        # It may be closed from the other side.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def answer(connection: socket.socket, *, token: str) -> tuple[Caller, Channel]:
    """Find out who calls, as the leader.

    Raises:
        ConnectionLost: the caller went away or was too slow.
        AuthenticationError: it did not prove that it is a worker of this run.
    """
    lines = Lines(connection)
    end = time.monotonic() + HANDSHAKE_SECONDS
    ours = secrets.token_hex()
    lines.send(json.dumps({"challenge": ours}))
    said = _message(lines.receive(end=end))
    rank, size, theirs, proof = (said.get(name) for name in ("rank", "size", "challenge", "proof"))
    if type(rank) is not int or type(size) is not int or not isinstance(theirs, str) or not isinstance(proof, str):
        raise AuthenticationError("no caller's words")
    talk = (ours, theirs, rank, size)
    if not _same(proof, _mark(token.encode(), "member", *talk)):
        raise AuthenticationError("it does not know this run's token")
    lines.send(json.dumps({"proof": _mark(token.encode(), "leader", *talk)}))
    key = _mark(token.encode(), "messages", *talk).encode()
    return Caller(rank=rank, size=size), Channel(lines, key=key, sends="leader", receives="member")


def call(connection: socket.socket, *, token: str, caller: Caller) -> Channel:
    """Say who calls, as any other rank, and find out whether it is the leader that answers.

    Raises:
        ConnectionLost: it went away or was too slow, as it does when it does not know the caller.
        AuthenticationError: it did not prove that it is a worker of this run.
    """
    lines = Lines(connection)
    end = time.monotonic() + HANDSHAKE_SECONDS
    theirs = _message(lines.receive(end=end)).get("challenge")
    if not isinstance(theirs, str):
        raise AuthenticationError("no leader's words")
    ours = secrets.token_hex()
    talk = (theirs, ours, caller.rank, caller.size)
    proof = _mark(token.encode(), "member", *talk)
    lines.send(json.dumps({"rank": caller.rank, "size": caller.size, "challenge": ours, "proof": proof}))
    if not _same(_message(lines.receive(end=end)).get("proof"), _mark(token.encode(), "leader", *talk)):
        raise AuthenticationError("it does not know this run's token")
    key = _mark(token.encode(), "messages", *talk).encode()
    return Channel(lines, key=key, sends="member", receives="leader")


def _mark(key: bytes, *said: str | int) -> str:
    return hmac.new(key, json.dumps(said).encode(), hashlib.sha256).hexdigest()


def _same(given: object, expected: str) -> bool:
    return isinstance(given, str) and given.isascii() and hmac.compare_digest(given, expected)


def _message(text: str) -> Message:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AuthenticationError("no JSON") from error
    if not isinstance(message, dict):
        raise AuthenticationError("no message")
    return message


def _plain(address: str) -> str:
    # An IPv4 peer of a socket that listens for both.
    return address.removeprefix("::ffff:")
