"""Builds what has changed and nothing else."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import debian, machine
from .builders import Builder, Order, choose
from .settings import archives_folder
from .shell import say
from .sources import NAMES, Image, image


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image that is there: what a pod calls it, and the file to load it from."""

    ref: str
    archive: Path

    @property
    def sbom(self) -> Path:
        """Its list of contents, beside the archive."""
        return self.archive.with_suffix(".cdx.json")


def base_image(builder: Builder, given: str | None = None) -> str:
    """Return the base: the argument's, else the environment's (BASE_IMAGE), else the builder's own."""
    return given or os.environ.get("BASE_IMAGE") or builder.default_base


def refs(names: Iterable[str] = NAMES, *, base: str | None = None) -> dict[str, str]:
    """Return the images' full names as the working tree has them now, built or not."""
    resolved = base_image(choose(), base)
    return {name: image(name).ref(base=resolved) for name in names}


def build(
    images: Iterable[Image], *, base: str | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, Built]:
    """Build the images that are not there under their present names; return what each name has become.

    Call it inside `alone`, and stay there as long as the archives are needed: the next build removes old ones.
    """
    builder = choose()
    resolved = base_image(builder, base)
    return {one.name: _build(builder, one, base=resolved, environment=environment) for one in images}


@contextmanager
def alone() -> Iterator[None]:
    """Let one build at a time write into the cache; others wait, and then find its images."""
    archives_folder().mkdir(parents=True, exist_ok=True)
    with (archives_folder() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(builder: Builder, edited: Image, *, base: str, environment: Mapping[str, str]) -> Built:
    with tempfile.TemporaryDirectory() as folder:
        context, secrets = Path(folder) / "context", Path(folder) / "secrets"
        secrets.mkdir()
        # Named after what is built: by now, the working tree may have changed.
        one = edited.frozen(context)
        ref = one.ref(base=base)
        if builder.has(ref):
            say(f"{ref}: unchanged")
            return _described(Built(ref=ref, archive=builder.archive(ref)), base=base)
        say(f"{ref}: building")
        if base != debian.base_name() and "@sha256:" not in base:
            say(f"  {base} is named without its digest: the image's tag can't tell one such base from the next")
        version = {"VERSION": one.version} if one.version else {}
        started = time.monotonic()
        builder.build(
            Order(
                dockerfile=one.dockerfile,
                context=context,
                ref=ref,
                arguments={"BASE_IMAGE": base, **version, **one.arguments},
                secrets=_secrets(secrets, base=base, environment=environment),
            )
        )
    built = _described(Built(ref=ref, archive=builder.archive(ref)), base=base)
    builder.forget(one.repository, but=ref)
    say(f"  {time.monotonic() - started:6.1f} s  in all; archive of {built.archive.stat().st_size / 1e6:.0f} MB")
    return built


def _described(built: Built, *, base: str) -> Built:
    """Write the image's list of contents, if it is not there yet."""
    if not built.sbom.exists():
        # Its libraries are for this alone.
        from .sbom import sbom

        unfinished = built.archive.with_suffix(".part")
        unfinished.write_text(sbom(built.archive, ref=built.ref, base=base))
        unfinished.rename(built.sbom)
    return built


def _secrets(folder: Path, *, base: str, environment: Mapping[str, str]) -> dict[str, Path]:
    secrets = machine.write_secrets(folder, environment=environment)
    # Only the local base is of this machine's kind, and only it has no package sources of its own.
    if base == debian.base_name():
        secrets["apt-sources"] = folder / "apt-sources"
        secrets["apt-sources"].write_text(debian.apt_sources())
    return secrets
