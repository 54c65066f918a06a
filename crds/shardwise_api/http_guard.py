"""What guards every HTTP service of ours, whatever framework it stands on: limits, connections, hosts, depth of JSON.

Anybody who reaches a port may open connections and send nothing, or without end. So a connection has a time for its
headers, one peer has a part of all connections, and when there is no room, the one that has waited longest for its
sender goes first: a probe or an honest client always finds room, for it never waits long.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Self

PREFIX = "SHARDWISE_HTTP_"
"""Of the environment variables that set the limits, as SHARDWISE_HTTP_BODY_BYTES."""
_PART_OF_OPEN_FILES = 3
"""A server may use this part of the files that its process may have open: the rest is for everything else."""
_NOTE_SECONDS = 10.0
_DURATION_FIELDS = frozenset({"header_seconds", "body_seconds", "write_seconds"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one HTTP service takes from its clients. Each field is set by PREFIX and its name in capital letters."""

    connections: int = 512
    """All together; at most a third of the files that the process may have open."""
    connections_per_peer: int = 128
    """Of one address."""
    requests: int = 100
    """At work at once; who comes beyond them is answered 503. Questions about health don't count."""
    header_bytes: int = 32 << 10
    header_seconds: float = 10.0
    """From a connection's begin, or a request's first byte, to the end of the headers. An idle one lives as long."""
    body_seconds: float = 60.0
    """For all of a body."""
    write_seconds: float = 60.0
    """In which a client must have read what waits to be sent to it."""
    body_bytes: int = 16 << 20
    values: int = 1_000_000
    """Strings, numbers, lists and so on in a body, about: each takes far more memory than its bytes."""
    depth: int = 200
    """Of lists and objects within each other in a body."""
    hosts: tuple[str, ...] = ()
    """Names in `Host` that are answered. Without any, a server on a loopback address answers to localhost alone, any
    other server to every name."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **defaults: Any) -> Self:
        """Return the limits that variables set, else `defaults`, by field.

        Raises:
            ValueError: a variable's value is none; the message names it.
        """
        values = dict(defaults)
        for field in fields(cls):
            variable = PREFIX + field.name.upper()
            if text := environment.get(variable):
                values[field.name] = _parsed(variable, text)
        return cls(**values)

    @property
    def body_bytes_in_all(self) -> int:
        """Of all bodies together that are being read or worked on."""
        return 4 * self.body_bytes

    @property
    def body_bytes_per_peer(self) -> int:
        """Of them, those of one address: others always have room for a body."""
        return 3 * self.body_bytes

    def answers_to(self, header: str | None, *, loopback: bool) -> bool:
        """Say whether a request with this `Host` is meant for this server.

        A web page can have its own name point to this address, and then read what a browser on this machine is
        answered. Who sends no `Host` is no browser.
        """
        if header is None or not (loopback or self.hosts):
            return True
        name = _host_of(header)
        if name in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return loopback and name == "localhost"
        # An address can't be made to point elsewhere, and probes come by it.
        return address.is_loopback or not loopback


def _parsed(variable: str, text: str) -> object:
    name = variable.removeprefix(PREFIX).lower()
    if name == "hosts":
        return tuple(_host_of(part) for part in text.split(",") if part.strip())
    try:
        number = float(text) if name in _DURATION_FIELDS else int(text)
    except ValueError:
        number = 0
    if not 0 < number < 2**63:
        raise ValueError(f"{variable}={text!r}: a number above 0 is needed")
    return number


def _host_of(header: str) -> str:
    """Return the name or address in a `Host` header, without port."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0].rstrip(".") if text.count(":") == 1 else text.rstrip(".")


