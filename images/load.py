"""Brings built images onto the nodes of a cluster: there is no registry that they could be pulled from."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable

from .build import Built
from .errors import ImageError
from .shell import run, say, succeeds
from .sources import REPOSITORY

_KIND_CLUSTER = "shardwise"


def load(built: Iterable[Built]) -> None:
    """Load images into the test cluster or kind's; one that is there is left alone.

    Raises `ImageError` when neither is up.
    """
    if (there := _test_cluster_images()) is not None:
        _load(built, there, [sys.executable, "-m", "tests.cluster", "load"])
    elif _kind_is_up():
        # kind compares for itself what the nodes have.
        _load(built, set(), ["kind", "load", "image-archive", "--name", _KIND_CLUSTER])
    else:
        raise ImageError("no cluster is up: `make cluster-up` starts one, or `make kind-up` with Docker")


def _load(built: Iterable[Built], there: set[str], command: list[str]) -> None:
    for image in built:
        if is_among(image.ref, there):
            say(f"{image.ref}: loaded already")
            continue
        started = time.monotonic()
        _in_repository(*command, str(image.archive))
        say(f"{image.ref}: loaded in {time.monotonic() - started:.1f} s")


def is_among(ref: str, there: set[str]) -> bool:
    """Tell whether a runtime has the image; it puts the name of a registry before one that has none."""
    return any(name == ref or name.endswith(f"/{ref}") for name in there)


def _test_cluster_images() -> set[str] | None:
    """Return what every node of the test cluster has; None when it is not up."""
    words = [sys.executable, "-m", "tests.cluster", "images"]
    listed = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        return None
    nodes = [set(names) for names in json.loads(listed.stdout).values()]
    return set.intersection(*nodes) if nodes else None


def _kind_is_up() -> bool:
    return succeeds("kind", "version") and _KIND_CLUSTER in run("kind", "get", "clusters").split()


def _in_repository(*words: str) -> None:
    result = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ImageError(f"`{' '.join(words)}` ended with {result.returncode}: {result.stderr or result.stdout}")
