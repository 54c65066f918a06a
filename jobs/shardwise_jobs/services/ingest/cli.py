"""`shardwise ingest …`: the engine's own commands, and the one that fills a store of rows over HTTP."""

from __future__ import annotations

import os

import click

from shardwise.engine.errors import BadConfiguration
from shardwise_api.ingest import TmdBackendKind
from shardwise_jobs.engines.ingest.cli import exits_on_error, ingest

__all__ = ["ingest", "serve"]


@ingest.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8004, show_default=True, help="0 picks a free one; it is printed.")
@click.option("--store", help="Where rows go. Instead of SHARDWISE_STORE_URI or PG_DSN; else sqlite:///chunks.db")
@click.option(
    "--tmd",
    type=click.Choice([*map(str, TmdBackendKind)]),
    help="Who gives codes: an LLM, the nearest labels in the embedding space, or every chunk its own. Unless given: "
    "ollama when an endpoint, a model or a provider is named, else embedded.",
)
@click.option("--endpoint", help="Of the LLM. Instead of LNSP_LLM_ENDPOINT; else http://localhost:11434")
@click.option("--llm", help="The LLM. Instead of LNSP_TMD_LLM_MODEL or LNSP_LLM_MODEL; else tinyllama:1.1b")
@click.option("--workers", type=int, help="Questions at once. Instead of LNSP_MAX_PARALLEL_WORKERS; else 10")
@click.option("--timeout", type=float, help="Seconds for one answer of the LLM.  [default: 60]")
@click.option("--retries", type=int, help="Further tries of a question.  [default: 3]")
@click.option("--model", help="A sentence-transformers model, by name or folder. Unless given: MiniLM on onnxruntime")
def serve(
    host: str,
    port: int,
    store: str | None,
    tmd: str | None,
    endpoint: str | None,
    llm: str | None,
    workers: int | None,
    timeout: float | None,
    retries: int | None,
    model: str | None,
) -> None:
    """Serve the HTTP interface for chunks, until SIGTERM or Ctrl-C. Without any option it needs no other service.

    \b
      shardwise ingest serve
      curl -s http://127.0.0.1:8004/ingest -H 'content-type: application/json' \\
        -d '{"chunks": [{"text": "DNA replication copies genetic information."}]}'

    With an LLM behind an Ollama-compatible API, and PostgreSQL:

    \b
      export PG_DSN='host=localhost dbname=lnsp user=lnsp password=lnsp'
      shardwise ingest serve --endpoint http://localhost:11434 --llm tinyllama:1.1b

    \b
    Other variables:
      LNSP_ENABLE_PARALLEL          true; otherwise the LLM is asked one question at a time
      LNSP_ENABLE_BATCH_EMBEDDINGS  true; otherwise the model is called once per chunk
      LNSP_TMD_MODE                 full; hybrid is not offered
      LNSP_TMD_FAST_FIRST           false; rules by keywords are not offered
      LNSP_ENABLE_CPESH             false; not offered
      LNSP_LLM_PROVIDER             local_llama; there is no other, and no LNSP_ALLOW_MOCK
      SHARDWISE_MODEL               folder of the default embedding model

    A password belongs into a variable: command lines can be read by others. GET / shows what is in force, GET /docs
    the interface. `shardwise ingest index` makes the FAISS index of what was written.
    """
    with exits_on_error():
        try:
            from .app import serve as serve_until_told
            from .settings import Settings
        except ImportError as error:
            raise BadConfiguration(f"serve needs the extra: pip install 'shardwise[ingest]' ({error})") from error

        settings = Settings.from_environment(
            os.environ,
            store=store,
            tmd=tmd,
            endpoint=endpoint,
            tmd_model=llm,
            max_workers=workers,
            timeout_seconds=timeout,
            retries=retries,
            embedding_model=model,
        )
        serve_until_told(host=host, port=port, settings=settings)