def is_loopback(host: str | None) -> bool:
    """Say whether a server on this address is reached from its own machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def json_flaw(body: bytes, *, limits: HttpLimits) -> str | None:
    """Return why a body is not to be parsed, None when it may be. It is not parsed here, and may be no JSON."""
    openings = body.count(b"[") + body.count(b"{")
    if openings + body.count(b",") <= limits.values and openings <= limits.depth:
        return None
    bare = _STRING.sub(b"", body)
    openings = bare.count(b"[") + bare.count(b"{")
    if openings + bare.count(b",") > limits.values:
        return f"the body holds more than {limits.values} values; send less at once"
    depth = deepest = 0
    for bracket in bare.translate(None, _ALL_BUT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > limits.depth:
        return f"the body is nested too deep: lists and objects within each other may be {limits.depth}"
    return None


class ConnectionGuard:
    """The connections of one server. For one event loop."""

    def __init__(self, limits: HttpLimits, *, name: str) -> None:
        """Prepare; `name` is what the log calls the server."""
        self.limits = limits
        self._name = name
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = files == resource.RLIM_INFINITY
        self._most = limits.connections if unlimited else max(1, min(limits.connections, files // _PART_OF_OPEN_FILES))
        self._by_address: dict[object, Connection] = {}
        self._of_peer: Counter[object] = Counter()
        self._waiting: dict[Connection, None] = {}
        """Those that wait for their sender, longest first."""
        self._closed: Counter[str] = Counter()
        self._noted = -_NOTE_SECONDS

    def wrapping(self, factory: Callable[..., asyncio.Protocol]) -> Callable[..., asyncio.Protocol]:
        """Return a protocol factory whose connections are guarded."""
        return lambda *arguments, **named: Connection(self, factory(*arguments, **named))

    def find(self, address: object) -> Connection | None:
        """Return the connection from this address, (host, port)."""
        return self._by_address.get(address)

    def __len__(self) -> int:
        return len(self._by_address)

    def admit(self, connection: Connection) -> bool:
        """Take a connection on, if need be in the place of one that waits for its sender."""
        if self._of_peer[connection.peer] >= self.limits.connections_per_peer:
            victim = next((each for each in self._waiting if each.peer == connection.peer), None)
            full = True
        else:
            victim, full = next(iter(self._waiting), None), len(self._by_address) >= self._most
        if full:
            if victim is None:
                self.note("refused")
                return False
            victim.end("made room")
        self._by_address[connection.address] = connection
        self._of_peer[connection.peer] += 1
        self._waiting[connection] = None
        return True

    def waits(self, connection: Connection) -> None:
        """Note that a connection waits for its sender from now on."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def works(self, connection: Connection) -> None:
        """Note that a connection waits for this server."""
        self._waiting.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """Note that a connection is over; may be noted twice."""
        if self._by_address.get(connection.address) is connection:
            del self._by_address[connection.address]
            self._waiting.pop(connection, None)
            self._of_peer[connection.peer] -= 1
            if not self._of_peer[connection.peer]:
                del self._of_peer[connection.peer]

    def note(self, why: str) -> None:
        """Log that a connection was closed, now and then for many."""
        self._closed[why] += 1
        now = time.monotonic()
        if now - self._noted >= _NOTE_SECONDS:
            told = ", ".join(f"{count} {each}" for each, count in sorted(self._closed.items()))
            log.warning("%s: closed connections: %s", self._name, told)
            self._noted = now
            self._closed.clear()


class Connection(asyncio.Protocol):
    """One connection, around the protocol of a framework."""

    def __init__(self, guard: ConnectionGuard, inner: asyncio.Protocol) -> None:
        self._guard = guard
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._admitted = False
        self._header_bytes = 0
        self._in_request = self._idle = False
        self._receiving: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self.address: object = None
        self.peer: object = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.address = tuple((transport.get_extra_info("peername") or (None, id(self)))[:2])
        self.peer = self.address[0]
        self._admitted = self._guard.admit(self)
        if not self._admitted:
            transport.abort()
            return
        self._inner.connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self._admitted:
            return
        if not self._in_request:
            if self._idle:
                self._idle = False
                self._await_headers()
            # What came with the headers may be a body, so only a further piece shows that they go on and on.
            if self._header_bytes > self._guard.limits.header_bytes:
                self.end("with headers too long")
                return
            self._header_bytes += len(data)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`."""
        return self._inner.eof_received() if self._admitted else None

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._admitted:
            self._cancel_timers()
            self._guard.forget(self)
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._writing is None:
            self._writing = self._later(self._guard.limits.write_seconds, "whose client does not read")
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        self._inner.resume_writing()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Hold while a request is received and answered."""
        self._in_request, self._header_bytes = True, 0
        if self._receiving is not None:
            self._receiving.cancel()
        try:
            yield
        finally:
            self._in_request, self._idle = False, True
            if self._guard.find(self.address) is self:
                self._await_headers()

    def works(self) -> None:
        """Note that all of a request has come: from now on its client waits."""
        self._guard.works(self)

    def end(self, why: str) -> None:
        """Close the connection at once."""
        self._guard.note(why)
        self._cancel_timers()
        self._guard.forget(self)
        if self._transport is not None:
            self._transport.abort()

    def _await_headers(self) -> None:
        self._guard.waits(self)
        if self._receiving is not None:
            self._receiving.cancel()
        self._receiving = self._later(self._guard.limits.header_seconds, "without a request in time")

    def _later(self, seconds: float, why: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self.end, why)

    def _cancel_timers(self) -> None:
        for timer in (self._receiving, self._writing):
            if timer is not None:
                timer.cancel()


class LogThrottle(logging.Filter):
    """Lets some warnings of a kind through in a while, and then says how many it kept back."""

    def __init__(self, *, most: int = 20, seconds: float = _NOTE_SECONDS, kinds: int = 1000) -> None:
        """A kind is a logger, a level and the words without their arguments; `kinds` bounds how many are known."""
        super().__init__()
        self._most, self._seconds, self._kinds = most, seconds, kinds
        self._seen: OrderedDict[tuple[str, int, str], list[float]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, record.levelno, str(record.msg)[:200])
        now = record.created
        since_and_count = self._seen.setdefault(key, [now, 0.0])
        self._seen.move_to_end(key)
        while len(self._seen) > self._kinds:
            self._seen.popitem(last=False)
        if now - since_and_count[0] >= self._seconds:
            kept_back = int(since_and_count[1]) - self._most
            since_and_count[:] = [now, 0.0]
            if kept_back > 0:
                record.msg, record.args = f"{record.getMessage()} (and {kept_back} more like it)", ()
        since_and_count[1] += 1
        return since_and_count[1] <= self._most
