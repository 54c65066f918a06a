"""`shardwise kato …`: look into a pattern store, and serve one as a KATO server."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NoReturn

import click

from shardwise.engine.errors import WorkError
from shardwise_api.terminal import echo, print_exactly
from shardwise_api.uris import redacted

from .finalize import digest_lines
from .names import node_id
from .stores import PatternStore, open_store


@click.group()
def kato() -> None:
    """Pattern stores and the KATO-compatible session server."""


@kato.command()
@click.option("--store", "uri", required=True, help="sqlite:///file.db or mongodb://host:port")
@click.option("--knowledge-base", required=True, help="The manifest's engine.kato.knowledgeBase.")
def patterns(uri: str, knowledge_base: str) -> None:
    """Print every pattern as NODE<TAB>NAME<TAB>FREQUENCY, sorted by level, then name.

    The SHA-256 of exactly this text is a run's status.result.digest:

    \b
      shardwise kato patterns --store sqlite:///patterns.db --knowledge-base pydocs | sha256sum
    """
    with _opened(uri) as store:
        config = store.knowledge_base(name=knowledge_base)
        if config is None:
            raise WorkError(f"--knowledge-base {knowledge_base}: there is none of this name in {redacted(uri)}")
        for node in config.nodes:
            frequencies = store.frequencies(node_id=node_id(knowledge_base, node))
            print_exactly(digest_lines(node, frequencies))


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
    from .server.run import serve as serve_until_told
    from .server.settings import Settings

    try:
        serve_until_told(host=host, port=port, store_uri=uri, settings=Settings.from_environment(os.environ))
    except WorkError as error:
        _give_up(error)


def _give_up(error: WorkError) -> NoReturn:
    echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)


@contextmanager
def _opened(uri: str) -> Iterator[PatternStore]:
    try:
        with closing(open_store(uri, read_only=True)) as store:
            yield store
    except WorkError as error:
        _give_up(error)
