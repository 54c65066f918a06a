"""Takes the workers' progress reports: POST /v1/progress.

Anybody in the cluster may knock here. So everything that costs nothing is checked first, the API server is asked last
(see tokens), and each pod speaks for its own shard only. A lost report costs nothing, the next one says more: when in
doubt, refuse. A replica that doesn't lead hands reports on to the one that does, once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
from aiohttp import web
from pydantic import ValidationError
from yarl import URL

from shardwise_api.wire import ProgressReport, Step

from ..core.conditions import shortened
from .rate_limit import RateLimit, TokenBuckets
from .tokens import MAX_TOKEN_CHARACTERS, Reviewer, ReviewUnavailable, TokenRefused, read_claim

PATH = "/v1/progress"
PORT = 8090
MAX_BODY_BYTES = 16 * 1024
MAX_URI_CHARACTERS = 2048
READ_SECONDS = 5.0
FORWARD_SECONDS = 3.0
MAX_AT_ONCE = 128
"""Reports that have come and are being answered; one that still comes holds its connection and nothing else."""
SOURCE_SHARE = 4
"""One address may have this part of them: behind a node's address there may be many pods, and never all of them."""
RELAY_SHARE = 2
"""What one address hands on for others may have this part, and each of those its own: their names can be made up."""
REPORTS_PER_POD = RateLimit(per_second=1, burst=5)
"""A worker reports at most every two seconds, and once more at its end."""
FORWARDED = "X-Shardwise-Forwarded"
"""Holds the address that a report came from when another replica hands it on."""
MAX_ADDRESS = 64
_HANDED_BACK = frozenset({204, 400, 401, 403, 408, 413, 415, 422, 429, 503})
_KEPT_HEADERS = ("Content-Type", "Retry-After", "WWW-Authenticate")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodOfRun:
    """Where a pod belongs, as the watches know it."""

    run_uid: str
    namespace: str
    shard: int
    step: Step


