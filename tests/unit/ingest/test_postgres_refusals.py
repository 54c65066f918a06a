"""A server that lets nobody in is understood in every language; what would be refused again is said at once."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise_jobs.engines.ingest.stores import open_store
from shardwise_jobs.engines.ingest.stores.base import StoreUnavailable

_TLS_REQUEST = 80877103
_GSS_REQUEST = 80877104


@contextmanager
def refusing(*, code: str, severity: str, message: str) -> Iterator[tuple[int, list[int]]]:
    """Serve a PostgreSQL without TLS that refuses everybody; yields its port, and who came."""
    came: list[int] = []
    fields = {"S": severity, "V": "FATAL", "C": code, "M": message}
    body = b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items()) + b"\0"

    def answer(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while header := stream.read(8):
                length, kind = struct.unpack("!II", header)
                stream.read(length - 8)
                if kind not in (_TLS_REQUEST, _GSS_REQUEST):
                    came.append(kind)
                    connection.sendall(b"E" + struct.pack("!I", len(body) + 4) + body)
                    return
                connection.sendall(b"N")

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], came
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("code", "severity", "message"),
    [
        ("28P01", "FATAL", "Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen"),
        ("3D000", "ФАТАЛЬНО", "база данных не существует"),
        ("28000", "FATAL", 'role "u" is not permitted to log in'),
    ],
)
def test_a_login_that_is_refused_for_good_is_bad_configuration(code: str, severity: str, message: str) -> None:
    with (
        refusing(code=code, severity=severity, message=message) as (port, came),
        pytest.raises(BadConfiguration, match=f"127.0.0.1:{port}.*{message[:8]}"),
    ):
        open_store(f"postgresql://u:password@127.0.0.1:{port}/db", attempts=5).check()
    # The one that was refused, and the one that asked why.
    assert len(came) == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [("57P03", "das Datenbanksystem startet: does not exist"), ("53300", "authentication failed: zu viele")],
)
def test_one_that_may_pass_is_tried_again_whatever_its_words(code: str, message: str) -> None:
    with refusing(code=code, severity="FATAL", message=message) as (port, came):
        with pytest.raises(StoreUnavailable):
            open_store(f"postgresql://u:password@127.0.0.1:{port}/db", attempts=2).check()
        assert len(came) > 2


def test_a_server_without_tls_that_needs_it_is_not_asked_again() -> None:
    with refusing(code="57P03", severity="FATAL", message="") as (port, came):
        with pytest.raises(BadConfiguration, match="SSL"):
            open_store(f"postgresql://u@127.0.0.1:{port}/db?sslmode=require", attempts=5).check()
        assert came == []
