"""The operator's process: puts the parts together, starts them in order, and ends them in order.

At a clean end the loops stop first, then the Lease is handed on, so that the next replica writes only after the last
write of this one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import kopf
from aiohttp import web

from shardwise_api.runs import KINDS
from shardwise_api.wire import ProgressReport

from ..children.names import Labels
from . import metrics
from .api import Api, ApiError, Document
from .cache import Cache
from .event_poster import EventPoster
from .health import Health, LoopLag
from .http_server import SHUTDOWN_SECONDS, serve
from .lease import Leadership
from .manager import Manager
from .paths import collection_paths
from .progress_server import PodOfRun, ProgressServer
from .reconcile import ReconcileContext
from .settings import Settings
from .tokens import Reviewer
from .watch_audit import WatchAuditor, Watched
from .watches import kopf_settings, registry_for

log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0


class OperatorApp:
    """One operator. `run()` ends when `stop` is set, or with the error of a part that ended by itself."""

    def __init__(self, *, api: Api, settings: Settings) -> None:
        self._api = api
        self._settings = settings
        self._cache = Cache(on_change=self._changed)
        self._poster = EventPoster(api=api, instance=settings.pod_name)
        self._leadership = Leadership(
            api=api,
            namespace=settings.namespace,
            name=settings.lease,
            identity=settings.pod_name,
            address=settings.pod_ip,
            gained=self._gained,
            lost=self._lost,
        )
        self._manager: Manager = Manager(
            context=ReconcileContext(
                api=api,
                cache=self._cache,
                settings=settings.children,
                leading=lambda: self._leadership.leading,
                poster=self._poster,
            )
        )
        metrics.watch_runs(self._manager.known_runs)
        metrics.BUILD.info({"version": version("shardwise")})
        self._watched = _watched(settings)
        self._auditor = WatchAuditor(
            api=api,
            watched=self._watched,
            seen=self._cache.watched,
            refresh=self._refresh,
            evict=self._cache.evict,
        )
        self._lag = LoopLag()
        self._ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop."""
        runners = [
            await self._listen("health", self._health().application(), port=self._settings.health_port),
            await self._listen("progress", self._progress_server().application(), port=self._settings.progress_port),
        ]
        parts = [
            self._part("watches", self._watch(stop)),
            self._part("watch-audit", self._auditor.run()),
            self._part("lag", self._lag.run()),
            self._part("events", self._poster.run()),
            self._part("leadership", self._lead()),
            self._part("gauges", self._gauge()),
        ]
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([stopped, *parts], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                if task.exception() is not None:
                    raise RuntimeError(f"{task.get_name()} ended: {task.exception()}") from task.exception()
        finally:
            stop.set()
            await self._manager.stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(SHUTDOWN_SECONDS):
                    await self._poster.drained()
            await self._leadership.release()
            for task in (stopped, *parts[1:]):
                task.cancel()
            await asyncio.gather(stopped, *parts, return_exceptions=True)
            for runner in runners:
                await runner.cleanup()

    def _part(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=name)

    async def _watch(self, stop: asyncio.Event) -> None:
        watched = self._settings.watched
        await kopf.operator(
            registry=registry_for(self._cache),
            settings=kopf_settings(),
            clusterwide=not watched,
            namespaces=watched,
            standalone=True,
            stop_flag=stop,
            ready_flag=self._ready,
        )

    async def _lead(self) -> None:
        # With nothing listed yet a leader would take every run for one without children.
        await self._ready.wait()
        await self._fill()
        await self._leadership.run()

    async def _fill(self) -> None:
        for watched in self._watched:
            for path in watched.paths:
                while True:
                    try:
                        listed = await self._api.get(path, params=watched.params)
                        break
                    except ApiError as error:
                        log.warning("%s can't be listed: %s", path, error)
                        await asyncio.sleep(CONNECT_SECONDS)
                self._take(watched.kind, listed)

    def _take(self, kind: str, listed: Document) -> None:
        for body in listed.get("items", []):
            # Lists leave out what all their items are.
            self._cache.upsert(kind, {"apiVersion": listed["apiVersion"], "kind": kind, **body})

    async def _refresh(self, kind: str, path: str) -> None:
        # By a list of one: the operator has no right to get single pods, and needs none.
        collection, _, name = path.rpartition("/")
        listed = await self._api.get(collection, params={"fieldSelector": f"metadata.name={name}"})
        self._take(kind, listed)

    def _changed(self, uid: str) -> None:
        self._manager.changed(uid)

    def _gained(self) -> None:
        metrics.LEADER.set(1)
        self._manager.start_leading()

    def _lost(self) -> None:
        metrics.LEADER.set(0)
        self._manager.stop_leading()

    async def _gauge(self) -> None:
        while True:
            for watched in self._watched:
                metrics.WATCH_STALE_SECONDS.labels(kind=watched.kind).set(self._auditor.stale_seconds(watched.kind))
            await asyncio.sleep(5)

    def _health(self) -> Health:
        health = Health()
        health.add_live("watches", self._auditor.problem)
        health.add_live("event-loop", self._lag.problem)
        health.add_live("runs", self._manager.problem)
        health.add_ready("listed", lambda: None if self._ready.is_set() else "the watches have not begun yet")
        return health

    def _progress_server(self) -> ProgressServer:
        return ProgressServer(
            reviewer=Reviewer(api=self._api),
            lookup=self._pod,
            accept=self._accept,
            leading=lambda: self._leadership.leading,
            leader_address=lambda: self._leadership.leader_address,
            port=self._settings.progress_port,
            counted=lambda outcome: metrics.PROGRESS_REPORTS.labels(outcome=outcome).inc(),
        )

    async def _listen(self, name: str, application: web.Application, *, port: int) -> web.AppRunner:
        return await serve(
            application, name=name, host=self._settings.listen, port=port, limits=self._settings.http_limits
        )

    def _pod(self, uid: str) -> PodOfRun | None:
        found = self._cache.pod(uid)
        if found is None:
            return None
        run, pod = found
        body = self._cache.run(run)
        if body is None:
            return None
        return PodOfRun(run_uid=run, namespace=body["metadata"]["namespace"], shard=pod.shard, step=pod.step)

    def _accept(self, report: ProgressReport) -> None:
        self._cache.accept(report)


def _watched(settings: Settings) -> tuple[Watched, ...]:
    children = {"labelSelector": Labels.RUN_UID.value}
    return (
        *(Watched(kind=kind, paths=tuple(collection_paths(kind, settings.watched))) for kind in KINDS),
        *(
            Watched(kind=kind, paths=tuple(collection_paths(kind, settings.watched)), params=children)
            for kind in ("Job", "Pod")
        ),
    )
