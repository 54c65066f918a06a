"""The logs of a run: of what is there now, or of every attempt as it comes until the run ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from shardwise_api.wire import Step

from . import loglines
from .client import PODS, Client
from .errors import ApiError, ClientError, Unreachable, UsageProblem
from .events import Deleted, Disconnected, Event, Snapshot, follow, merged
from .live_display import first_line
from .loglines import Line
from .names import RESOURCES
from .pods import PodView, attempts, pod_view, selector, wanted
from .runs import typed
from .view import RunView, view

MAX_STREAMS = 64
"""Logs read at once: one connection each."""
_PAUSE_SECONDS = 0.5
_QUIET_SECONDS = 300
"""A worker may be silent for long; a read that is begun again costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which logs are asked for."""

    steps: frozenset[str]
    shards: frozenset[int] | None
    """All when None."""
    tail: int | None
    """Last lines of each log; all when None."""

    @property
    def single(self) -> bool:
        """Whether all lines come from one piece of work, so that they need no mark."""
        return len(self.steps) == 1 and (
            Step.WORK not in self.steps or (self.shards is not None and len(self.shards) == 1)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where lines and remarks go."""

    line: Callable[[PodView, str, bool], None]
    """Pod, text, whether the line needs a mark of where it comes from."""
    remark: Callable[[str], None]


async def print_logs(client: Client, run: RunView, *, selection: Selection, previous: bool, output: Output) -> None:
    """Print the logs of the newest attempts (or of those before them), merged by time.

    Raises:
        ClientError: there are none, or more than can be read at once.
    """
    items, _ = await client.list(PODS, namespace=run.namespace, params=selector(run))
    chosen = wanted(map(pod_view, items), steps=selection.steps, shards=selection.shards)
    pods = []
    for source in attempts(chosen).values():
        pod = _previous(source) if previous else source[-1]
        if pod is None:
            continue
        if pod.started or pod.ended:
            pods.append(pod)
        else:
            output.remark(f"[{pod.label}] no log yet: {pod.waiting}")
    if not pods:
        raise ClientError(_nothing(run, selection, found=bool(chosen), previous=previous))
    if len(pods) > MAX_STREAMS:
        raise UsageProblem(
            f"{run.short} has {len(pods)} logs, and {MAX_STREAMS} are read at once: choose, as with "
            f"--shard 0-{MAX_STREAMS - 1}"
        )
    streams = [_read(client, run, pod, tail=selection.tail, previous=previous, output=output) for pod in pods]
    async with aclosing(loglines.merge(streams)) as lines:
        async for number, line in lines:
            output.line(pods[number], line.text, len(pods) > 1)


async def follow_logs(client: Client, run: RunView, *, selection: Selection, output: Output) -> RunView:
    """Print the logs of every attempt as they are written, until the run (or the shards chosen) ends.

    Returns the run as it was last.
    """
    return await _Follower(client, run, selection=selection, output=output).follow()


