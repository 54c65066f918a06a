"""Looks into a built image without running it: its configuration, its history, and every file of every layer."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def configuration(archive: Path) -> Any:
    """Return the image's whole configuration, its history included, from what `docker save` or buildah wrote."""
    with tarfile.open(archive) as outer:
        return json.loads(_read(outer, _manifest(outer)["Config"]))


def names(archive: Path) -> Iterator[str]:
    """Yield the paths of all layers, directories included, without a leading slash."""
    for _, member in _members(archive):
        yield member.name.removeprefix("./")


def contents(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each plain file of all layers."""
    for layer, member in _members(archive):
        if member.isfile():
            stream = layer.extractfile(member)
            assert stream is not None
            yield member.name.removeprefix("./"), stream.read()


def _members(archive: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    with tarfile.open(archive) as outer:
        for name in _manifest(outer)["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(name)) as layer:
                for member in layer:
                    yield layer, member


def _manifest(outer: tarfile.TarFile) -> Any:
    return json.loads(_read(outer, "manifest.json"))[0]


def _read(outer: tarfile.TarFile, name: str) -> bytes:
    stream = outer.extractfile(name)
    assert stream is not None
    return stream.read()
