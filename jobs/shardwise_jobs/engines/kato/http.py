"""One HTTP call to a KATO server, and what may be done when it goes wrong.

Observing and learning are not idempotent: a repeated request can double a frequency. Therefore each failure is sorted
by one question, whether the server can have processed the request, before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic_core import to_json
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from shardwise.engine.errors import Unavailable, WorkError
from shardwise.engine.http_client import client_options
from shardwise.engine.secrets import remember
from shardwise.engine.stop import interruptible_sleep
from shardwise_api.http_guard import HttpLimits, json_flaw
from shardwise_jobs.http_answers import ACCEPTED, CallDeadline, UnusableBody, content_of, lines_of

Json = dict[str, Any]

_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 2.0
"""Servers drop idle connections after 5 s; one given up earlier can't be dropped just as a request goes out."""
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 10.0
_EXCERPT = 200
_MOST_ANSWER_BYTES = 64 << 20
_MOST_LINE_BYTES = 1 << 20
_ANSWERS = HttpLimits(values=5_000_000)
_SESSION_NOT_FOUND = "SESSION_NOT_FOUND"


class KatoError(WorkError):
    """A call to a KATO server failed; the message has method, URL and what happened, in one line."""


class Unreachable(KatoError, Unavailable):
    """The request never reached the server's program: no connection, or refused at its limit of connections."""


class LostAnswer(KatoError):
    """The request went out and no usable answer came back: it may have been processed, or not."""


class SessionLost(KatoError):
    """The session is unknown or expired; the server did nothing."""


