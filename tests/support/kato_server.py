"""The real KATO session server as a process of its own on a free loopback port, and a client that reads like prose."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from .listening import Listening, listening

_OWN_VARIABLES = (
    "KATO_BATCH_SIZE",
    "KATO_MAX_SESSIONS",
    "KATO_SESSION_MEMORY_MIB",
    "KATO_PREDICTION_SECONDS",
    "CONNECTION_POOL_SIZE",
    "REQUEST_TIMEOUT",
    "SESSION_TTL",
    "SESSION_AUTO_EXTEND",
    "SERVICE_NAME",
    "LOG_LEVEL",
    "KATO_EXTENSIONS",
)

Json = dict[str, Any]


KatoServer = Listening


def command(*, store_uri: str, port: int = 0) -> list[str]:
    """Return the command line of a server on a loopback port, 0 for a free one."""
    module = "shardwise_jobs.services.kato"
    return [sys.executable, "-m", module, "--host", "127.0.0.1", "--port", str(port), "--store", store_uri]


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without the server's own variables, and with `changes`."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    return {**inherited, **changes}


@contextmanager
def kato_server(*, store_uri: str, settings: Mapping[str, str] | None = None, port: int = 0) -> Iterator[KatoServer]:
    """Start a server, wait until it listens, and stop it at the end unless the test did."""
    with listening(command(store_uri=store_uri, port=port), environment=environment(settings or {})) as server:
        yield server


def new_node() -> str:
    """Return a node id that no other test uses."""
    return f"node-{uuid.uuid4().hex}"


def events(*tokens: str) -> list[Json]:
    """Return observations of one token each."""
    return [{"strings": [token]} for token in tokens]


class Wire:
    """Speaks the protocol and expects 200 unless told otherwise."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def session(self, node_id: str | None = None, *, ttl_seconds: int | None = None, **config: Any) -> str:
        """Create a session and return its id; on a node of its own unless one is named."""
        body = {"node_id": node_id or new_node(), "config": config, "ttl_seconds": ttl_seconds}
        created: str = self.send("POST", "/sessions", body)["session_id"]
        return created

    def send(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """Send a request and return the parsed answer."""
        response = self.http.request(method, path, json=body) if body is not None else self.http.request(method, path)
        assert response.status_code == status, response.text
        return response.json()

    def get(self, session: str, what: str) -> Any:
        """Read something of a session."""
        return self.send("GET", f"/sessions/{session}/{what}")

    def post(self, session: str, call: str, body: Any = None, *, status: int = 200) -> Any:
        """Make a call on a session."""
        return self.send("POST", f"/sessions/{session}/{call}", body, status=status)

    def observe(self, session: str, *strings: str, **more: Any) -> Any:
        """Observe one event."""
        return self.post(session, "observe", {"strings": list(strings), **more})

    def sequence(self, session: str, observations: Sequence[Json], **flags: Any) -> Any:
        """Observe many events in one call."""
        return self.post(session, "observe-sequence", {"observations": list(observations), **flags})

    def learn_tokens(self, session: str, *tokens: str) -> str:
        """Learn tokens as one pattern, and return its name."""
        name: str = self.sequence(session, events(*tokens), learn_at_end=True)["final_learned_pattern"]
        return name

    def stm(self, session: str) -> list[list[str]]:
        """Return a session's short-term memory."""
        stm: list[list[str]] = self.get(session, "stm")["stm"]
        return stm

    def pattern(self, node_id: str, name: str) -> Json:
        """Return a stored pattern."""
        answer = self.http.get(f"/pattern/{name.replace('|', '%7C')}", params={"node_id": node_id}).json()
        assert answer["pattern"]["status"] == "okay", answer
        found: Json = answer["pattern"]["pattern"]
        return found
