"""Stands between a MongoDB client and its server and cuts the line where a test says, as a kill or a network would.

The real client talks to the real server; what a worker's death leaves behind is then seen at every single write. A
hook may also answer in the server's place, for answers that the test server never gives.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from typing import Any
from urllib.parse import urlsplit

import bson

Command = dict[str, Any]
WRITES = ("insert", "update", "delete", "createIndexes")

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013


class Line(Enum):
    """What becomes of a write and of the line it came by."""

    KEEP = auto()
    CUT_BEFORE = auto()
    """The server never sees the write."""
    CUT_AFTER = auto()
    """The server has done it, the client never hears of it."""


Verdict = Line | Command
Hook = Callable[[Command], Verdict]


@contextmanager
def proxy(target_uri: str, hook: Hook) -> Iterator[str]:
    """Yield a URI that leads to `target_uri`; `hook` judges each write. After a cut nothing comes through any more."""
    target = urlsplit(target_uri)
    with _Proxy((str(target.hostname), int(target.port or 0)), hook) as here:
        yield f"mongodb://127.0.0.1:{here.port}"


class _Proxy:
    def __init__(self, target: tuple[str, int], hook: Hook) -> None:
        self._target = target
        self._hook = hook
        self._cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> _Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _hang_up(self) -> None:
        self._cut.set()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._open += [client, server]
            thread = threading.Thread(target=self._serve, args=(client, server))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError, EOFError):
            while True:
                request = _message(client)
                command = _command(request)
                verdict: Verdict = self._hook(command) if next(iter(command), "") in WRITES else Line.KEEP
                if isinstance(verdict, dict):
                    client.sendall(_answer(request, verdict))
                    continue
                if verdict is Line.CUT_BEFORE or self._cut.is_set():
                    self._hang_up()
                    return
                server.sendall(request)
                answer = _message(server)
                if verdict is Line.CUT_AFTER:
                    self._hang_up()
                    return
                client.sendall(answer)


def _message(source: socket.socket) -> bytes:
    header = _exactly(source, _HEADER.size)
    return header + _exactly(source, _HEADER.unpack(header)[0] - _HEADER.size)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _command(message: bytes) -> Command:
    # Flags, then a section of kind 0 that is the command; documents of a bulk follow as a section of kind 1.
    if _HEADER.unpack_from(message)[3] != _OP_MSG:
        return {}
    start = _HEADER.size + 5
    (length,) = struct.unpack_from("<i", message, start)
    return bson.decode(message[start : start + length])


def _answer(request: bytes, body: Command) -> bytes:
    payload = struct.pack("<iB", 0, 0) + bson.encode(body)
    return _HEADER.pack(_HEADER.size + len(payload), 1, _HEADER.unpack_from(request)[1], _OP_MSG) + payload
