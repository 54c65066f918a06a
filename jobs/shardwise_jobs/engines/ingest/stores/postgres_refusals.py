"""Why a PostgreSQL server or its client let nobody in: by SQLSTATE, as servers speak their administrators' language.

The driver keeps no code of a refused connection. The client library has it, and tells it when asked before the server
has answered; so a login that a server refused is tried once more in the driver's other mode, where that is possible.
"""

from __future__ import annotations

import ctypes
import re
import select
import time
from collections.abc import Mapping

import psycopg2
from psycopg2 import _psycopg
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE

_ONLY_SQLSTATE = 3
"""libpq's PQERRORS_SQLSTATE."""
_SECONDS = 5.0
_OF_A_SERVER = re.compile(r":  \S")
"""What a server says follows its word for FATAL, in whatever language, a colon and two blanks."""
_SQLSTATE = re.compile(r":  ([0-9A-Z]{5})$", re.MULTILINE)
_FOR_GOOD = ("28", "3D", "42", "22", "0A")
"""Classes: authorization, no such database, access or syntax of an option, a value, not supported."""
_WORDS_OF_THE_CLIENT = (
    # libpq's own, which the driver's builds have in English alone.
    "no password supplied",
    "server does not support SSL",
    "certificate verify failed",
    "root certificate file",
    "does not match host name",
    "sslmode value",
    "server doesn't support GSSAPI",
)


def is_for_good(error: psycopg2.OperationalError, *, dsn: Mapping[str, str]) -> bool:
    """Say whether a refused connection would be refused again; what is not known to be may pass."""
    message = str(error)
    if any(words in message for words in _WORDS_OF_THE_CLIENT):
        return True
    codes = [error.pgcode] if error.pgcode else _sqlstates(dsn) if _OF_A_SERVER.search(message) else []
    return bool(codes) and all(code.startswith(_FOR_GOOD) for code in codes)


def _sqlstates(dsn: Mapping[str, str]) -> list[str]:
    """Return the codes with which the hosts of a connection refuse it; empty when that can't be found out."""
    try:
        connection = psycopg2.connect(**{**dsn, "async_": 1})
    except psycopg2.Error:
        return []
    try:
        # The library that the driver itself stands on, whichever that is.
        ctypes.CDLL(_psycopg.__file__).PQsetErrorVerbosity(ctypes.c_void_p(connection.pgconn_ptr), _ONLY_SQLSTATE)
        end = time.monotonic() + _SECONDS
        while (state := connection.poll()) != POLL_OK and (left := end - time.monotonic()) > 0:
            reads = [connection] if state == POLL_READ else []
            writes = [connection] if state == POLL_WRITE else []
            select.select(reads, writes, [], left)
    except psycopg2.Error as error:
        return _SQLSTATE.findall(str(error).strip())
    except (AttributeError, OSError, ValueError):
        return []
    finally:
        connection.close()
    return []
