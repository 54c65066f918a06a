"""`shardwise kato …`: look into a pattern store; what serves one is added by `shardwise_jobs.services.kato.cli`."""

from __future__ import annotations

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


def give_up(error: WorkError) -> NoReturn:
    """Say what went wrong and leave with its exit code."""
    echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)


@contextmanager
def _opened(uri: str) -> Iterator[PatternStore]:
    try:
        with closing(open_store(uri, read_only=True)) as store:
            yield store
    except WorkError as error:
        give_up(error)
