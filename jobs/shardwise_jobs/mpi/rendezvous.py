"""Where ranks meet: a name and a port on a cluster, a file that says where rank 0 listens on one machine."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.files import local_path

_CONNECT_SECONDS = 5.0


def listen(rendezvous: str) -> socket.socket:
    """Open rank 0's socket: on every address for tcp://, on the loopback device, and told in the file, for file://.

    Raises:
        BadConfiguration: the rendezvous is neither.
        OSError: the port is taken, or the file can't be written.
    """
    if (path := local_path(rendezvous)) is not None:
        listener = socket.create_server(("127.0.0.1", 0))
        _write(path, f"127.0.0.1:{listener.getsockname()[1]}\n")
        return listener
    _, port = _host_and_port(rendezvous)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def connect(rendezvous: str) -> socket.socket:
    """Connect to where rank 0 listens, or has said that it does.

    Raises:
        BadConfiguration: the rendezvous is no such URI.
        OSError: nobody is there, yet.
    """
    if (path := local_path(rendezvous)) is not None:
        host, _, port = path.read_text(encoding="ascii", errors="replace").strip().rpartition(":")
        if not host or not port.isdigit():
            raise ConnectionError(f"{path} does not say where rank 0 is")
        return socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS)
    return socket.create_connection(_host_and_port(rendezvous), timeout=_CONNECT_SECONDS)


def leave(rendezvous: str) -> None:
    """Take back the file, so that nobody calls where nobody listens any more."""
    if (path := local_path(rendezvous)) is not None:
        path.unlink(missing_ok=True)


def _host_and_port(rendezvous: str) -> tuple[str, int]:
    try:
        parts = urlsplit(rendezvous)
        if parts.scheme == "tcp" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise BadConfiguration(f"the ranks' rendezvous is neither tcp://host:port nor file:///path: {rendezvous!r}")


def _write(path: Path, text: str) -> None:
    # For this user alone, unlike an artefact; whole or not at all, for the others look again and again.
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)
    Path(temporary).replace(path)
