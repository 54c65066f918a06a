"""Container images made of single programs, without a registry or a builder: an archive that containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import builds, packages
from .settings import BUSYBOX_IMAGE, COREDNS_IMAGE, PAUSE_IMAGE, Folders
from .shell import run

_USERS = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"


@dataclass(frozen=True, kw_only=True)
class Image:
    """One layer with some files, and what it starts."""

    tags: tuple[str, ...]
    files: Mapping[str, bytes]
    command: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)


def create(folders: Folders) -> list[Path]:
    """Write the archives of the images that every cluster needs."""
    folder = folders.root / "images"
    folder.mkdir()
    return [
        write(folder / f"{number}.tar", image)
        for number, image in enumerate((_busybox(packages.busybox()), _coredns()))
    ]


def _busybox(program: Path) -> Image:
    # As pause image it only has to sleep; as busybox it is what test pods run.
    applets = run(program, "--list").split()
    return Image(
        tags=(PAUSE_IMAGE, BUSYBOX_IMAGE),
        files={"bin/busybox": program.read_bytes(), "etc/passwd": _USERS.encode()},
        links={f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"},
        command=("/bin/sleep", "2147483647"),
    )


def _coredns() -> Image:
    return Image(tags=(COREDNS_IMAGE,), files={"coredns": builds.COREDNS.built.read_bytes()}, command=("/coredns",))


def write(path: Path, image: Image) -> Path:
    """Write an image in the archive format of `docker save`, which `load` takes."""
    layer = _layer(image)
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Cmd": list(image.command), "Env": ["PATH=/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": list(image.tags), "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "layer.tar", layer)
        _add(archive, "config.json", json.dumps(config).encode())
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def _layer(image: Image) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            layer.addfile(info)
        for name, content in image.files.items():
            _add(layer, name, content, mode=0o755)
        for name, target in image.links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            layer.addfile(info)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    archive.addfile(info, io.BytesIO(content))


def _architecture() -> str:
    return run("dpkg", "--print-architecture").strip()


def load(node_command: Sequence[str], archive: Path) -> None:
    """Import an archive into the containerd of a node."""
    run(*node_command, "ctr", "--namespace", "k8s.io", "images", "import", archive, timeout=600)
