"""Tests of compressed inputs: all of a file is read, or the file is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest

from shardwise.engine.compression import decompressed
from shardwise.engine.errors import BadConfiguration, BadInput

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WHERE = "spec.source.files.uris: a"
TEXT = b"".join(b"line %d\n" % number for number in range(20_000))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}
every_compression = pytest.mark.parametrize("ending", COMPRESS)


def read(content: bytes, ending: str) -> bytes:
    with decompressed(io.BytesIO(content), name=f"a.jsonl.{ending}", where=WHERE) as stream:
        return stream.read()


@every_compression
def test_streams_behind_each_other_are_one_file(ending: str) -> None:
    compress = COMPRESS[ending]
    assert read(compress(TEXT) + compress(b"") + compress(b"the end"), ending) == TEXT + b"the end"
    assert read(compress(TEXT), ending.upper()) == TEXT


@every_compression
@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.9999])
def test_a_file_that_was_cut_off_is_refused(ending: str, part: float) -> None:
    packed = COMPRESS[ending](TEXT)
    with pytest.raises(BadInput, match=f"^{WHERE}: the compressed file is broken: "):
        read(packed[: int(len(packed) * part)], ending)


@every_compression
def test_a_second_stream_that_was_cut_off_or_is_none_is_refused(ending: str) -> None:
    packed = COMPRESS[ending](TEXT)
    for rest in (packed[: len(packed) // 2], b"something else", packed[:3]):
        with pytest.raises(BadInput, match="the compressed file is broken"):
            read(packed + rest, ending)


@every_compression
def test_what_is_no_such_file_is_refused(ending: str) -> None:
    with pytest.raises(BadInput, match="the compressed file is broken"):
        read(TEXT, ending)


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_a_changed_byte_is_found(ending: str) -> None:
    packed = bytearray(COMPRESS[ending](TEXT))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(BadInput, match="the compressed file is broken"):
        read(bytes(packed), ending)


@every_compression
def test_padding_of_zeros_is_passed_over(ending: str) -> None:
    packed = COMPRESS[ending](TEXT)
    assert read(packed + bytes(512) + packed + bytes(200_000), ending) == TEXT + TEXT


@every_compression
def test_what_a_small_file_unfolds_to_is_not_held(ending: str) -> None:
    packed = COMPRESS[ending](bytes(64 << 20))
    tracemalloc.start()
    try:
        with decompressed(io.BytesIO(packed), name=f"a.{ending}", where=WHERE) as stream:
            assert sum(len(piece) for piece in iter(lambda: stream.read(1 << 16), b"")) == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def zipped(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def test_a_zip_file_holds_one_file() -> None:
    packed = zipped(a=TEXT)
    assert read(packed, "zip") == TEXT
    with pytest.raises(BadInput, match="holds 2 files; one is needed"):
        read(zipped(a=TEXT, b=TEXT), "zip")
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    for broken in (packed[:-30], bytes(damaged), TEXT):
        with pytest.raises(BadInput, match="the compressed file is broken"):
            read(broken, "zip")


@pytest.mark.parametrize(
    ("name", "why"),
    [("a.tar.gz", "archive"), ("a.tgz", "archive"), ("a.7z", "archive"), ("a.lz4", r"\.lz4 is a compression")],
)
def test_what_is_not_read_says_what_is(name: str, why: str) -> None:
    with pytest.raises(BadConfiguration, match=why):
        decompressed(io.BytesIO(), name=name, where=WHERE)


def test_other_endings_are_read_as_they_are() -> None:
    for name in ("a.txt", "a", "a.7z.jsonl", "tar.csv"):
        assert decompressed(io.BytesIO(TEXT), name=name, where=WHERE).read() == TEXT
