"""The MongoDB-wire test server as an image, for runs in a cluster whose pods reach nothing outside of it."""

from __future__ import annotations

from pathlib import Path

from images.sources import Image, files

from tests.support import mongo_server

_DOCKERFILE = Path(__file__).parent / "mongo" / "Dockerfile"


def image() -> Image:
    """Describe the image; its jars are built on the first call. Raises `mongo_server.ServerMissing` without Java."""
    context = files(mongo_server.build(), ["."])
    return Image(
        name="mongo",
        # `.test` names no registry in the world: nobody can pull another one by mistake.
        repository="shardwise.test/mongo",
        dockerfile=_DOCKERFILE,
        context={f"jars/{path}": file for path, file in context.items()},
    )
