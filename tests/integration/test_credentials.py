"""What a web server asks for comes from the environment, goes to that server alone, and is never shown."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shardwise.engine.credentials import credentials_for, with_credentials
from shardwise.engine.errors import BadConfiguration
from shardwise.engine.files import open_input
from shardwise.engine.secrets import known
from shardwise_jobs.engines.ingest.tmd.ollama_wire import OllamaWire
from shardwise_jobs.engines.kato.http import HttpClient

VARIABLE = "SHARDWISE_URL_CREDENTIALS"
SECRET = "S3cr3t@Pw"
QUOTED = "S3cr3t%40Pw"


@dataclass(kw_only=True)
class Server:
    """A web server, and what it was sent."""

    port: int
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Path with options, and user name with password."""


@contextmanager
def recording() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, encoded = self.headers.get("Authorization", "").partition(" ")
            server.seen.append((self.path, base64.b64decode(encoded).decode()))
            body = b'{"response": "x", "done": true}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_POST = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(port=listening.server_port)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def _read(url: str) -> None:
    with open_input(f"{url}/x.jsonl", field="spec.source") as stream:
        stream.read()


def _call_kato(url: str) -> None:
    wire = HttpClient(base_url=url)
    wire.call("GET", "/status", params={"a": 1}, repeatable=True)
    wire.close()


def _call_llm(url: str) -> None:
    async def call() -> None:
        wire = OllamaWire(endpoint=url, timeout_seconds=10, connections=1)
        await wire.generate(model="m", prompt="p", seed=0)
        await wire.close()

    asyncio.run(call())


@pytest.mark.parametrize("client", [_read, _call_kato, _call_llm])
def test_each_client_sends_what_its_server_asks_for_and_no_other(
    client: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(client)
    with recording() as server, recording() as other:
        monkeypatch.setenv(
            VARIABLE, f"http://user:{QUOTED}@127.0.0.1:{server.port}\n http://127.0.0.1:{server.port}/?token=a%20b"
        )
        client(f"http://127.0.0.1:{server.port}")
        client(f"http://127.0.0.1:{other.port}")
    assert server.seen
    assert all(user == f"user:{SECRET}" for _, user in server.seen)
    assert all("token=a+b" in path or "token=a%20b" in path for path, _ in server.seen)
    assert other.seen
    assert all(user == "" and "token" not in path for path, user in other.seen)


def test_what_the_url_says_goes_first() -> None:
    environment = {VARIABLE: "https://u:p@host https://host?token=t&more=m"}
    assert credentials_for("https://me:mine@HOST:443/x?token=own", environment=environment) == (None, {"more": "m"})
    for url in ("http://host/x", "https://host:8443/x", "https://host.example/x", "s3://host/x", "/host"):
        assert credentials_for(url, environment=environment) == (None, {})


def test_the_rest_of_a_url_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "https://u:p@host?token=t")
    assert with_credentials("https://host/a%20b?x=1&y=%41") == "https://u:p@host/a%20b?x=1&y=%41&token=t"
    assert with_credentials("zip://a") == "zip://a"


@pytest.mark.parametrize(
    "value", ["u:S3cr3t@host", "ftp://u:S3cr3t@h", "https://u:S3cr3t@h/path", "https://u:S3cr3t@h:x"]
)
def test_a_variable_that_is_not_understood_is_named_and_not_shown(value: str) -> None:
    with pytest.raises(BadConfiguration, match=VARIABLE) as caught:
        credentials_for("https://h/x", environment={VARIABLE: value})
    assert "S3cr3t" not in str(caught.value)


def test_all_of_them_are_known_as_secrets() -> None:
    found = known({VARIABLE: f"https://u:{QUOTED}@h https://h?x=value&token=other"})
    assert found >= {SECRET, QUOTED, "value", "other"}
