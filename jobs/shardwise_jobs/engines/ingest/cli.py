"""`shardwise ingest …`: ask an index or make one, and look into a store of rows.

What fills one over HTTP is added by `shardwise_jobs.services.ingest.cli`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

import click
from pydantic import ValidationError

from shardwise.engine.errors import BadConfiguration, WorkError
from shardwise.engine.files import OutputFolder
from shardwise_api.ingest import Embedding, EmbeddingBackendKind, IndexKind
from shardwise_api.terminal import echo, print_exactly, to_json
from shardwise_api.wire import Environment

if TYPE_CHECKING:
    from .codes import Codes

_TEXT_SHOWN = 160
_STORE = click.option(
    "--store",
    "uri",
    required=True,
    envvar=Environment.STORE_URI,
    show_envvar=True,
    help="sqlite:///file.db or postgresql://user@host/database",
)


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
@click.option(
    "--model", help="The sentence-transformers model's folder, when the run named one that lies elsewhere now."
)
@click.option("--codes", metavar="D,T,M", help="Compare rows' codes too: domain, task and modifier as numbers.")
@click.option("-k", "--count", default=5, show_default=True, type=click.IntRange(1, 1000), help="Answers.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def search(
    text: str, folder: str, uri: str | None, model: str | None, codes: str | None, count: int, output: str
) -> None:
    """Print the rows nearest to TEXT, best first.

    \b
      shardwise ingest search --index .shardwise/pydocs/output "how do I read a file line by line?"
      shardwise ingest search --index .shardwise/pydocs/output --codes 15,14,9 "how do I read a file line by line?"
    """
    from . import factories
    from .index import VectorIndex
    from .index import search as find
    from .stores import open_store

    with exits_on_error():
        if not text.strip():
            raise BadConfiguration("TEXT: is blank")
        wanted = None if codes is None else _codes(codes)
        index = VectorIndex.read(folder)
        summary = _summary(folder)
        uri = uri or summary.get("store") or os.environ.get(Environment.STORE_URI)
        if not uri:
            raise BadConfiguration(
                f"--store: the run's store came from a Secret; name it, or set {Environment.STORE_URI}"
            )
        with (
            closing(open_store(uri, read_only=True)) as store,
            closing(
                factories.open_embedder(_embedding(summary, made_with=index.manifest.model, model=model))
            ) as embedder,
        ):
            store.check()
            answers = find(text, index=index, store=store, embedder=embedder, k=count, codes=wanted)
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
            click.echo(to_json(found))
        else:
            echo(f"{answer.score:6.3f}  {_place(row.chunk_position)}  [{' / '.join(row.codes.names)}]")
            echo(f"        {_cut(row.source_chunk)}")


@ingest.command()
@_STORE
@click.option("--dataset", required=True, help="The manifest's datasetSource.")
def rows(uri: str, dataset: str) -> None:
    """Print a line per row: id, digest of the text, codes, who gave them, embedding model; in order of ids.

    The SHA-256 of exactly this text is a run's status.result.digest:

    \b
      shardwise ingest rows --store sqlite:///chunks.db --dataset pydocs | sha256sum
    """
    from .finalize import digest_lines
    from .stores import open_store

    with exits_on_error(), closing(open_store(uri, read_only=True)) as store:
        store.check()
        keys = store.row_keys(dataset=dataset)
        first = next(keys, None)
        if first is None:
            # Or nothing at all would be hashed, which looks like a digest.
            raise _no_rows(dataset)
        print_exactly(digest_lines(chain([first], keys)))


@ingest.command()
@_STORE
@click.option("--dataset", required=True, help="The manifest's datasetSource, or the requests' dataset_source.")
@click.option("--output", "folder", required=True, help="A folder or URI for index.faiss and index.json.")
@click.option("--kind", type=click.Choice([*map(str, IndexKind)]), default="Flat", show_default=True)
@click.option(
    "--tmd-weight", default=1.0, show_default=True, type=click.FloatRange(0, 100), help="How much the codes count."
)
@click.option(
    "--nprobe",
    default=16,
    show_default=True,
    envvar="FAISS_NPROBE",
    show_envvar=True,
    type=click.IntRange(1),
    help="Of kind IVF: lists that a search with codes looks into; one without looks into all.",
)
def index(uri: str, dataset: str, folder: str, kind: str, tmd_weight: float, nprobe: int) -> None:
    """Build the FAISS index of a data set's rows, as the end of `shardwise run` does.

    For rows that `shardwise ingest serve` has written; build it anew when there are more.

    \b
      shardwise ingest index --store sqlite:///chunks.db --dataset user_input --output index
      shardwise ingest search --store sqlite:///chunks.db --index index "genetic information"
    """
    from .codes import DENSE_WIDTH
    from .index import VectorIndex
    from .stores import open_store

    with exits_on_error():
        with closing(open_store(uri, read_only=True)) as store:
            model = store.check()
            counted = store.counts(dataset=dataset).vectors
            if not counted:
                raise _no_rows(dataset)
            built = VectorIndex.build(
                store.vectors(dataset=dataset),
                count=counted,
                dimension=model.dimension + DENSE_WIDTH,
                kind=IndexKind(kind),
                tmd_weight=tmd_weight,
                model=model.name,
                dataset=dataset,
            )
        built.manifest = replace(built.manifest, nprobe=min(nprobe, built.manifest.nlist))
        made = built.write(OutputFolder(folder))
    echo(f"{made}: {built.manifest.ntotal} vectors of {model.dimension + DENSE_WIDTH} numbers, {kind}")


def _summary(folder: str) -> dict[str, Any]:
    """Return what the run that made an index says of itself; empty when the index was moved without it."""
    from .finalize import SUMMARY_FILE

    output = OutputFolder(folder)
    content = output.read_bytes(SUMMARY_FILE)
    if content is None:
        return {}
    try:
        found = json.loads(content)
        if not isinstance(found, dict) or not isinstance(found.get("store") or "", str):
            raise ValueError("it is no summary of a run")
    except (ValueError, RecursionError) as error:
        raise BadConfiguration(
            f"--index: {output.uri_of(SUMMARY_FILE)}: {error}; without that file, name the store with --store"
        ) from error
    return found


def _no_rows(dataset: str) -> BadConfiguration:
    return BadConfiguration(f"--dataset {dataset}: the store has no rows of it")


def _embedding(summary: dict[str, Any], *, made_with: str, model: str | None) -> Embedding:
    """Return the embedding of an index, as its run says, or its vectors' name where there was no run."""
    from .embed.sentence_transformers import model_of

    backend, _, _ = made_with.partition(":")
    sentences = backend == EmbeddingBackendKind.SENTENCE_TRANSFORMERS
    named = {"backend": backend, "model": model_of(made_with)} if sentences else {}
    try:
        embedding = Embedding.model_validate(summary.get("embedding", named))
    except ValidationError as error:
        raise BadConfiguration(f"--index: summary.json: embedding: {error}") from error
    if model is None:
        return embedding
    if embedding.backend is EmbeddingBackendKind.ONNX:
        raise BadConfiguration(
            f"--model: the index is of {made_with}, and only sentence-transformers takes a name; where the folder of "
            "this one is not the default, SHARDWISE_MODEL names it"
        )
    return embedding.model_copy(update={"model": model})


def _place(position: Any) -> str:
    title = position.get("article_title")
    return f"{position.get('source')} #{position.get('chunk_index')}" + (f" ({title})" if title else "")


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_SHOWN else line[:_TEXT_SHOWN] + "…"


def _codes(text: str) -> Codes:
    from .codes import Codes

    try:
        domain, task, modifier = map(int, text.split(","))
        return Codes(domain, task, modifier)
    except ValueError as error:
        raise BadConfiguration(f"--codes: three numbers as 15,14,9, got {text!r} ({error})") from error


@contextmanager
def exits_on_error() -> Iterator[None]:
    """Say what went wrong and leave with its exit code."""
    try:
        yield
    except WorkError as error:
        _give_up(error)


def _give_up(error: WorkError) -> NoReturn:
    echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)
