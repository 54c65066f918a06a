"""A run's whole world in memory and in virtual time: API server, Job controller, operator, and the watches between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import yaml

from shardwise_api.status import ConditionType, RunStatus
from shardwise_api.wire import ItemCounts, ShardResult
from shardwise_operator.children import ChildSettings
from shardwise_operator.shell.cache import Cache
from shardwise_operator.shell.event_poster import EventPoster
from shardwise_operator.shell.manager import Manager
from shardwise_operator.shell.reconcile import ReconcileContext

from . import manifests
from .fake_api import RUN_KINDS, FakeApi
from .fake_jobs import FakeJobs
from .fake_kueue import FakeKueue
from .plans import PREPARED, RESULT
from .virtual_time import clock, now

Body = dict[str, Any]
SETTINGS = ChildSettings(worker_image="registry.example/worker:1", progress_url="http://progress.example/v1/progress")
FIRST_LOOKS = 3.0
"""Seconds in which an operator has done and said what there is to do and say."""
ON_A_CLUSTER = ('output={uri: "s3://bucket/prefix"}', "engine.kato.store={uri: 'mongodb://mongo.example'}",
    "engine.kato.dataset={files: {uris: ['s3://bucket/corpus.txt'], format: text}}")  # fmt: skip


def run_body(*changes: str, name: str = "words", text: str = manifests.KATO) -> Body:
    """Return a run that a cluster accepts, as a person applies it: eight shards, two at a time."""
    given = ON_A_CLUSTER if "kato:" in text else ON_A_CLUSTER[:1]
    body: Body = yaml.safe_load(manifests.changed(text, *given, *changes))
    body["metadata"].update(name=name, namespace="team")
    return body


def run_path(name: str = "words", plural: str = "trainingruns") -> str:
    """Return the path of a run."""
    return f"/apis/shardwise.dev/v1alpha1/namespaces/team/{plural}/{name}"


class FakeOperator:
    """One process of the operator: its memory goes with it."""

    def __init__(self, api: FakeApi, *, leading: Callable[[], bool] = lambda: True) -> None:
        self.cache = Cache(on_change=self._changed)
        self.poster = EventPoster(api=api, instance="operator-1")
        self.manager: Manager = Manager(
            context=ReconcileContext(
                api=api, cache=self.cache, settings=SETTINGS, leading=leading, poster=self.poster, now=now, clock=clock
            )
        )
        # As at its start: everything is listed before it leads.
        for kind in (*RUN_KINDS.values(), "Job", "Pod"):
            for body in api.of(kind):
                self.cache.upsert(kind, body)
        self.manager.start_leading()

    def _changed(self, uid: str) -> None:
        if hasattr(self, "manager"):
            self.manager.changed(uid)


class World:
    """To be made within a virtual time."""

    def __init__(
        self, *, leading: Callable[[], bool] = lambda: True, kueue: Callable[[FakeApi], FakeKueue] | None = None
    ) -> None:
        self.api = FakeApi(time=now)
        self.jobs = FakeJobs(self.api)
        self.kueue = kueue and kueue(self.api)
        self._delivered = 0
        self._synced = -1
        self._leading = leading
        self.operator = FakeOperator(self.api, leading=leading)

    def apply(self, *changes: str, name: str = "words", text: str = manifests.KATO) -> Body:
        """Apply a run as a person does."""
        body = run_body(*changes, name=name, text=text)
        plural = next(plural for plural, kind in RUN_KINDS.items() if kind == body["kind"])
        return self.api.put(run_path(name, plural), body)

    async def restart(self) -> None:
        """Have the operator's process replaced by another."""
        await self.operator.manager.stop()
        self._delivered = len(self.api.log)
        self.operator = FakeOperator(self.api, leading=self._leading)

    def deliver(self) -> None:
        """Have the watches show what happened since."""
        while self._delivered < len(self.api.log):
            type_, kind, body = self.api.log[self._delivered]
            self._delivered += 1
            if kind in (*RUN_KINDS.values(), "Job", "Pod"):
                self.operator.cache.on_watch_event(kind, body, deleted=type_ == "DELETED")

    def lose(self) -> None:
        """Have what happened since shown by no watch."""
        self._delivered = len(self.api.log)

    async def pass_time(self, seconds: float = FIRST_LOOKS, *, controller: bool = True) -> None:
        """Let everybody do what they do by themselves; pods stay as they are."""
        end = clock() + seconds
        while clock() < end:
            if controller and self._synced != len(self.api.log):
                self.jobs.sync()
                self._synced = len(self.api.log)
            if controller and self.kueue is not None:
                # Quota comes without a word.
                self.kueue.sync()
            self.deliver()
            await asyncio.sleep(0.1)

    async def finish_step(self, job: str, *, message: str) -> None:
        """Have the one pod of a step end well."""
        (pod,) = self.jobs.pods(job)
        self.jobs.start(pod)
        self.jobs.end(pod, message=message)
        await self.pass_time()

    async def until_work(self, *changes: str) -> Body:
        """Return the run with its shards at work."""
        run = self.apply(*changes)
        await self.pass_time()
        await self.finish_step("words-prepare", message=PREPARED.model_dump_json(by_alias=True))
        for pod in self.jobs.pods("words"):
            self.jobs.start(pod)
        await self.pass_time()
        return run

    async def finish_work(self) -> None:
        """Have all shards end well."""
        while pods := self.jobs.pods("words"):
            for pod in pods:
                self.end_shard(pod)
            await self.pass_time(0.2)
        await self.pass_time()

    def end_shard(self, pod: Body, *, done: int = 10) -> None:
        """Have a shard end well."""
        shard = int(pod["metadata"]["name"].split("-")[-2])
        self.jobs.end(pod, message=ShardResult(shard=shard, items=ItemCounts(done=done)).model_dump_json(by_alias=True))

    async def finish(self) -> None:
        """Have a run that works end well."""
        await self.finish_work()
        await self.finish_step("words-finalize", message=RESULT.model_dump_json(by_alias=True))

    def status(self, name: str = "words") -> RunStatus:
        """Return a run's status as the API server has it."""
        body = next(b for kind in RUN_KINDS.values() for b in self.api.of(kind) if b["metadata"]["name"] == name)
        return RunStatus.model_validate(body.get("status", {}))

    def said(self, type_: ConditionType) -> tuple[str, str, str]:
        """Return status, reason and message of a condition."""
        found = self.status().condition(type_)
        return ("", "", "") if found is None else (found.status, found.reason, found.message)

    def told(self) -> list[str]:
        """Return the reasons of the Events that were posted."""
        return [event["reason"] for event in self.operator.poster._waiting]
