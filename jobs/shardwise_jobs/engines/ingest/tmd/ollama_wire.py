"""One HTTP call to an Ollama-compatible server, and what its failure says about another try."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic_core import to_json

from shardwise.engine.errors import BadConfiguration, Unavailable
from shardwise.engine.http_client import client_options
from shardwise.engine.secrets import remember
from shardwise_api.terminal import excerpt
from shardwise_api.uris import redacted
from shardwise_jobs.http_answers import ACCEPTED, Body, UnusableBody

from .parser import ANSWER_TOKENS, SCHEMA, UnusableAnswer

KEEP_ALIVE = "10m"
"""How long the server keeps the model in memory after a call: longer than a block's embedding and writing take."""

_CONNECT_SECONDS = 5.0
_ASK_MODEL_SECONDS = 5.0
"""For what is good to know and not needed: a server that leaves the question open must not hold up the work."""
_IDLE_SECONDS = 2.0
"""Gateways drop idle connections after 5 s; one given up earlier can't be dropped just as a request goes out."""
_LARGEST_ANSWER = 1_000_000
"""Bytes. An answer is a few hundred; a server that sends without end must not fill the worker's memory."""
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_ABOUT_THE_TEXT = frozenset({400, 413, 422})
_EXCERPT = 200


class Unreachable(Unavailable):
    """No usable HTTP answer came: another try may help. A call changes nothing, so it may always be repeated."""


class Refused(BadConfiguration):
    """The server said no, and would say so again."""

    def __init__(self, message: str, *, about_the_text: bool) -> None:
        super().__init__(message)
        self.about_the_text = about_the_text
        """Whether what was sent was refused, rather than that anything was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model said."""

    words: str
    complete: bool
    """False when it was cut off at the number of tokens allowed."""
    thought: bool = False
    """The server kept apart what the model thought."""


class OllamaWire:
    """Connections to one server, for one event loop."""

    def __init__(self, *, endpoint: str, timeout_seconds: float, connections: int) -> None:
        """Prepare a client; nothing is sent yet. `endpoint` may lack its scheme.

        Raises:
            BadConfiguration: it is no URL of a server.
        """
        try:
            url = httpx.URL(normal_endpoint(endpoint))
        except httpx.InvalidURL as error:
            raise BadConfiguration(f"the LLM's endpoint {redacted(endpoint)!r} is no URL: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise BadConfiguration(f"the LLM's endpoint {redacted(endpoint)!r} is no http or https URL")
        remember(str(url))
        self.shown_url = str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._http = httpx.AsyncClient(
            base_url=url,
            headers=ACCEPTED,
            # Who waits for a connection is not late: the server has not been asked yet.
            timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS), pool=None),
            **client_options(str(url)),
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_IDLE_SECONDS
            ),
        )

    async def generate(self, *, model: str, prompt: str, seed: int, think: bool | None = None) -> Reply:
        """Ask the model; `think` is sent unless it is None, as only servers that know the word take it.

        Raises:
            Unreachable: no answer, or one that asks for patience.
            Refused: the server won't.
            UnusableAnswer: an answer that is not of this protocol.
        """
        answer = await self._call(
            "POST",
            "/api/generate",
            {
                "model": model,
                "prompt": prompt,
                "stream": False,
                "keep_alive": KEEP_ALIVE,
                "options": {"temperature": 0, "top_k": 1, "num_predict": ANSWER_TOKENS, "seed": seed},
                "format": SCHEMA,
                **({} if think is None else {"think": think}),
            },
        )
        words = answer.get("response")
        if not isinstance(words, str) or answer.get("done") is not True:
            said = excerpt(json.dumps(answer), longest=_EXCERPT)
            raise UnusableAnswer(f"the server's answer has no finished response: {said}")
        thought = isinstance(answer.get("thinking"), str) and bool(answer["thinking"].strip())
        return Reply(words=words, complete=answer.get("done_reason", "stop") == "stop", thought=thought)

    async def thinks(self, *, model: str) -> bool:
        """Say whether a model thinks before it answers, and can be told not to. Raises as `generate`."""
        shown = await self._call("POST", "/api/show", {"model": model}, seconds=_ASK_MODEL_SECONDS)
        capabilities = shown.get("capabilities")
        return isinstance(capabilities, list) and "thinking" in capabilities

    async def load(self, *, model: str) -> None:
        """Have the model loaded, so that the first chunk does not wait for it. Raises as `generate`."""
        # An empty prompt is the protocol's word for it.
        await self._call(
            "POST", "/api/generate", {"model": model, "prompt": "", "stream": False, "keep_alive": KEEP_ALIVE}
        )

    async def models(self) -> list[str]:
        """Return the names of the models the server has. Raises as `generate`."""
        listed = (await self._call("GET", "/api/tags")).get("models")
        found = listed if isinstance(listed, list) else []
        return [str(each.get("name")) for each in found if isinstance(each, dict)]

    async def version(self) -> str:
        """Return the server's version: it is alive. Raises as `generate`."""
        return str((await self._call("GET", "/api/version")).get("version"))

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float = math.inf
    ) -> dict[str, Any]:
        request = self._http.build_request(
            method,
            path,
            content=None if body is None else to_json(body),
            headers=None if body is None else {"content-type": "application/json"},
        )
        named = f"{method} {self.shown_url}{path}"
        limit = min(seconds, self._timeout_seconds + min(self._timeout_seconds, _CONNECT_SECONDS))
        try:
            # The client's own limit begins anew with each piece, so a server that drips would never be late.
            async with asyncio.timeout(limit):
                status, content = await self._send(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"{named}: no connection: {_reason(error)}") from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise Unreachable(f"{named}: no answer within {min(seconds, self._timeout_seconds):g} s") from error
        except httpx.HTTPError as error:
            raise Unreachable(f"{named}: the connection broke: {_reason(error)}") from error
        if status == httpx.codes.OK:
            return _object(content)
        what = f"{named}: answered {status}{_said(content)}"
        if status in _TRY_AGAIN:
            raise Unreachable(what)
        raise Refused(what, about_the_text=status in _ABOUT_THE_TEXT)

    async def _send(self, request: httpx.Request) -> tuple[int, bytes]:
        response = await self._http.send(request, stream=True)
        try:
            body = Body(response, most_bytes=_LARGEST_ANSWER)
            async for piece in response.aiter_raw():
                body.add(piece)
            return response.status_code, body.whole()
        except UnusableBody as error:
            raise UnusableAnswer(f"the server's answer is unusable: {error}") from error
        finally:
            await response.aclose()


def normal_endpoint(endpoint: str) -> str:
    """Return an endpoint with its scheme (http unless given) and without slashes at its end."""
    endpoint = endpoint.strip()
    return (endpoint if "://" in endpoint else f"http://{endpoint}").rstrip("/")


def _object(content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UnusableAnswer(f"the server's answer is no JSON object{_said(content)}")
    return answer


def _said(content: bytes) -> str:
    try:
        text = json.loads(content)["error"]
    except (ValueError, RecursionError, KeyError, TypeError):
        text = content.decode("utf-8", "replace")
    return f": {excerpt(str(text), longest=_EXCERPT)}" if content else ""


def _reason(error: Exception) -> str:
    # Of a broken answer it quotes the bytes.
    return excerpt(str(error), longest=_EXCERPT) or type(error).__name__