class _Follower:
    def __init__(self, client: Client, run: RunView, *, selection: Selection, output: Output) -> None:
        self._client = client
        self._run = run
        self._selection = selection
        self._output = output
        self._pods: dict[str, PodView] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._passed: set[str] = set()
        """Attempts that were over before this began: `--previous` shows them."""
        self._waiting: dict[str, str] = {}
        self._slots = asyncio.Semaphore(MAX_STREAMS)
        self._failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._lost = False
        self._deleted = False

    async def follow(self) -> RunView:
        run = self._run
        name = {"fieldSelector": f"metadata.name={run.name}"}
        streams = (
            follow(self._client, PODS, namespace=run.namespace, params=selector(run)),
            follow(self._client, RESOURCES[run.kind], namespace=run.namespace, params=name),
            self._failures(),
        )
        heard: set[object] = set()
        try:
            async with aclosing(merged(*streams)) as events:
                async for event in events:
                    self._take(event)
                    if isinstance(event, Snapshot):
                        heard.add(event.resource)
                    if len(heard) == 2:
                        self._begin()
                        if self._over():
                            break
            if not self._deleted:
                # The run's end may have been heard of before its last pod.
                items, _ = await self._client.list(PODS, namespace=run.namespace, params=selector(run))
                self._replace(map(pod_view, items))
                self._begin()
            await asyncio.gather(*self._readers.values())
            if self._failure.done():
                raise self._failure.result()
        finally:
            for reader in self._readers.values():
                reader.cancel()
            await asyncio.gather(*self._readers.values(), return_exceptions=True)
        if self._deleted:
            self._output.remark(f"{run.short} was deleted")
        return self._run

    def _take(self, event: Event) -> None:
        if isinstance(event, Disconnected):
            if not self._lost:
                self._output.remark(f"connection lost, trying again: {first_line(event.message)}")
            self._lost = True
            return
        self._lost = False
        if event.resource == PODS:
            if isinstance(event, Snapshot):
                self._replace(map(pod_view, event.items))
            elif isinstance(event, Deleted):
                self._pods.pop(pod_view(event.item).uid, None)
            else:
                pod = pod_view(event.item)
                self._pods[pod.uid] = pod
            return
        items = event.items if isinstance(event, Snapshot) else [] if isinstance(event, Deleted) else [event.item]
        mine = [run for run in (view(typed(self._run.kind, item)) for item in items) if run.uid == self._run.uid]
        if mine:
            self._run = mine[0]
        else:
            self._deleted = True

    def _replace(self, pods: Iterable[PodView]) -> None:
        self._pods = {pod.uid: pod for pod in pods}

    def _over(self) -> bool:
        chosen = self._selection.shards
        shards_over = chosen is not None and chosen <= self._run.shards_ended
        return self._deleted or self._run.over or shards_over

    def _begin(self) -> None:
        first = not self._readers and not self._passed
        chosen = wanted(self._pods.values(), steps=self._selection.steps, shards=self._selection.shards)
        for pods in attempts(chosen).values():
            for pod in pods:
                if pod.uid in self._readers or pod.uid in self._passed:
                    continue
                if first and pod is not pods[-1] and pod.ended:
                    self._passed.add(pod.uid)
                elif pod.started:
                    again = any(other.uid in self._readers for other in pods if other is not pod)
                    if again:
                        self._output.remark(f"[{pod.label}] next attempt: {pod.name}")
                    tail = self._selection.tail if first else None
                    self._readers[pod.uid] = asyncio.create_task(self._reader(pod, tail=tail))
                elif pod.ended:
                    self._passed.add(pod.uid)
                elif self._waiting.get(pod.uid) != pod.waiting:
                    self._waiting[pod.uid] = pod.waiting
                    self._output.remark(f"[{pod.label}] waiting: {pod.waiting}")
        busy = sum(not reader.done() for reader in self._readers.values())
        if busy > MAX_STREAMS and first:
            self._output.remark(
                f"{busy} workers run and {MAX_STREAMS} logs are followed at once, the next when one ends: choose with "
                "--shard"
            )

    async def _reader(self, pod: PodView, *, tail: int | None) -> None:
        try:
            async with self._slots, aclosing(self._lines(pod, tail=tail)) as lines:
                async for line in lines:
                    self._output.line(pod, line.text, not self._selection.single)
        except (ClientError, OSError) as error:
            # An OSError is `| head` that has read enough.
            if not self._failure.done():
                self._failure.set_result(error)

    async def _lines(self, pod: PodView, *, tail: int | None) -> AsyncGenerator[Line, None]:
        """Yield a pod's lines until it has ended, each once, over broken connections and restarts of its container."""
        last: Line | None = None
        while True:
            params = {"container": pod.container, "timestamps": "true", "follow": "true"}
            if last is not None:
                params["sinceTime"] = last.moment[0].strftime("%Y-%m-%dT%H:%M:%SZ")
            elif tail is not None:
                params["tailLines"] = str(tail)
            try:
                async with aclosing(_raw(self._client, self._run, pod, params)) as raws:
                    async for raw in raws:
                        line = loglines.parse(raw)
                        if line is None or (last is not None and line.moment <= last.moment):
                            continue
                        last = line
                        yield line
                if await self._has_ended(pod):
                    return
            except Unreachable:
                pass
            except ApiError as error:
                if error.code == 404:
                    return
                # A kubelet that is too busy or gone answers so; the pod goes, or it comes back.
                if not error.passing and error.code != 400:
                    raise
                if self._over():
                    self._output.remark(f"[{pod.label}] {error}")
                    return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _has_ended(self, pod: PodView) -> bool:
        """Ask whether a pod is over; one whose container is started again has more to say."""
        document = await self._client.call("get", PODS, namespace=self._run.namespace, name=pod.name)
        now = pod_view(document)
        return now.uid != pod.uid or now.ended

    async def _failures(self) -> AsyncGenerator[Event, None]:
        # Shielded: this stream is cancelled at the end, and what a reader has to say must not be lost with it.
        raise await asyncio.shield(self._failure)
        # What makes it a generator, as `merged` takes them.
        yield  # type: ignore[unreachable]


async def _read(
    client: Client, run: RunView, pod: PodView, *, tail: int | None, previous: bool, output: Output
) -> AsyncGenerator[Line, None]:
    params = {"container": pod.container, "timestamps": "true"}
    if tail is not None:
        params["tailLines"] = str(tail)
    if previous and pod.restarted:
        params["previous"] = "true"
    last: Line | None = None
    try:
        async with aclosing(_raw(client, run, pod, params)) as raws:
            async for raw in raws:
                if (line := loglines.parse(raw)) is not None:
                    # A clock that goes back must not put a log's own lines in another order.
                    last = line if last is None or line.moment >= last.moment else Line(last.moment, line.text)
                    yield last
    except ApiError as error:
        if error.code == 403:
            raise
        output.remark(f"[{pod.label}] {error}")


def _raw(client: Client, run: RunView, pod: PodView, params: dict[str, str]) -> AsyncGenerator[str, None]:
    return client.lines(
        "get", PODS, namespace=run.namespace, name=f"{pod.name}/log", params=params, quiet_seconds=_QUIET_SECONDS
    )


def _previous(source: list[PodView]) -> PodView | None:
    if source[-1].restarted:
        return source[-1]
    return source[-2] if len(source) > 1 else None


def _nothing(run: RunView, selection: Selection, *, found: bool, previous: bool) -> str:
    if found and previous:
        return f"no earlier attempt of {run.short} has left a log: nothing was tried twice, or its pods are gone"
    if found:
        return f"no worker of {run.short} has begun (phase {run.phase}); -f waits for it"
    if selection.shards is not None and run.shards and min(selection.shards) >= run.shards:
        return f"{run.short} has shards 0 to {run.shards - 1}"
    if run.finished:
        return f"{run.short} is {run.phase} and has no pods left; logs go with their pods"
    if run.suspend:
        return f"{run.short} is suspended: its pods are gone, and their logs with them"
    return f"{run.short} (phase {run.phase}) has no pods for that yet; -f waits for them"
