"""Reading inputs and writing artefacts by URI: local paths directly, everything else through fsspec.

What is written appears whole or not at all, so that a reader, or a worker started again, never sees half a file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import unquote, urlsplit

from .errors import BadConfiguration

_UMASK = os.umask(0o022)
os.umask(_UMASK)


def local_path(uri: str) -> Path | None:
    """Return the path of a plain path or `file://` URI, None for any other scheme."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in uri:
        return None
    return Path(uri)


def local_size(uris: list[str]) -> int | None:
    """Return the bytes of some files together, None when one of them is not local."""
    paths = [local_path(uri) for uri in uris]
    if any(path is None for path in paths):
        return None
    return sum(path.stat().st_size for path in paths if path is not None and path.exists())


def atomic_write(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file so that it appears whole: temporary name, fsync (when it must outlive the machine), rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
            # mkstemp keeps its file to itself; an artefact is for whoever may read the folder.
            os.fchmod(stream.fileno(), 0o666 & ~_UMASK)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def open_input(uri: str, *, field: str) -> Iterator[IO[bytes]]:
    """Open an input for reading bytes, decompressed by its ending.

    Raises:
        BadConfiguration: it can't be opened; the message names `field` and the URI.
    """
    path = local_path(uri)
    try:
        if path is not None and path.suffix not in (".gz", ".bz2", ".xz", ".zst"):
            stream: IO[bytes] = path.open("rb")
        else:
            opened = _fsspec().open(uri if path is None else str(path), "rb", compression="infer")
            stream = cast("IO[bytes]", opened.open())
    except OSError as error:
        raise BadConfiguration(f"{field}: {uri}: {error.strerror or error}") from error
    except (ValueError, ImportError) as error:
        raise BadConfiguration(f"{field}: {uri}: {error}") from error
    with stream:
        yield stream


class OutputFolder:
    """A folder of artefacts, local or on an object store."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._path = local_path(self.uri)

    def child(self, name: str) -> OutputFolder:
        """Return a folder within this one."""
        return OutputFolder(f"{self.uri}/{name}")

    def uri_of(self, name: str) -> str:
        """Return the URI of a file in this folder."""
        return f"{self.uri}/{name}"

    def write_bytes(self, name: str, content: bytes) -> str:
        """Write a file whole and return its URI.

        Raises:
            BadConfiguration: the folder can't be written.
        """
        try:
            if self._path is not None:
                atomic_write(self._path / name, content)
            else:
                with _fsspec().open(self.uri_of(name), "wb") as stream:
                    stream.write(content)
        except OSError as error:
            raise BadConfiguration(f"output.uri: {self.uri_of(name)}: {error.strerror or error}") from error
        return self.uri_of(name)

    def write_text(self, name: str, text: str) -> str:
        """Write a text file (UTF-8) whole and return its URI."""
        return self.write_bytes(name, text.encode("utf-8"))

    def read_text(self, name: str) -> str | None:
        """Return a text file's content, None when it isn't there."""
        try:
            if self._path is not None:
                return (self._path / name).read_text(encoding="utf-8")
            with _fsspec().open(self.uri_of(name), "rb") as stream:
                return cast(bytes, stream.read()).decode("utf-8")
        except FileNotFoundError:
            return None


def _fsspec() -> Any:
    # Imported on first use: a worker on local files does without.
    import fsspec

    return fsspec
