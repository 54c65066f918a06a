"""`shardwise ingest serve` as a process of its own, and a client that expects 200 unless told otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from shardwise_jobs.engines.ingest.embed.onnx_model import FOLDER_VARIABLE
from shardwise_jobs.engines.ingest.stores import Row, open_store

from .cli import SHARDWISE
from .listening import Listening, listening

_OWN_VARIABLES = ("LNSP_", "OLLAMA_", "PG", "FAISS_", "SHARDWISE_STORE_URI")

Json = dict[str, Any]


class IngestService:
    """A running service, which keeps its default store in `folder`."""

    def __init__(self, *, server: Listening, http: httpx.Client, folder: Path) -> None:
        self.server = server
        self.url = server.url
        self.http = http
        self.store = f"sqlite:///{folder / 'chunks.db'}"

    def ingest(self, *chunks: Json, status: int = 200, **head: Any) -> Json:
        """Send chunks and return the answer."""
        return self.send("POST", "/ingest", {"chunks": chunks, **head}, status=status)

    def get(self, path: str, *, status: int = 200) -> Json:
        """Read something."""
        return self.send("GET", path, status=status)

    def send(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Json:
        """Send a request and return the parsed answer."""
        response = self.http.request(method, path, json=body)
        assert response.status_code == status, response.text
        found: Json = response.json()
        return found

    def end(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.server.process.send_signal(number)


def command(*options: str, port: int = 0) -> list[str]:
    """Return the command line of a service on a loopback port, 0 for a free one."""
    return [str(SHARDWISE), "ingest", "serve", "--port", str(port), *options]


def environment(*, model: Path, changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without the service's own variables, and with `changes`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_VARIABLES)}
    return {**inherited, FOLDER_VARIABLE: str(model), **changes}


@contextmanager
def ingest_service(*options: str, model: Path, folder: Path, **variables: str) -> Iterator[IngestService]:
    """Start a service in a folder, wait until it listens, and stop it at the end unless the test did."""
    with (
        listening(command(*options), environment=environment(model=model, changes=variables), folder=folder) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        yield IngestService(server=server, http=http, folder=folder)


def rows_of(store: str) -> list[Row]:
    """Return all rows of a store, by id."""
    with closing(open_store(store, read_only=True)) as opened:
        return list(opened.rows())


def texts_of(answer: Json, *, success: bool) -> Sequence[str]:
    """Return the texts of the chunks that an answer tells one thing of."""
    return [result["concept_text"] for result in answer["results"] if result["success"] is success]
