"""Looks into a built image without running it: its configuration, its history, and the files of its layers."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

# How a layer says that something of those below it is gone: one path, or all that a folder held.
_REMOVED = ".wh."
_EMPTIED = ".wh..wh..opq"


def configuration(archive: Path) -> Any:
    """Return the image's whole configuration, its history included, from what `docker save` or buildah wrote."""
    with tarfile.open(archive) as outer:
        return json.loads(_read(outer, _manifest(outer)["Config"]))


def image_id(archive: Path) -> str:
    """Return the sha256 of the image's configuration, which its layers' digests are part of, as 64 hex digits."""
    with tarfile.open(archive) as outer:
        return hashlib.sha256(_read(outer, _manifest(outer)["Config"])).hexdigest()


def names(archive: Path) -> Iterator[str]:
    """Yield the paths of all layers, directories included, without a leading slash."""
    for _, member in _members(archive):
        yield member.name.removeprefix("./")


def contents(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each plain file of all layers."""
    for layer, member in _members(archive):
        if member.isfile():
            yield member.name.removeprefix("./"), _content(layer, member)


def visible(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Return the wanted plain files as a container sees them, by path: a later layer's hide and remove earlier ones."""
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as outer:
        for name in _manifest(outer)["Layers"]:
            own: set[str] = set()
            with tarfile.open(fileobj=outer.extractfile(name)) as layer:
                for member in layer:
                    path = PurePosixPath(member.name.removeprefix("./"))
                    if path.name.startswith(_REMOVED):
                        gone = path.parent if path.name == _EMPTIED else path.with_name(path.name[len(_REMOVED) :])
                        for old in [old for old in found if PurePosixPath(old).is_relative_to(gone)]:
                            # A layer removes what lies below it, never its own.
                            if old not in own:
                                del found[old]
                    elif member.isfile() and wanted(str(path)):
                        found[str(path)] = _content(layer, member)
                        own.add(str(path))
    return found


def _content(layer: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = layer.extractfile(member)
    assert stream is not None
    return stream.read()


def _members(archive: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    with tarfile.open(archive) as outer:
        for name in _manifest(outer)["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(name)) as layer:
                for member in layer:
                    yield layer, member


def _manifest(outer: tarfile.TarFile) -> Any:
    return json.loads(_read(outer, "manifest.json"))[0]


def _read(outer: tarfile.TarFile, name: str) -> bytes:
    return _content(outer, outer.getmember(name))
