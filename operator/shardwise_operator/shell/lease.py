"""Who may write: of all replicas of the operator at most one leads, by a Lease in its own namespace.

Two writers would undo each other's work. So a leader counts the age of its lease from before it asked for it, and stops
well before anybody else starts; the others count from after they saw it renewed. Clocks are never compared between
machines, they only have to run about equally fast: RENEW_DEADLINE on the slowest must be over before LEASE_DURATION on
the fastest. A call that a leader has on its way when it stops leading may still arrive: what must not be repeated or
overtaken carries a resourceVersion. Deleting the Lease by hand may make two leaders until the next renewal.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .api import Api, ApiError

LEASE_DURATION = 5.0
"""Seconds that a lease must have stood still before somebody else takes it."""
RENEW_DEADLINE = 3.0
"""Seconds after its last renewal at which a leader stops leading."""
RENEW_EVERY = 1.0
"""Seconds between renewals, and between looks of those who wait."""
CALL_SECONDS = 1.2
"""Seconds for one call: one that hangs must leave time for another before the deadline."""

log = logging.getLogger(__name__)


def _ignore() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who holds a lease: a pod, and where it is reached. A restarted container is the same pod and its own heir."""

    pod: str
    address: str

    def __str__(self) -> str:
        return f"{self.pod}_{self.address}"

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """Return the holder that a Lease names, None when it is nobody of ours."""
        pod, _, address = text.rpartition("_")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            return None
        return cls(pod=pod, address=address)


class Leadership:
    """One replica's part in the election. `run()` takes part for ever; `leading` may be asked at any time.

    `gained` and `lost` are called in the event loop whenever the answer changes; they must not block or raise.
    """

    def __init__(
        self, *, api: Api, namespace: str, name: str, identity: str, address: str,
        clock: Callable[[], float] = time.monotonic,
        gained: Callable[[], None] = _ignore, lost: Callable[[], None] = _ignore,
    ) -> None:  # fmt: skip
        self._api = api
        self._namespace = namespace
        self._name = name
        self._me = Identity(pod=identity, address=address)
        self._clock = clock
        self._gained, self._lost = gained, lost
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._lease: dict[str, Any] | None = None
        self._changed_at = clock()
        self._renewed_at: float | None = None
        self._announced = False
        self._released = False
        self._complaints: set[str] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    @property
    def leading(self) -> bool:
        """Whether this replica may write now. Needs no event loop: also a loop that hung gets the right answer."""
        return (
            not self._released
            and self._renewed_at is not None
            and self._clock() - self._renewed_at < RENEW_DEADLINE
        )  # fmt: skip

    @property
    def leader_address(self) -> str | None:
        """IP address of the pod that leads, None while nobody is known to."""
        holder = self._holder()
        return None if holder is None or self._expired() else holder.address

    async def run(self) -> None:
        """Take part until cancelled or released."""
        try:
            while not self._released:
                await self._round()
                self._announce()
                await asyncio.sleep(RENEW_EVERY)
        finally:
            if self._alarm is not None:
                self._alarm.cancel()

    async def release(self) -> None:
        """Stop leading at once and let the next replica follow without waiting. Work must have ended before."""
        self._released = True
        self._announce()
        # A renewal on its way would take the lease back.
        async with self._turn:
            holder = self._holder()
            if self._lease is None or holder is None or holder.pod != self._me.pod:
                return
            body = self._body(self._lease, holder="")
            body["spec"].update(leaseDurationSeconds=1)
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await self._api.replace(self._path, body)
            except (ApiError, TimeoutError) as error:
                log.info("lease %s not released, it will run out: %s", self._name, error)

    @property
    def _path(self) -> str:
        return f"{self._collection}/{self._name}"

    async def _round(self) -> None:
        try:
            async with self._turn:
                await self._take_part()
        except ApiError as error:
            self._complain(f"{error.status} {error.reason}", error)
        except TimeoutError:
            self._complain("timeout", f"no answer within {CALL_SECONDS:g} s")
        else:
            self._complaints.clear()

    async def _take_part(self) -> None:
        # A holder renews what it knows; only when that fails does it have to look.
        if self.leading and await self._write():
            return
        await self._look()
        if self._released:
            return
        if self._lease is None or self._may_take():
            await self._write()
        else:
            self._renewed_at = None

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                lease = await self._api.get(self._path)
        except ApiError as error:
            if error.status != 404:
                raise
            self._lease = None
            return
        self._see(lease)

    def _see(self, lease: dict[str, Any]) -> None:
        if self._lease is None or _version(lease) != _version(self._lease):
            self._changed_at = self._clock()
        self._lease = lease

    async def _write(self) -> bool:
        """Make or renew the lease; return whether that went well."""
        asked = self._clock()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                if self._lease is None:
                    written = await self._api.create(self._collection, self._body(None, holder=str(self._me)))
                else:
                    written = await self._api.replace(self._path, self._body(self._lease, holder=str(self._me)))
        except ApiError as error:
            # Somebody else was quicker, or the lease was deleted: the next look tells.
            if error.status not in (404, 409):
                raise
            self._renewed_at = None
            return False
        self._see(written)
        self._renewed_at = asked
        return True

    def _may_take(self) -> bool:
        holder = self._holder()
        named = bool(self._lease and self._lease.get("spec", {}).get("holderIdentity"))
        return not named or self._expired() or (holder is not None and holder.pod == self._me.pod)

    def _holder(self) -> Identity | None:
        spec = {} if self._lease is None else self._lease.get("spec", {})
        return Identity.parse(spec.get("holderIdentity") or "")

    def _expired(self) -> bool:
        # Another version of the operator may have promised to hold it for longer.
        promised = 0 if self._lease is None else self._lease.get("spec", {}).get("leaseDurationSeconds") or 0
        return self._clock() - self._changed_at > max(LEASE_DURATION, promised)

    def _body(self, lease: dict[str, Any] | None, *, holder: str) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if lease is None:
            metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace}
            before: dict[str, Any] = {}
        else:
            metadata, before = lease["metadata"], lease.get("spec", {})
        same = before.get("holderIdentity") == holder
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                **before,
                "holderIdentity": holder,
                "leaseDurationSeconds": round(LEASE_DURATION),
                "acquireTime": before.get("acquireTime", now) if same else now,
                "renewTime": now,
                "leaseTransitions": before.get("leaseTransitions", 0) + (1 if before and holder and not same else 0),
            },
        }

    def _announce(self) -> None:
        """Tell about a change, and see to it that the end of the deadline is told in time."""
        leading = self.leading
        if leading != self._announced:
            self._announced = leading
            log.info("%s lease %s", "leading by" if leading else "not leading any more by", self._name)
            (self._gained if leading else self._lost)()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if leading and self._renewed_at is not None:
            left = self._renewed_at + RENEW_DEADLINE - self._clock()
            self._alarm = asyncio.get_running_loop().call_later(max(0.01, left), self._announce)

    def _complain(self, kind: str, what: object) -> None:
        # Once per kind: the next hundred say nothing new.
        if kind not in self._complaints:
            self._complaints.add(kind)
            log.warning("lease %s/%s can't be held: %s", self._namespace, self._name, what)


def _version(lease: dict[str, Any]) -> str:
    return str(lease["metadata"].get("resourceVersion"))