class Refused(KatoError):
    """The server understood the request and said no; a repetition would get the same answer."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True, kw_only=True)
class Statistics:
    """What talking to the server took."""

    calls: int = 0
    """Requests sent, repeated ones included."""
    retries: int = 0
    sessions_recreated: int = 0


class HttpClient:
    """Connections to one server, shared by the sessions of a worker."""

    def __init__(
        self, *, base_url: str, timeout_seconds: float = 120, max_attempts: int = 3, pool_size: int = 50
    ) -> None:
        self.statistics = Statistics()
        self.max_attempts = max_attempts
        self.timeout_seconds = timeout_seconds
        url = httpx.URL(base_url.rstrip("/"))
        remember(base_url)
        self.shown_url = str(url.copy_with(userinfo=b"", query=None, fragment=None))
        self._http = httpx.Client(
            base_url=url,
            headers=ACCEPTED,
            timeout=_timeout(timeout_seconds),
            **client_options(str(url)),
            limits=httpx.Limits(
                max_connections=pool_size, max_keepalive_connections=pool_size, keepalive_expiry=_IDLE_SECONDS
            ),
        )
        self._deadline = CallDeadline(self._http)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str | int] | None = None,
        repeatable: bool,
        attempts: int | None = None,
        timeout_seconds: float | None = None,
    ) -> Json:
        """Send a request and return the JSON object it is answered with.

        What never reached the server's program is sent again in any case, a lost answer only when `repeatable`.

        Raises:
            Unreachable: the server can't be reached, after several tries.
            LostAnswer: the answer broke off, timed out or was a server error.
            SessionLost: the server doesn't know the session.
            Refused: any other answer that isn't 2xx.
        """
        again: tuple[type[KatoError], ...] = (Unreachable, LostAnswer) if repeatable else (Unreachable,)
        content = None if body is None else to_json(body)
        request = self._http.build_request(
            method,
            path,
            content=content,
            params=params,
            headers=None if content is None else {"content-type": "application/json"},
            timeout=_timeout(timeout_seconds or self.timeout_seconds),
        )
        tries = 0
        try:
            for attempt in self.retrying(again, attempts=attempts):
                with attempt:
                    tries += 1
                    return self._once(request)
        except (Unreachable, LostAnswer) as error:
            if tries > 1:
                raise type(error)(f"{error} ({tries} tries)") from error
            raise
        raise AssertionError("a retry loop either returns or raises")

    def retrying(self, errors: tuple[type[KatoError], ...], *, attempts: int | None = None) -> Retrying:
        """Return the retry loop of this connection: jittered exponential backoff, the last error is raised."""
        return Retrying(
            stop=stop_after_attempt(attempts or self.max_attempts),
            wait=wait_exponential(multiplier=_FIRST_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS)
            + wait_random(0, _FIRST_WAIT_SECONDS),
            retry=retry_if_exception_type(errors),
            sleep=interruptible_sleep,
            before_sleep=self._count_retry,
            reraise=True,
        )

    def _count_retry(self, _: RetryCallState) -> None:
        self.statistics.retries += 1

    def _once(self, request: httpx.Request) -> Json:
        self.statistics.calls += 1
        with self._translated(request), self._deadline.within(_whole_call_seconds(request)):
            streamed = self._http.send(request, stream=True)
            response = self._received(streamed)
        self._check(response)
        if json_flaw(response.content, limits=_ANSWERS) is not None:
            raise LostAnswer(f"{_named(request)}: answered {response.status_code} with too much JSON, or too deep")
        answer = _json_of(response)
        if not isinstance(answer, dict):
            raise LostAnswer(
                f"{_named(request)}: answered {response.status_code} without a JSON object{_excerpt(response)}"
            )
        return answer

    def _received(self, streamed: httpx.Response) -> httpx.Response:
        """Return an answer with its body, which has a size."""
        try:
            content = content_of(streamed, most_bytes=_MOST_ANSWER_BYTES)
        finally:
            streamed.close()
        # Without the headers that say how the body was packed: it is no more.
        kept = {name: streamed.headers[name] for name in ("content-type",) if name in streamed.headers}
        return httpx.Response(streamed.status_code, headers=kept, content=content, request=streamed.request)

    def lines(self, path: str) -> Iterator[str]:
        """Yield the lines of a streamed text answer; opening it is retried, a break in the middle is not."""
        request = self._http.build_request("GET", path)
        for attempt in self.retrying((Unreachable, LostAnswer)):
            with attempt:
                self.statistics.calls += 1
                with self._translated(request), self._deadline.within(_whole_call_seconds(request)):
                    response = self._http.send(request, stream=True)
                    if response.status_code != httpx.codes.OK:
                        self._check(self._received(response))
        try:
            with self._translated(request), self._deadline.within(_whole_call_seconds(request)):
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise UnusableBody("the answer is compressed, which was not asked for")
                for line in lines_of(response.iter_raw(), most_bytes=_MOST_LINE_BYTES):
                    yield line
                    # Of any length, but each line in time; what is done with one takes nothing from the next.
                    self._deadline.renew(_whole_call_seconds(request))
        finally:
            response.close()

    @contextmanager
    def _translated(self, request: httpx.Request) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unreachable(f"{_named(request)}: no connection: {_reason(error)}") from error
        except httpx.TimeoutException as error:
            limit = request.extensions.get("timeout", {}).get("read", self.timeout_seconds)
            raise LostAnswer(f"{_named(request)}: no answer within {limit:g} s") from error
        except httpx.TransportError as error:
            raise LostAnswer(f"{_named(request)}: the connection broke: {_reason(error)}") from error
        except UnusableBody as error:
            raise LostAnswer(f"{_named(request)}: {error}") from error

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        status = response.status_code
        what = f"{_named(response.request)}: answered {status}{_excerpt(response)}"
        if _is_concurrency_limit(response):
            raise Unreachable(what)
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise LostAnswer(what)
        if status == httpx.codes.NOT_FOUND and _names_lost_session(response):
            raise SessionLost(what)
        raise Refused(what, status=status)


def _named(request: httpx.Request) -> str:
    # A password in the URL is not for logs.
    return f"{request.method} {request.url.copy_with(userinfo=b'')}"


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))


def _whole_call_seconds(request: httpx.Request) -> float:
    # A connection is waited for besides, as each is.
    limits = request.extensions["timeout"]
    return float(limits["read"] + limits["connect"])


def _json_of(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _is_concurrency_limit(response: httpx.Response) -> bool:
    # uvicorn's own words, said before the application sees anything; a gateway's 503 can come after it has.
    return (
        response.status_code == httpx.codes.SERVICE_UNAVAILABLE
        and response.headers.get("content-type", "").startswith("text/plain")
        and response.text.strip() == "Service Unavailable"
    )


def _names_lost_session(response: httpx.Response) -> bool:
    if json_flaw(response.content, limits=_ANSWERS) is not None:
        return False
    body = _json_of(response)
    if not isinstance(body, dict):
        return False
    error, detail = body.get("error"), body.get("detail")
    if isinstance(error, dict):
        return bool(error.get("code") == _SESSION_NOT_FOUND)
    return isinstance(detail, str) and detail.startswith("Session ") and detail.endswith("not found or expired")


def _excerpt(response: httpx.Response) -> str:
    text = " ".join(response.text.split())
    if len(text) > _EXCERPT:
        text = text[:_EXCERPT] + "…"
    return f": {text}" if text else ""


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
