"""A PostgreSQL as an image, for runs in a cluster whose pods reach nothing outside of it."""

from __future__ import annotations

from pathlib import Path

from images.sources import Image

from tests.support import postgres_server

_FOLDER = Path(__file__).parent / "postgres"


def image() -> Image:
    """Describe the image."""
    return Image(
        name="postgresql",
        # `.test` names no registry in the world: nobody can pull another one by mistake.
        repository="shardwise.test/postgresql",
        dockerfile=_FOLDER / "Dockerfile",
        context={"entrypoint.sh": _FOLDER / "entrypoint.sh"},
        arguments={"PACKAGE": postgres_server.VECTOR_PACKAGE},
    )
