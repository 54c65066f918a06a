"""`shardwise kato …`: the engine's own commands, and the one that serves a pattern store as a KATO server."""

from __future__ import annotations

import os

import click

from shardwise.engine.errors import WorkError
from shardwise_jobs.engines.kato.cli import give_up, kato

__all__ = ["kato", "serve"]


@kato.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, help="0 picks a free one; it is printed.")
@click.option("--store", "uri", default="sqlite:///patterns.db", show_default=True, help="Where patterns are kept.")
def serve(host: str, port: int, uri: str) -> None:
    """Serve the KATO protocol over a pattern store, until SIGTERM or Ctrl-C.

    Settings come from the environment: KATO_BATCH_SIZE, CONNECTION_POOL_SIZE, REQUEST_TIMEOUT, SESSION_TTL,
    SESSION_AUTO_EXTEND, KATO_MAX_SESSIONS, KATO_SESSION_MEMORY_MIB, KATO_PREDICTION_SECONDS, SERVICE_NAME, LOG_LEVEL,
    KATO_EXTENSIONS; GET /status shows what is in force.
    """
    from .app import serve as serve_until_told
    from .settings import Settings

    try:
        serve_until_told(host=host, port=port, store_uri=uri, settings=Settings.from_environment(os.environ))
    except WorkError as error:
        give_up(error)
