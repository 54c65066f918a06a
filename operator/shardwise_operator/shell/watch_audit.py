"""Notices watches that died without a word: what they showed is compared with what the API server lists.

A watch can end in silence (a proxy that drops it, a bug), and an operator that waits for it does nothing for ever. So
every minute the metadata of everything watched is listed. `audit` is pure and decides; `WatchAuditor` lists, heals what
was missed, and reports it when missing goes on, for which a container is started anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .api import Api, ApiError

AUDIT_EVERY = 60.0
RETRY_EVERY = 10.0
"""After an audit that failed."""
STALE_SECONDS = 120.0
"""Missing something, or no word from the API server, for longer than this is a problem."""
SILENT_SECONDS = 600.0
"""Without a finished audit for this long the auditor itself is the problem."""
MAX_REFRESHES = 100
"""Objects healed per audit and kind; the rest is for the next, or for a new start."""
_PAGE = "500"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is watched of one kind: the lists (one per namespace, or one of all), and the selector if there is one."""

    kind: str
    paths: tuple[str, ...]
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One moment of one kind: resourceVersions by uid, as the watches had shown them and, right after, as listed."""

    at: float
    seen: Mapping[str, str]
    listed: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Uids that the watches missed: changes, and ends."""

    stale: frozenset[str]
    gone: frozenset[str]


def audit(*, before: Sample | None, now: Sample) -> Findings:
    """Return what the watches should have shown since the audit before, and haven't.

    `seen` is taken before `listed`, so that a watch is never blamed for being quicker than the list; and only what was
    there at the last audit already counts, so that it is not blamed for being a moment slower either.
    """
    if before is None:
        return Findings(stale=frozenset(), gone=frozenset())
    stale = set()
    for uid in before.listed.keys() & now.listed.keys():
        shown, quiet = now.seen.get(uid), before.listed[uid] == now.listed[uid]
        # What changes all the time is never listed twice the same; there a watch must at least have moved.
        stood_still = shown == before.seen.get(uid) and shown != before.listed[uid]
        if stood_still or (quiet and shown != now.listed[uid]):
            stale.add(uid)
    gone = (before.seen.keys() & now.seen.keys()) - before.listed.keys() - now.listed.keys()
    return Findings(stale=frozenset(stale), gone=frozenset(gone))


class WatchAuditor:
    """Audits all that is watched.

    `seen(kind)` gives uid -> resourceVersion as the watches themselves showed it; what `refresh`
    healed must not be in it, or a dead watch would look alive. `refresh(kind, path)` reads the object at `path` anew;
    `evict(kind, uid)` drops an object that is no more. An ApiError of `refresh` is logged, the object tried again.
    """

    def __init__(
        self, *, api: Api, watched: tuple[Watched, ...], seen: Callable[[str], Mapping[str, str]],
        refresh: Callable[[str, str], Awaitable[None]], evict: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._api = api
        self._watched = watched
        self._seen, self._refresh, self._evict = seen, refresh, evict
        self._clock = clock
        self._samples: dict[str, Sample] = {}
        self._stale_since: dict[str, dict[str, float]] = {one.kind: {} for one in watched}
        self._unreachable_since: float | None = None
        self._finished = clock()
        self._complaints: set[str] = set()

    async def run(self) -> None:
        """Audit for ever."""
        while True:
            well = await self.audit_all()
            await asyncio.sleep(AUDIT_EVERY if well else RETRY_EVERY)

    async def audit_all(self) -> bool:
        """Audit every kind once; return whether all could be asked for."""
        well = True
        for watched in self._watched:
            try:
                asked = await self._audit(watched)
            except ApiError as error:
                well = False
                self._trouble(watched.kind, error)
            else:
                if asked:
                    self._unreachable_since = None
                    self._complaints.discard(watched.kind)
        self._finished = self._clock()
        return well

    def stale_seconds(self, kind: str) -> float:
        """Return for how long something of this kind has been missed, 0 when nothing is."""
        since = self._stale_since[kind].values()
        return self._clock() - min(since) if since else 0.0

    def problem(self) -> str | None:
        """Return what is wrong, for /healthz."""
        now = self._clock()
        if self._unreachable_since is not None and now - self._unreachable_since > STALE_SECONDS:
            return f"no word from the API server for {now - self._unreachable_since:.0f} s"
        stale = {kind: self.stale_seconds(kind) for kind in self._stale_since}
        late = [f"{kind} ({seconds:.0f} s)" for kind, seconds in sorted(stale.items()) if seconds > STALE_SECONDS]
        if late:
            return f"watches miss what happens: {', '.join(late)}"
        silent = now - self._finished
        return f"no audit of the watches for {silent:.0f} s" if silent > SILENT_SECONDS else None

    async def _audit(self, watched: Watched) -> bool:
        """Audit a kind; return whether it was its turn."""
        kind, before = watched.kind, self._samples.get(watched.kind)
        # A failed audit is followed soon by the next: less than a full interval proves nothing.
        if before is not None and self._clock() - before.at < AUDIT_EVERY / 2:
            return False
        seen = dict(self._seen(kind))
        objects: dict[str, tuple[str, str]] = {}
        for path in watched.paths:
            objects.update(await self._list(path, watched.params))
        listed = {uid: version for uid, (version, _) in objects.items()}
        now = Sample(at=self._clock(), seen=seen, listed=listed)
        self._samples[kind] = now
        findings = audit(before=before, now=now)
        since = self._stale_since[kind]
        self._stale_since[kind] = {uid: since.get(uid, before.at if before else now.at) for uid in findings.stale}
        for uid in findings.gone:
            self._evict(kind, uid)
        if findings.stale or findings.gone:
            log.warning("watch of %s missed %d changes, %d ends", kind, len(findings.stale), len(findings.gone))
        await self._heal(kind, [objects[uid][1] for uid in sorted(findings.stale)[:MAX_REFRESHES]])
        return True

    async def _heal(self, kind: str, paths: list[str]) -> None:
        for path in paths:
            try:
                await self._refresh(kind, path)
            except ApiError as error:
                # Gone meanwhile, or for the next audit.
                log.info("%s not read anew: %s", path, error)

    async def _list(self, path: str, params: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Return resourceVersion and path of each object by uid."""
        found: dict[str, tuple[str, str]] = {}
        page: dict[str, str] = {}
        while True:
            answer = await self._api.get(path, params={"limit": _PAGE, **params, **page}, accept=_METADATA_ONLY)
            for item in answer.get("items") or []:
                metadata = item["metadata"]
                found[metadata["uid"]] = (metadata["resourceVersion"], _object_path(path, metadata))
            token = (answer.get("metadata") or {}).get("continue")
            if not token:
                return found
            page = {"continue": token}

    def _trouble(self, kind: str, error: ApiError) -> None:
        if error.status != 0:
            # It answers, so it is there.
            self._unreachable_since = None
        elif self._unreachable_since is None:
            self._unreachable_since = self._clock()
        if kind not in self._complaints:
            self._complaints.add(kind)
            log.warning("%s can't be listed: %s", kind, error)


def _object_path(collection: str, metadata: Mapping[str, Any]) -> str:
    """Return the path of an object found in a list, whether that list was of one namespace or of all."""
    base, _, plural = collection.rpartition("/")
    head, in_namespace, _ = base.partition("/namespaces/")
    if not metadata.get("namespace"):
        return f"{collection}/{metadata['name']}"
    return f"{head if in_namespace else base}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"
