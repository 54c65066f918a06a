"""The two ways to build an image: a Docker engine, or buildah on a machine that has none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from . import debian
from .errors import ImageError
from .settings import archives_folder, storage_folder
from .shell import follow, run, say, succeeds

_DOCKER_BASE = "python:3.13-slim"
_STORAGE_LIMIT_BYTES = 8 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image to build: from which files, with which arguments, under which name."""

    dockerfile: Path
    context: Path
    ref: str
    arguments: Mapping[str, str]
    secrets: Mapping[str, Path]

    def words(self) -> list[str]:
        """Return the part of a command line that both builders understand."""
        return [
            *(f"--build-arg={name}={value}" for name, value in self.arguments.items()),
            *(f"--secret=id={name},src={path}" for name, path in self.secrets.items()),
            f"--file={self.dockerfile}",
            f"--tag={self.ref}",
            str(self.context),
        ]


class Builder(Protocol):
    """What the tool asks of either."""

    default_base: str

    def has(self, ref: str) -> bool:
        """Tell whether the image is there already."""

    def build(self, order: Order) -> None:
        """Build an image and keep it under its name."""

    def archive(self, ref: str) -> Path:
        """Return the image as a file that a container runtime imports."""

    def forget(self, repository: str, *, but: str) -> None:
        """Remove the repository's other images."""


def choose() -> Builder:
    """Return Docker where its engine answers, else buildah."""
    return Docker() if succeeds("docker", "info") else Buildah()


def archive_path(ref: str) -> Path:
    """Return where an image's file lies: the slash of its name can't be part of a file's."""
    return archives_folder() / f"{ref.replace('/', '_').replace(':', '@')}.tar"


class Docker:
    """A Docker engine with BuildKit. Not tested where this project is built: there is none."""

    default_base = _DOCKER_BASE

    def has(self, ref: str) -> bool:
        """See `Builder.has`."""
        return succeeds("docker", "image", "inspect", ref)

    def build(self, order: Order) -> None:
        """See `Builder.build`."""
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        follow("docker", "build", "--progress=plain", *order.words(), environment=environment)

    def archive(self, ref: str) -> Path:
        """See `Builder.archive`."""
        path = archive_path(ref)
        if not path.exists():
            unfinished = path.with_suffix(".part")
            run("docker", "save", f"--output={unfinished}", ref)
            unfinished.rename(path)
        return path

    def forget(self, repository: str, *, but: str) -> None:
        """See `Builder.forget`; the engine's images are its owner's, so only our files go."""
        _remove_archives(repository, but=but)


class Buildah:
    """buildah with a storage of its own below the project's cache; nothing of it shows elsewhere on the machine."""

    def __init__(self) -> None:
        self.default_base = debian.base_name()
        self._driver = ""

    def has(self, ref: str) -> bool:
        """See `Builder.has`: the file is what counts, so that the storage may go at any time."""
        return archive_path(ref).exists()

    def build(self, order: Order) -> None:
        """See `Builder.build`."""
        if order.arguments.get("BASE_IMAGE") == self.default_base:
            self._ensure_base()
        follow(
            *self._buildah("bud"),
            # Root in a bare container may not do more than this isolation asks for; the network is the machine's.
            "--isolation=chroot",
            "--network=host",
            "--layers",
            "--format=docker",
            *order.words(),
            environment=self._environment(),
        )
        path = archive_path(order.ref)
        unfinished = path.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        self._run("push", order.ref, f"docker-archive:{unfinished}:{order.ref}")
        unfinished.rename(path)

    def archive(self, ref: str) -> Path:
        """See `Builder.archive`."""
        return archive_path(ref)

    def forget(self, repository: str, *, but: str) -> None:
        """See `Builder.forget`; layers of earlier builds stay until they take too much room."""
        _remove_archives(repository, but=but)
        listed = json.loads(self._run("images", "--json", "--filter", f"reference={repository}") or "[]")
        names = [name for entry in listed or [] for name in entry.get("names") or []]
        old = [name for name in names if not name.endswith(but)]
        if old:
            self._run("rmi", *old)
        if _size(storage_folder() / self._driver) > _STORAGE_LIMIT_BYTES:
            say("buildah's storage has grown large: emptying it; the next build starts from the base image")
            self._run("rmi", "--all", "--force")

    def _ensure_base(self) -> None:
        archive = debian.base_archive()
        if self._run("images", "--quiet", "--filter", f"reference={self.default_base}"):
            return
        container = self._run("from", "scratch").strip()
        try:
            self._run("add", container, str(archive), "/")
            self._run("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
            self._run("commit", "--format=docker", container, self.default_base)
        finally:
            self._run("rm", container)

    def _run(self, *words: str) -> str:
        return run(*self._buildah(*words), environment=self._environment())

    def _buildah(self, *words: str) -> list[str]:
        if not self._driver:
            debian.ensure({"buildah": "buildah"})
            if os.geteuid() != 0:
                raise ImageError("buildah builds as root here: start it as root, or start a Docker engine")
            self._driver = self._working_driver()
        return [*_storage_words(self._driver), *words]

    def _working_driver(self) -> str:
        # Copying a layer for each step always works; mounting them over each other is much quicker where it does.
        for driver in ("overlay", "vfs"):
            (storage_folder() / driver).mkdir(parents=True, exist_ok=True)
            if succeeds(*_storage_words(driver), "info"):
                return driver
        raise ImageError("buildah can't keep images here: neither with overlay nor with vfs")

    def _environment(self) -> dict[str, str]:
        # Caches of build steps and half-written layers go where buildah's temporary files go.
        temporary = storage_folder() / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return {**os.environ, "TMPDIR": str(temporary)}


def _storage_words(driver: str) -> list[str]:
    folder = storage_folder() / driver
    return ["buildah", f"--root={folder / 'root'}", f"--runroot={folder / 'run'}", f"--storage-driver={driver}"]


def _remove_archives(repository: str, *, but: str) -> None:
    kept = archive_path(but).stem
    # With each archive, what lies beside it.
    for old in archives_folder().glob(f"{archive_path(repository).stem}@*"):
        if not old.name.startswith(f"{kept}."):
            old.unlink()


def _size(folder: Path) -> int:
    """Return the bytes on disk; `du` counts what overlays share once."""
    if shutil.which("du") is None:
        return 0
    return int(run("du", "--summarize", "--block-size=1", "--one-file-system", folder).split()[0])
