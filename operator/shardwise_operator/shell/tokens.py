"""Who sends a progress report: the API server says which pod a token belongs to (TokenReview).

Only the API server can tell, and asking it for everything that anybody sends would make the operator a lever against
it. So a token is first read without trust: what no worker would send is refused unasked, answers are kept for a while,
and the questions are counted: in all, and per address that they come from until the answer is good. Never by what an
unproven token says: anybody can write a victim's pod into one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..children.pod import TOKEN_AUDIENCE
from .api import Api, ApiError
from .rate_limit import RateLimit, TokenBucket, TokenBuckets

MAX_TOKEN_CHARACTERS = 8192
KNOWN_SECONDS = 60.0
"""A token that was withdrawn may be good for this long still; the pod's own end is seen sooner by the watch."""
REFUSED_SECONDS = 10.0
MAX_KNOWN = 8192
MAX_REFUSED = 1024
REVIEWS = RateLimit(per_second=50, burst=200)
"""TokenReviews in all: a thousand workers ask for 17 per second."""
REVIEWS_PER_SOURCE = RateLimit(per_second=1, burst=50)
"""TokenReviews for one address whose tokens are no good. A good one costs it nothing: a node may hide many pods."""
REVIEWS_PER_RELAY = RateLimit(per_second=10, burst=100)
"""The same for all that one other replica hands on, or who says that it is one."""
REVIEWS_PER_POD = RateLimit(per_second=0.2, burst=3)
"""Good tokens of one pod that cost its address nothing; it has one, and another after an hour."""

_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_PREFIX = "system:serviceaccount:"
_EXTRA = "authentication.kubernetes.io/"

log = logging.getLogger(__name__)
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """The pod that a token was made for."""

    namespace: str
    service_account: str
    pod_name: str
    pod_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a token says of itself, unproven."""

    pod_uid: str
    expires: float
    """Seconds since 1970."""


class TokenRefused(Exception):
    """The token is no valid token of a pod for this audience."""


class ReviewUnavailable(Exception):
    """Nobody can tell now: the API server can't be asked. Try again after `seconds`."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def read_claim(token: str) -> Claim:
    """Return what a token says of itself; raise TokenRefused when no worker's token looks like that."""
    parts = token.split(".")
    if len(token) > MAX_TOKEN_CHARACTERS or len(parts) != 3 or not token.isascii():
        raise TokenRefused("not a token of a pod")
    try:
        body = json.loads(base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True))
        audiences = body["aud"]
        claim = Claim(pod_uid=body["kubernetes.io"]["pod"]["uid"], expires=float(body["exp"]))
    except (binascii.Error, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise TokenRefused("not a token of a pod") from error
    if TOKEN_AUDIENCE not in (audiences if isinstance(audiences, list) else [audiences]):
        raise TokenRefused(f"not a token for {TOKEN_AUDIENCE}")
    if not isinstance(claim.pod_uid, str) or not 0 < len(claim.pod_uid) <= 64:
        raise TokenRefused("not a token of a pod")
    return claim


class Reviewer:
    """Tells the pod of a token, asking the API server at most once in KNOWN_SECONDS."""

    def __init__(
        self, api: Api, *, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._api = api
        self._clock, self._wall_clock = clock, wall_clock
        self._known: _Kept[PodIdentity] = _Kept(MAX_KNOWN)
        self._refused: _Kept[str] = _Kept(MAX_REFUSED)
        self._reviews = TokenBucket(REVIEWS)
        self._per_source, self._per_relay = TokenBuckets(REVIEWS_PER_SOURCE), TokenBuckets(REVIEWS_PER_RELAY)
        self._per_pod = TokenBuckets(REVIEWS_PER_POD)
        self._complaints: set[str] = set()

    async def identify(self, token: str, *, source: str, relay: str | None = None) -> PodIdentity:
        """Return the pod of a token; raise TokenRefused or ReviewUnavailable.

        `source` is the address that the token comes from, as `relay` says when it has handed it on.
        """
        claim = read_claim(token)
        left = claim.expires - self._wall_clock()
        if left <= 0:
            raise TokenRefused("the token has expired")
        now = self._clock()
        # Kept by digest: a dump of the operator's memory holds no token.
        key = hashlib.sha256(token.encode()).digest()
        if (known := self._known.get(key, now)) is not None:
            return known
        if (why := self._refused.get(key, now)) is not None:
            raise TokenRefused(why)
        # What a relay says of sources is its own word: each has its sources.
        charged = [(self._per_source, source if relay is None else f"{relay} {source}")]
        charged += [] if relay is None else [(self._per_relay, relay)]
        wait = next((w for buckets, name in charged if (w := buckets.take(name, now=now))), 0.0)
        wait = wait or self._reviews.take(now)
        if wait:
            raise ReviewUnavailable("too many tokens to check", seconds=wait)
        try:
            identity = _identity(await self._review(token))
        except TokenRefused as error:
            self._refused.put(key, str(error), until=now + REFUSED_SECONDS)
            raise
        if not self._per_pod.take(identity.pod_uid, now=now):
            for buckets, name in charged:
                buckets.give_back(name)
        self._known.put(key, identity, until=now + min(KNOWN_SECONDS, left))
        return identity

    async def _review(self, token: str) -> dict[str, Any]:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [TOKEN_AUDIENCE]},
        }
        try:
            answer = await self._api.create(_PATH, body)
        except ApiError as error:
            kind = f"{error.status} {error.reason}"
            if kind not in self._complaints:
                self._complaints.add(kind)
                log.warning("tokens can't be checked, progress is not taken: %s", kind)
            raise ReviewUnavailable("tokens can't be checked now", seconds=5) from error
        self._complaints.clear()
        status = answer.get("status")
        return status if isinstance(status, dict) else {}


def _identity(status: dict[str, Any]) -> PodIdentity:
    # An API server that knows no audiences answers for its own; it then doesn't repeat ours.
    if status.get("authenticated") is not True or TOKEN_AUDIENCE not in (status.get("audiences") or []):
        raise TokenRefused(f"not a valid token for {TOKEN_AUDIENCE}")
    user = status.get("user") or {}
    name = str(user.get("username", ""))
    namespace, _, account = name.removeprefix(_PREFIX).partition(":")
    extra = user.get("extra") or {}
    names, uids = extra.get(f"{_EXTRA}pod-name") or [], extra.get(f"{_EXTRA}pod-uid") or []
    if not name.startswith(_PREFIX) or not account or len(names) != 1 or len(uids) != 1:
        raise TokenRefused("not a token of a pod")
    return PodIdentity(namespace=namespace, service_account=account, pod_name=names[0], pod_uid=uids[0])


class _Kept(Generic[V]):
    """Answers that are good for a while; of too many, the oldest go."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[bytes, tuple[float, V]] = OrderedDict()

    def get(self, key: bytes, now: float) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        until, value = entry
        if now < until:
            return value
        del self._entries[key]
        return None

    def put(self, key: bytes, value: V, *, until: float) -> None:
        self._entries[key] = (until, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)
