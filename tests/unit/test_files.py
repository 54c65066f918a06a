"""Artefacts appear whole or not at all; inputs open by path or URI, decompressed by their ending."""

from __future__ import annotations

import bz2
import gzip
import os
import stat
import uuid
from pathlib import Path

import pytest

from shardwise.engine import remote
from shardwise.engine.errors import BadConfiguration
from shardwise.engine.files import OutputFolder, atomic_write, local_path, local_size, open_input

pytestmark = pytest.mark.usefixtures("memory_uris")


def _memory() -> str:
    return f"memory://{uuid.uuid4().hex}"


def _read(uri: str) -> bytes:
    with open_input(uri, field="spec.input") as stream:
        return stream.read()


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/data/a b.txt", Path("/data/a b.txt")),
        ("data/x#1.txt", Path("data/x#1.txt")),
        ("file:///data/a%20b.txt", Path("/data/a b.txt")),
        ("s3://bucket/key", None),
        ("memory://x", None),
    ],
)
def test_plain_paths_and_file_uris_are_local(uri: str, path: Path | None) -> None:
    assert local_path(uri) == path


def test_the_size_of_files_is_known_where_all_are_local(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"678")
    assert local_size([str(tmp_path / "a"), (tmp_path / "b").as_uri()]) == 8
    assert local_size([str(tmp_path / "a"), str(tmp_path / "missing")]) == 5
    assert local_size([str(tmp_path / "a"), "s3://bucket/key"]) is None


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.json"
    atomic_write(target, b"first")
    atomic_write(target, b"second")
    assert target.read_bytes() == b"second"
    assert list(target.parent.iterdir()) == [target]


def test_a_written_file_can_be_read_by_whoever_the_umask_allows(tmp_path: Path) -> None:
    atomic_write(tmp_path / "artefact", b"")
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE((tmp_path / "artefact").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            atomic_write(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("place", ["path", "file", "memory"])
def test_what_is_written_to_an_output_folder_is_read_from_it(place: str, tmp_path: Path) -> None:
    uri = {"path": f"{tmp_path}/out put/", "file": (tmp_path / "out put").as_uri(), "memory": _memory()}[place]
    folder = OutputFolder(uri)
    assert folder.read_text("absent.json") is None
    written = folder.child("below").write_text("text.json", "naïve 日本\n")
    assert folder.child("below").read_text("text.json") == "naïve 日本\n"
    assert _read(written) == "naïve 日本\n".encode()
    folder.child("below").write_text("text.json", "again")
    assert folder.read_text("below/text.json") == "again"
    assert not folder.uri.endswith("/")
    assert written == folder.uri_of("below/text.json")


def test_an_output_folder_that_cannot_be_written_is_a_bad_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadConfiguration, match=r"output\.uri: .*file/summary\.json: "):
        OutputFolder(str(tmp_path / "file")).write_text("summary.json", "")


def test_inputs_are_decompressed_by_their_ending(tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_bytes(b"plain")
    (tmp_path / "a b.gz").write_bytes(gzip.compress(b"zipped"))
    (tmp_path / "a b.bz2").write_bytes(bz2.compress(b"smaller"))
    assert _read(str(tmp_path / "a b.txt")) == _read((tmp_path / "a b.txt").as_uri()) == b"plain"
    assert _read(str(tmp_path / "a b.gz")) == _read((tmp_path / "a b.gz").as_uri()) == b"zipped"
    assert _read(str(tmp_path / "a b.bz2")) == b"smaller"


@pytest.mark.parametrize("name", ["missing.txt", "missing.gz"])
def test_a_missing_input_names_its_field_and_its_uri(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=rf"spec\.input: .*{name}: No such file"):
        _read(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("*.jsonl", "a name is no pattern here: list the files"), ("~/a", "~ is a name here, not a home: write the path")],
)
def test_a_name_that_was_meant_as_more_says_what_it_is(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(BadConfiguration, match=r"spec\.input: .*No such file") as caught:
        _read(f"{tmp_path}/{name}")
    assert hint in str(caught.value)


def test_an_unknown_scheme_is_a_bad_configuration() -> None:
    with pytest.raises(BadConfiguration, match=r"spec\.input: nowhere://x: .*nowhere"):
        _read("nowhere://x")


def test_a_missing_input_on_an_object_store_is_a_bad_configuration() -> None:
    with pytest.raises(BadConfiguration, match=r"spec\.input: memory://"):
        _read(_memory())


def test_local_files_need_no_file_system_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("not needed for local files")

    monkeypatch.setattr(remote, "library", refuse)
    folder = OutputFolder(str(tmp_path))
    folder.write_text("a.txt", "text")
    assert folder.read_text("a.txt") == "text"
    assert folder.read_text("b.txt") is None
    assert _read(str(tmp_path / "a.txt")) == b"text"


@pytest.mark.parametrize("place", ["local", "remote"])
def test_bytes_come_back_and_what_is_not_there_is_none(place: str, tmp_path: Path) -> None:
    output = OutputFolder(str(tmp_path) if place == "local" else _memory())
    assert output.read_bytes("a.npz") is None
    output.write_bytes("a.npz", b"\x00\xff\n")
    assert output.read_bytes("a.npz") == b"\x00\xff\n"


def test_a_file_that_can_not_be_read_is_an_error_that_names_the_field(tmp_path: Path) -> None:
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(BadConfiguration, match=r"spec\.output\.uri: .*a\.npz: Is a directory"):
        OutputFolder(str(tmp_path)).read_bytes("a.npz")
