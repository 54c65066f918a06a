"""What goes into each image, file by file, and the tag that follows from it.

A build sees these files and no others: what is not in the digest can't be in the image.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .errors import ImageError

REPOSITORY = Path(__file__).parents[1]
_DIGEST_LENGTH = 12
_DOCKERFILE = "Dockerfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image: its name without tag, its Dockerfile, its build arguments, and its context as path there -> file."""

    name: str
    repository: str
    dockerfile: Path
    context: Mapping[str, Path]
    version: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)

    def tag(self, *, base: str) -> str:
        """Return `VERSION-DIGEST`; base image and arguments count as much as the files do."""
        digest = hashlib.sha256(json.dumps([base, sorted(self.arguments.items())]).encode())
        files = {**self.context, _DOCKERFILE: self.dockerfile}
        for path, file in sorted(files.items()):
            content = file.read_bytes()
            # With lengths, no two sets of files read as the same bytes.
            digest.update(f"{path}\0{len(content)}\0".encode())
            digest.update(content)
        short = digest.hexdigest()[:_DIGEST_LENGTH]
        # A local version's plus sign is not allowed in a tag.
        return f"{self.version.replace('+', '-')}-{short}" if self.version else short

    def ref(self, *, base: str) -> str:
        """Return the full name that a pod asks for."""
        return f"{self.repository}:{self.tag(base=base)}"

    def frozen(self, folder: Path) -> Image:
        """Return a copy whose files lie in `folder`, laid out as in the context: nobody edits them there."""
        for path, file in {**self.context, _DOCKERFILE: self.dockerfile}.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        context = {path: folder / path for path in self.context}
        return replace(self, dockerfile=folder / _DOCKERFILE, context=context)


_COMMON = (
    "pyproject.toml",
    "requirements.lock",
    "LICENSE",
    "images/pins.py",
    "images/requirements.py",
    "crds/shardwise_api",
)
PACKAGES = {
    "operator": ("operator/shardwise_operator",),
    "worker": ("sdk/shardwise", "jobs/shardwise_jobs"),
    "kato-server": ("sdk/shardwise", "jobs/shardwise_jobs"),
}
"""The packages of ours that each image has."""
NAMES = tuple(PACKAGES)
"""The images that a release is made of."""


def image(name: str, *, repository: Path = REPOSITORY) -> Image:
    """Describe one of the project's images as the working tree has it now."""
    if name not in PACKAGES:
        raise ImageError(f"no image is named {name}; there are {', '.join(NAMES)}")
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return Image(
        name=name,
        repository=f"shardwise/{name}",
        dockerfile=repository / "images" / f"{name}.Dockerfile",
        context=files(repository, [*_COMMON, *PACKAGES[name]]),
        version=project["version"],
    )


def files(root: Path, paths: Iterable[str]) -> dict[str, Path]:
    """Return the files at and below the paths, by path relative to the root; what Python compiled does not count."""
    found: dict[str, Path] = {}
    for path in paths:
        start = root / path
        for file in [start] if start.is_file() else start.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                found[file.relative_to(root).as_posix()] = file
    return found