class _Refusal(Exception):
    """An answer other than 204."""

    def __init__(self, status: int, text: str, *, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


class ProgressServer:
    """The application and what it needs to know.

    `lookup` tells the pod of a uid, `accept` gets each good report; `counted` gets an outcome per request: `accepted`,
    `forwarded` or the status it was refused with. All are called in the event loop and must not block.
    """

    def __init__(
        self, *, reviewer: Reviewer, lookup: Callable[[str], PodOfRun | None],
        accept: Callable[[ProgressReport], None], leading: Callable[[], bool],
        leader_address: Callable[[], str | None], port: int = PORT,
        counted: Callable[[str], None] = lambda _: None, clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self._reviewer = reviewer
        self._lookup, self._accept = lookup, accept
        self._leading, self._leader_address, self._port = leading, leader_address, port
        self._counted, self._clock, self._now = counted, clock, now
        self._reports = TokenBuckets(REPORTS_PER_POD)
        self._at_once = 0
        self._held = Counter[str]()
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """Return the application; run it without an access log, as Authorization headers are nobody's business."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post(PATH, self._handle)
        app.cleanup_ctx.append(self._forwarding)
        return app

    async def _forwarding(self, _: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=FORWARD_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            self._session = session
            yield
            self._session = None

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            return await self._answer(request)
        except _Refusal as refusal:
            return self._refused(refusal)

    @contextmanager
    def _place(self, request: web.Request) -> Iterator[None]:
        """Hold one of the places while a report is answered."""
        peer, handed_on = request.remote or "", request.headers.get(FORWARDED)
        shares = {peer: SOURCE_SHARE}
        if handed_on is not None:
            shares = {f"{peer} for {handed_on[:MAX_ADDRESS]}": SOURCE_SHARE, f"{peer} for all": RELAY_SHARE}
        if self._at_once >= MAX_AT_ONCE or any(self._held[who] >= MAX_AT_ONCE // part for who, part in shares.items()):
            raise _Refusal(503, "too many reports at once", retry_after=1)
        self._at_once += 1
        self._held.update(shares.keys())
        try:
            yield
        finally:
            self._at_once -= 1
            self._held -= Counter(shares.keys())

    async def _answer(self, request: web.Request) -> web.Response:
        token = _token(request)
        if request.headers.get("Content-Encoding"):
            raise _Refusal(415, "reports are not compressed")
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise _Refusal(413, f"a report has at most {MAX_BODY_BYTES} bytes")
        if not self._leading():
            return await self._forward(request)
        # What the token claims is enough to refuse; only the API server's word is enough to accept.
        try:
            claimed = read_claim(token).pod_uid
        except TokenRefused as error:
            raise _Refusal(401, str(error)) from error
        pod = self._lookup(claimed)
        if pod is None or pod.step is not Step.WORK:
            raise _Refusal(403, "not a working pod of a run")
        report = usable(_parse(await _body(request)), now=self._now())
        if (report.run, report.shard) != (pod.run_uid, pod.shard):
            raise _Refusal(403, "the report is not of this pod's run and shard")
        with self._place(request):
            await self._prove(request, token, claimed=claimed, pod=pod)
        if wait := self._reports.take(claimed, now=self._clock()):
            raise _Refusal(429, "too many reports", retry_after=wait)
        # Leading may have ended while the API server was asked.
        if not self._leading():
            raise _Refusal(503, "not leading any more", retry_after=1)
        self._accept(report)
        self._counted("accepted")
        return web.Response(status=204)

    async def _prove(self, request: web.Request, token: str, *, claimed: str, pod: PodOfRun) -> None:
        peer, handed_on = request.remote or "", request.headers.get(FORWARDED)
        try:
            if handed_on is None:
                identity = await self._reviewer.identify(token, source=peer)
            else:
                identity = await self._reviewer.identify(token, source=handed_on[:MAX_ADDRESS], relay=peer)
        except TokenRefused as error:
            raise _Refusal(401, str(error)) from error
        except ReviewUnavailable as error:
            raise _Refusal(503, str(error), retry_after=error.seconds) from error
        if (identity.pod_uid, identity.namespace) != (claimed, pod.namespace):
            raise _Refusal(403, "the token is not of this pod")

    async def _forward(self, request: web.Request) -> web.Response:
        address = self._leader_address()
        if FORWARDED in request.headers or address is None or self._session is None:
            raise _Refusal(503, "not leading, and no leader is known", retry_after=2)
        body = await _body(request)
        with self._place(request):
            return await self._handed_on(request, body, address=address, session=self._session)

    async def _handed_on(
        self, request: web.Request, body: bytes, *, address: str, session: aiohttp.ClientSession
    ) -> web.Response:
        headers = {"Authorization": request.headers["Authorization"], FORWARDED: request.remote or ""}
        try:
            url = URL.build(scheme="http", host=str(ipaddress.ip_address(address)), port=self._port, path=PATH)
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                status, text = answer.status, await answer.content.read(MAX_BODY_BYTES)
                kept = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise _Refusal(503, "the leader can't be reached", retry_after=2) from error
        if status not in _HANDED_BACK:
            raise _Refusal(503, "the leader gave no usable answer", retry_after=2)
        self._counted("forwarded")
        return web.Response(status=status, body=text or None, headers=kept)

    def _refused(self, refusal: _Refusal) -> web.Response:
        self._counted(str(refusal.status))
        headers = {} if refusal.retry_after is None else {"Retry-After": str(max(1, math.ceil(refusal.retry_after)))}
        if refusal.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return web.json_response({"error": str(refusal)}, status=refusal.status, headers=headers)


def _token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
        raise _Refusal(401, "a bearer token is needed")
    return token


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _Refusal(413, f"a report has at most {MAX_BODY_BYTES} bytes") from error
    except TimeoutError as error:
        raise _Refusal(408, f"the report did not come within {READ_SECONDS:g} s") from error


def _parse(body: bytes) -> ProgressReport:
    try:
        return ProgressReport.model_validate_json(body)
    except ValidationError as error:
        # Fields of ours are named; what the sender made up is not repeated.
        known = [problem["loc"] for problem in error.errors() if problem["type"] != "extra_forbidden"]
        fields = sorted({".".join(map(str, place)) or "body" for place in known}) or ["unknown fields"]
        raise _Refusal(422, f"not a progress report: {', '.join(fields)}") from error


def usable(report: ProgressReport, *, now: datetime) -> ProgressReport:
    """Return a report that is safe to count with; raise _Refusal when there is none in it.

    A worker's clock may be ahead: its times are moved back together, so that its rate stays and "last updated" is
    never in the future, where it would hide a stall.
    """
    if not re.fullmatch(r"[0-9,-]*", report.missing_ranks):
        raise _Refusal(422, "awaited is an interval text")
    if report.checkpoint is not None and len(report.checkpoint.uri) > MAX_URI_CHARACTERS:
        raise _Refusal(422, f"a checkpoint's URI has at most {MAX_URI_CHARACTERS} characters")
    if report.time.tzinfo is None or report.attempt_started.tzinfo is None:
        raise _Refusal(422, "times need an offset from UTC")
    try:
        ahead = max(timedelta(), report.time - now)
        moved = {"time": report.time - ahead, "attempt_started": report.attempt_started - ahead}
    except OverflowError as error:
        raise _Refusal(422, "times are out of range") from error
    return report.model_copy(update={**moved, "message": shortened(report.message)})
