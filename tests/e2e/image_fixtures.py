"""The project's images, built from the working tree and loaded into the cluster once for all tests that need them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from images.build import Built, alone, build
from images.errors import ImageError
from images.load import load
from images.settings import archives_folder
from images.sources import NAMES, Image, image

from tests.support import mongo_image, mongo_server, postgres_image, word_count
from tests.support.kube import Cluster
from tests.support.require import missing

_GIVEN = "SHARDWISE_TEST_IMAGES"
_HOW_TO_GET = (
    f"Run as root on Debian with our own cluster or with kind, or set {_GIVEN} to a JSON object of name: full name of"
    f" images that your cluster can pull: {', '.join((*NAMES, 'mongo', 'postgresql', 'wordcount'))}."
)


@pytest.fixture(scope="session")
def built_images() -> Iterator[dict[str, Built]]:
    """The images' names and archives, built from the working tree as it is now."""
    with ExitStack() as stack:
        try:
            with alone():
                built = build([*map(for_tests, NAMES), mongo_image.image(), postgres_image.image()])
                page = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                built |= build([word_count.image(page)], base=built["worker"].ref)
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=archives_folder(), prefix="tests-")))
                kept = {name: replace(one, archive=folder / one.archive.name) for name, one in built.items()}
                for name, one in built.items():
                    # A second name: a build that somebody starts meanwhile removes the first.
                    kept[name].archive.hardlink_to(one.archive)
        except (ImageError, mongo_server.ServerMissing) as error:
            missing(f"a way to build images ({error})", _HOW_TO_GET)
        yield kept


@pytest.fixture(scope="session")
def images(cluster: Cluster, request: pytest.FixtureRequest) -> dict[str, str]:
    """Name -> full name of each image, ready for pods: operator, worker, kato-server, mongo, postgresql, wordcount."""
    if given := os.environ.get(_GIVEN):
        return {str(name): str(ref) for name, ref in json.loads(given).items()}
    built: dict[str, Built] = request.getfixturevalue("built_images")
    try:
        load(built.values())
    except ImageError as error:
        missing(f"a way to load images ({error})", _HOW_TO_GET)
    return {name: one.ref for name, one in built.items()}


def for_tests(name: str) -> Image:
    """Describe an image in a repository of the tests' own.

    What a person has built stays as it is, and nobody takes the one for the other.
    """
    return replace(image(name), repository=f"shardwise.test/{name}")
