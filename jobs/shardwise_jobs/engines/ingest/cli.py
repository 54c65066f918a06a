"""`shardwise ingest …`: ask an index, and look into a store of rows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NoReturn

import click
from pydantic import ValidationError

from shardwise_api.ingest import Embedding
from shardwise_api.wire import Environment
from shardwise_jobs.errors import BadConfiguration, WorkError
from shardwise_jobs.files import OutputFolder

_TEXT_SHOWN = 160


@click.group()
def ingest() -> None:
    """Rows, codes and indexes of ingested chunks."""


@ingest.command()
@click.argument("text")
@click.option("--index", "folder", required=True, help="The run's output: a folder or URI with index.faiss.")
@click.option(
    "--store",
    "uri",
    help="Where the rows are; the run's store unless given, or SHARDWISE_STORE_URI where a Secret named it.",
)
@click.option("--model", help="The embedding model's folder, when the run named one that lies elsewhere now.")
@click.option("-k", "--count", default=5, show_default=True, type=click.IntRange(1, 1000), help="Answers.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def search(text: str, folder: str, uri: str | None, model: str | None, count: int, output: str) -> None:
    """Print the rows nearest to TEXT, best first.

    \b
      shardwise ingest search --index .shardwise/pydocs/output "how do I read a file line by line?"
    """
    from . import parts
    from .index import VectorIndex
    from .search import search as find
    from .stores import open_store

    with _told():
        if not text.strip():
            raise BadConfiguration("TEXT: is blank")
        index = VectorIndex.read(folder)
        summary = _summary(folder)
        uri = uri or summary.get("store") or os.environ.get(Environment.STORE_URI)
        if not uri:
            raise BadConfiguration(
                f"--store: the run's store came from a Secret; name it, or set {Environment.STORE_URI}"
            )
        with (
            closing(open_store(uri, read_only=True)) as store,
            closing(parts.open_embedder(_embedding(summary, model=model))) as embedder,
        ):
            store.check()
            answers = find(text, index=index, store=store, embedder=embedder, k=count)
    for answer in answers:
        row = answer.row
        if output == "json":
            found = {
                "score": round(answer.score, 6),
                "cpe_id": str(row.cpe_id),
                "text": row.source_chunk,
                "tmd": dict(zip(("domain", "task", "modifier"), row.codes.names, strict=True)),
                "chunk_position": row.chunk_position,
                "parent_cpe_ids": list(row.parent_cpe_ids),
                "child_cpe_ids": list(row.child_cpe_ids),
            }
            click.echo(json.dumps(found, ensure_ascii=False))
        else:
            click.echo(f"{answer.score:6.3f}  {_place(row.chunk_position)}  [{' / '.join(row.codes.names)}]")
            click.echo(f"        {_cut(row.source_chunk)}")


@ingest.command()
@click.option("--store", "uri", required=True, help="sqlite:///file.db or postgresql://user@host/database")
@click.option("--dataset", required=True, help="The manifest's datasetSource.")
def rows(uri: str, dataset: str) -> None:
    """Print a line per row: id, digest of the text, codes, who gave them, embedding model; in order of ids.

    The SHA-256 of exactly this text is a run's status.result.digest:

    \b
      shardwise ingest rows --store sqlite:///chunks.db --dataset pydocs | sha256sum
    """
    from .digests import digest_lines
    from .stores import open_store

    with _told(), closing(open_store(uri, read_only=True)) as store:
        store.check()
        sys.stdout.writelines(digest_lines(store.row_keys(dataset=dataset)))


def _summary(folder: str) -> dict[str, Any]:
    """Return what the run that made an index says of itself; empty when the index was moved without it."""
    from .finalize import SUMMARY_FILE

    text = OutputFolder(folder).read_text(SUMMARY_FILE)
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _embedding(summary: dict[str, Any], *, model: str | None) -> Embedding:
    try:
        embedding = Embedding.model_validate(summary.get("embedding", {}))
    except ValidationError as error:
        raise BadConfiguration(f"--index: summary.json: embedding: {error}") from error
    return embedding if model is None else embedding.model_copy(update={"model": model})


def _place(position: Any) -> str:
    title = position.get("article_title")
    return f"{position.get('source')} #{position.get('chunk_index')}" + (f" ({title})" if title else "")


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_SHOWN else line[:_TEXT_SHOWN] + "…"


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except WorkError as error:
        _give_up(error)


def _give_up(error: WorkError) -> NoReturn:
    click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)
