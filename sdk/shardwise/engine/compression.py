"""Compressed inputs, read to their proper end: a file that was cut off or damaged never passes for a shorter one.

The standard library's file objects stop in silence at what follows a complete bzip2, xz or Zstandard stream and isn't
another one, and some libraries at a cut within a stream. Here every byte of the file must belong to a complete stream.
"""

from __future__ import annotations

import io
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Protocol, cast

from .errors import BadConfiguration, BadInput

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 1 << 16
_ARCHIVES = frozenset({".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar"})
_UNKNOWN = frozenset({".lz4", ".br", ".sz", ".snappy", ".lzo", ".z"})
_READ = "gz, bz2, xz, zst, and zip with one file in it"


class _Decoder(Protocol):
    """What bz2, lzma and zstd have in common: one stream, decoded piece by piece."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def decompressed(stream: IO[bytes], *, name: str, where: str) -> IO[bytes]:
    """Return a stream of what a file holds, decompressed by the ending of its name; closing it closes `stream`.

    Reading raises BadInput, which begins with `where`, once the file turns out to be broken or cut off.

    Raises:
        BadConfiguration: the ending is one of an archive, or of a compression that isn't read here.
        BadInput: a zip file is broken, or doesn't hold exactly one file.
    """
    endings = [ending.lower() for ending in PurePosixPath(name).suffixes]
    ending = endings[-1] if endings else ""
    if ending in _ARCHIVES or ".tar" in endings[-2:-1]:
        raise BadConfiguration(f"{where}: it is an archive: unpack it, and name its files")
    if ending in _UNKNOWN:
        raise BadConfiguration(f"{where}: {ending} is a compression that isn't read; what is: {_READ}")
    if ending == ".zip":
        read = _unzipped(stream, where=where)
    elif (new := _decoders(ending, where=where)) is not None:
        read = _Streams(stream, new).read
    else:
        return stream
    return cast("IO[bytes]", io.BufferedReader(_Checked(read, behind=stream, where=where), _CHUNK))


def _decoders(ending: str, *, where: str) -> Callable[[], _Decoder] | None:
    match ending:
        case ".gz":
            return _Gzip
        case ".bz2":
            import bz2

            return bz2.BZ2Decompressor
        case ".xz" | ".lzma":
            return lzma.LZMADecompressor
        case ".zst":
            return _zstd(where)
        case _:
            return None


def _zstd(where: str) -> Callable[[], _Decoder]:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise BadConfiguration(f"{where}: .zst needs a package that is missing here: backports.zstd") from error
    new: Callable[[], _Decoder] = zstd.ZstdDecompressor
    return new


class _Gzip:
    """zlib's decoder with the interface of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        got = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # With as much as was asked for, more may be pending although all input was taken.
        self.needs_input = len(got) < max_length and not self._inner.unconsumed_tail
        return got


class _Streams:
    """Compressed streams, one behind the other, with zeros as padding between them at most."""

    def __init__(self, source: IO[bytes], new: Callable[[], _Decoder]) -> None:
        self._source = source
        self._new = new
        self._decoder: _Decoder | None = None
        self._ahead = b""
        self._started = False

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end. Raises EOFError, and what the decoder raises."""
        while True:
            if self._decoder is None and not self._start():
                return b""
            assert self._decoder is not None
            given, self._ahead = self._ahead, b""
            if not given and self._decoder.needs_input and not (given := self._source.read(_CHUNK)):
                raise EOFError("it ends before its end-of-stream marker")
            got = self._decoder.decompress(given, size)
            if self._decoder.eof:
                self._ahead = self._decoder.unused_data
                self._decoder = None
            if got:
                return got

    def _start(self) -> bool:
        while True:
            self._ahead = self._ahead or self._source.read(_CHUNK)
            if not self._ahead:
                if not self._started:
                    # What a full disk leaves.
                    raise EOFError("it is empty")
                return False
            if self._started:
                self._ahead = self._ahead.lstrip(b"\0")
            if self._ahead:
                self._started = True
                self._decoder = self._new()
                return True


class _Checked(io.RawIOBase):
    """What `read` gives, with its errors as BadInput."""

    def __init__(self, read: Callable[[int], bytes], *, behind: IO[bytes], where: str) -> None:
        self._read = read
        self._behind = behind
        self._where = where

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        with _broken(self._where):
            got = self._read(len(target))
        target[: len(got)] = got
        return len(got)

    def close(self) -> None:
        try:
            self._behind.close()
        finally:
            super().close()


def _unzipped(stream: IO[bytes], *, where: str) -> Callable[[int], bytes]:
    with _broken(where):
        archive = zipfile.ZipFile(stream)
        files = [member for member in archive.infolist() if not member.is_dir()]
        if len(files) != 1:
            raise BadInput(f"{where}: the zip file holds {len(files)} files; one is needed")
        # Its checksum is compared at its end.
        return archive.open(files[0]).read


@contextmanager
def _broken(where: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{where}: the compressed file is broken: {error}") from error
    except OSError as error:
        # bz2 says it like that, without a number; what has one comes from below.
        if error.errno is not None:
            raise
        raise BadInput(f"{where}: the compressed file is broken: {error}") from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise BadInput(f"{where}: the compressed file is broken: {error}") from error
