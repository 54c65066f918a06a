"""Reading an SQLite file without the right to write beside it: another user's store, or a volume that is read-only."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from .errors import BadConfiguration


def connect_reader(path: Path, *, timeout_seconds: float) -> sqlite3.Connection:
    """Return a connection that reads a store's file and writes nothing.

    Raises:
        BadConfiguration: the file may not be read, or only by whoever may write beside it; the message has the way out.
        sqlite3.Error: it is no database.
    """
    # SQLite puts its other files beside the file itself, not beside a link to it.
    path = path.resolve()
    # Asked, and never tried by opening it: to close a file gives up all locks that this process has on it, those of its
    # other connections too, and whoever closes the store next takes their log of changes away.
    for right, code in ((os.F_OK, errno.ENOENT), (os.R_OK, errno.EACCES)):
        if not os.access(path, right, effective_ids=os.access in os.supports_effective_ids):
            raise BadConfiguration(f"sqlite store {path}: {os.strerror(code)}")
    log = path.with_name(f"{path.name}-wal")
    alone = not os.access(path.parent, os.W_OK)
    pending = log.exists() and log.stat().st_size > 0
    # A reader of a log needs a file of locks beside it. Without a log, and nobody to be locked out, the file is all.
    immutable = alone and not pending
    uri = f"{path.as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout_seconds, isolation_level=None, check_same_thread=False)
    try:
        if alone and pending:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        raise BadConfiguration(
            f"sqlite store {path}: {log.name} holds changes of a writer that works, or was cut off, and this user may "
            f"not write in {path.parent}, which it takes to read them: read it once as the user it belongs to, or copy "
            f"{path.name}* to a folder of your own ({error})"
        ) from error
    return connection
