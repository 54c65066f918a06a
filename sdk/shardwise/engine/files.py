"""Reading inputs and writing artefacts by URI: local paths directly, everything else through fsspec.

What is written appears whole or not at all, so that a reader, or a worker started again, never sees half a file.
"""

from __future__ import annotations

import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from shardwise_api import uris

from . import remote
from .compression import decompressed
from .errors import BadConfiguration, Unavailable, WorkError
from .pod import mount_hint

OUTPUT_FIELD = "spec.output.uri"
_PASSING = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE})
"""What may be mended while a run goes on, by another try or by another machine."""

_UMASK = os.umask(0o022)
os.umask(_UMASK)


def local_path(uri: str, *, field: str | None = None) -> Path | None:
    """Return the path of a plain path or `file://` URI, None for any other scheme.

    Raises:
        BadConfiguration: it can't be a path; the message names `field`, if given.
    """
    try:
        return uris.local_path(uri)
    except uris.BadUri as error:
        raise BadConfiguration(f"{field}: {error}" if field else str(error)) from error


def local_size(inputs: list[str]) -> int | None:
    """Return the bytes of some files together, None when one of them is not local."""
    paths = [local_path(uri) for uri in inputs]
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


def create_file(path: Path, content: bytes) -> bool:
    """Write a file so that it appears whole, unless there is one; say whether this call wrote it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o666 & ~_UMASK)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # No links here: of two writers at the same moment the last one wins.
            if path.exists():
                return False
            Path(temporary).replace(path)
        _settle(path.parent)
        return True
    finally:
        Path(temporary).unlink(missing_ok=True)


_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


def _settle(folder: Path) -> None:
    """Make a new name outlive the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_input(uri: str, *, field: str) -> Iterator[IO[bytes]]:
    """Open an input for reading bytes, decompressed by its ending; reading a broken file raises BadInput.

    Raises:
        BadConfiguration: it can't be opened; the message names `field` and the URI.
        BadInput: it isn't what its ending says.
        Unavailable: it is not local, and its place can't be reached.
    """
    path = local_path(uri, field=field)
    if path is None:
        stream, name = remote.open_stream(uri, field=field), remote.name_of(uri)
    else:
        try:
            stream, name = path.open("rb"), path.name
        except OSError as error:
            hint = _name_hint(path) if isinstance(error, FileNotFoundError) else ""
            hint += mount_hint(path)
            raise BadConfiguration(f"{field}: {uri}: {error.strerror or error}{hint}") from error
    with stream, decompressed(stream, name=name, where=f"{field}: {uris.redacted(uri)}") as content:
        yield content


def _name_hint(path: Path) -> str:
    if "~" in path.parts:
        return "; ~ is a name here, not a home: write the path in full"
    return "; a name is no pattern here: list the files" if set(path.name) & set("*?[") else ""


class OutputFolder:
    """A folder of artefacts, local or on an object store."""

    def __init__(self, uri: str) -> None:
        self.uri = uris.folder_of(uri)
        self._path = local_path(self.uri, field=OUTPUT_FIELD)

    def child(self, name: str) -> OutputFolder:
        """Return a folder within this one."""
        return OutputFolder(uris.joined(self.uri, name))

    def uri_of(self, name: str) -> str:
        """Return the URI of a file in this folder."""
        return uris.joined(self.uri, name)

    def check_writable(self) -> None:
        """Write a file and remove it again, so that a run does not find out at its end.

        Raises:
            BadConfiguration: the folder can't be written.
            Unavailable: it is not local, and its place can't be reached.
        """
        name = f".probe-{uuid.uuid4().hex}"
        self.write_bytes(name, b"")
        if self._path is not None:
            (self._path / name).unlink(missing_ok=True)
            return
        with suppress(WorkError):
            # Artefacts are never removed, so to be allowed it is not needed.
            remote.remove(self.uri_of(name), field=OUTPUT_FIELD)

    def write_bytes(self, name: str, content: bytes) -> str:
        """Write a file whole and return its URI.

        Raises:
            BadConfiguration: the folder can't be written.
            Unavailable: it is not local, and its place can't be reached.
        """
        uri = self.uri_of(name)
        if self._path is None:
            remote.write(uri, content, field=OUTPUT_FIELD)
            return uri
        try:
            atomic_write(self._path / name, content)
        except OSError as error:
            hint = mount_hint(self._path, writable=True)
            raise BadConfiguration(f"{OUTPUT_FIELD}: {uri}: {error.strerror or error}{hint}") from error
        return uri

    def write_text(self, name: str, text: str) -> str:
        """Write a text file (UTF-8) whole and return its URI."""
        return self.write_bytes(name, text.encode("utf-8"))

    def read_text(self, name: str) -> str | None:
        """Return a text file's content, None when it isn't there. Raises as `write_bytes`."""
        content = self.read_bytes(name)
        return None if content is None else content.decode("utf-8")

    def read_bytes(self, name: str) -> bytes | None:
        """Return a file's content, None when it isn't there. Raises as `write_bytes`."""
        if self._path is None:
            return remote.read(self.uri_of(name), field=OUTPUT_FIELD)
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadConfiguration(f"{OUTPUT_FIELD}: {self.uri_of(name)}: {error.strerror or error}") from error

    def create_bytes(self, name: str, content: bytes) -> bool:
        """Write a file whole unless there is one, and say whether this call wrote it.

        Raises:
            BadConfiguration: the folder can't be written.
            Unavailable: it can't be written now.
        """
        if self._path is None:
            return remote.create(self.uri_of(name), content, field=OUTPUT_FIELD)
        with self._failing(name, writable=True):
            return create_file(self._path / name, content)

    def names(self) -> list[str]:
        """Return the names in this folder, none when there is no such folder. Raises as `create_bytes`."""
        if self._path is None:
            return remote.names(self.uri, field=OUTPUT_FIELD)
        with self._failing(""):
            try:
                return [path.name for path in self._path.iterdir()]
            except FileNotFoundError:
                return []

    def read_all(self, names: list[str]) -> list[bytes]:
        """Return the content of files that are there. Raises as `create_bytes`."""
        if self._path is None:
            return remote.read_all([self.uri_of(name) for name in names], field=OUTPUT_FIELD)
        contents = []
        for name in names:
            with self._failing(name):
                contents.append((self._path / name).read_bytes())
        return contents

    @contextmanager
    def _failing(self, name: str, *, writable: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = f"{OUTPUT_FIELD}: {self.uri_of(name) if name else self.uri}: {error.strerror or error}"
            if error.errno in _PASSING:
                raise Unavailable(said) from error
            assert self._path is not None
            raise BadConfiguration(f"{said}{mount_hint(self._path, writable=writable)}") from error
