"""Where the tool keeps what it makes."""

from __future__ import annotations

import os
from pathlib import Path

from .sources import REPOSITORY


def cache_folder() -> Path:
    """The project's cache: everything in it can be made again."""
    return Path(os.environ.get("SHARDWISE_CACHE") or REPOSITORY / ".cache").resolve()


def archives_folder() -> Path:
    """Built images and the local base, one file each."""
    return cache_folder() / "images"


def storage_folder() -> Path:
    """What buildah keeps: images, layers of earlier builds, downloads."""
    return cache_folder() / "containers"
