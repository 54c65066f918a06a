"""A load of progress reports as a run's pods would send them: one each per two seconds, with the pods' own tokens."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import quantiles
from typing import Any

import aiohttp
from tests.cluster.fake_nodes import FakeNodes
from tests.support.fake_operator import NAMESPACE, PODS, RUNS, Operator

from shardwise_api.wire import ItemCounts, ProgressReport
from shardwise_operator.children.pod import TOKEN_AUDIENCE
from shardwise_operator.observe.snapshots import INDEX_ANNOTATION

from . import operator_figures
from .operator_figures import RECONCILES

EVERY_SECONDS = 2.0
LATEST_SECONDS = 5.0
"""After the last report the status must hold all of them: an update per second, and the look before it."""
_ACCOUNTS = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"

Json = dict[str, Any]


@dataclass(kw_only=True)
class Load:
    """Called again and again while a run lives; once all its workers run, it reports for them, and then no more."""

    here: FakeNodes
    operator: Operator
    name: str
    shards: int
    seconds: float
    problems: list[str]
    found: Json | None = None
    _answers: Counter[int] = field(default_factory=Counter)
    _latencies: list[float] = field(default_factory=list)
    _accepted: dict[int, int] = field(default_factory=dict)
    """Items of each shard's newest accepted report."""

    def __call__(self) -> None:
        """Report for `seconds` if all shards are at work for the first time."""
        if self.found is not None:
            return
        run = self.here.call("GET", f"{RUNS}/{self.name}")
        if run.get("status", {}).get("shards", {}).get("active") != self.shards:
            return
        tokens = self._tokens()
        before, began = self.operator.metrics(), time.monotonic()
        asyncio.run(self._report(run["metadata"]["uid"], tokens))
        taken, after = time.monotonic() - began, self.operator.metrics()
        late = self._lateness()
        names = ("process_cpu_seconds_total", f"{RECONCILES}_count")
        cpu, looks = (operator_figures.number(after, one) - operator_figures.number(before, one) for one in names)
        cuts = quantiles(self._latencies, n=100)
        self.found = {
            "seconds": round(taken, 1),
            "reports": sum(self._answers.values()),
            "reports_per_second": round(sum(self._answers.values()) / taken, 1),
            "answers": {str(code): count for code, count in sorted(self._answers.items())},
            "answer_seconds": {"p50": round(cuts[49], 4), "p99": round(cuts[98], 4)},
            "operator_cpu_share": round(cpu / taken, 3),
            "reconciles_per_second": round(looks / taken, 2),
            "status_late_seconds": None if late is None else round(late, 2),
        }

    def _tokens(self) -> dict[int, str]:
        """Ask for what the kubelet asks for: a token for each pod, for the operator's ears only."""
        found = {}
        for pod in self.here.call("GET", f"{PODS}?labelSelector=shardwise.dev/run={self.name},shardwise.dev/step=work")[
            "items"
        ]:
            metadata = pod["metadata"]
            asked = {
                "spec": {
                    "audiences": [TOKEN_AUDIENCE],
                    "expirationSeconds": 3600,
                    "boundObjectRef": {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "name": metadata["name"],
                        "uid": metadata["uid"],
                    },
                }
            }
            path = f"{_ACCOUNTS}/{pod['spec']['serviceAccountName']}/token"
            shard = int(metadata["annotations"][INDEX_ANNOTATION])
            found[shard] = self.here.call("POST", path, asked)["status"]["token"]
        return found

    async def _report(self, uid: str, tokens: Mapping[int, str]) -> None:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            asyncio.TaskGroup() as group,
        ):
            for place, (shard, token) in enumerate(sorted(tokens.items())):
                # Workers start one after the other, and stay out of step.
                delay = EVERY_SECONDS * place / len(tokens)
                group.create_task(self._report_one(session, uid=uid, shard=shard, token=token, delay=delay))

    async def _report_one(
        self, session: aiohttp.ClientSession, *, uid: str, shard: int, token: str, delay: float
    ) -> None:  # fmt: skip
        started = datetime.now(UTC)
        await asyncio.sleep(delay)
        taken = EVERY_SECONDS
        for turn in range(int(self.seconds / EVERY_SECONDS)):
            await asyncio.sleep(max(0.0, EVERY_SECONDS - taken))
            began = time.monotonic()
            done = min(turn + 1, shard + 1)
            report = ProgressReport(
                run=uid,
                shard=shard,
                attempt_started=started,
                time=datetime.now(UTC),
                items=ItemCounts(done=done),
                total=shard + 1,
            )
            async with session.post(
                self.operator.progress,
                data=report.model_dump_json(by_alias=True),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            ) as answer:
                await answer.read()
            taken = time.monotonic() - began
            self._answers[answer.status] += 1
            self._latencies.append(taken)
            if answer.status == 204:
                self._accepted[shard] = done

    def _lateness(self) -> float | None:
        """Return how long after the last report the status holds them all; None and a problem if it does not."""
        wanted, began = sum(self._accepted.values()), time.monotonic()
        while (taken := time.monotonic() - began) < LATEST_SECONDS:
            shown = self.here.call("GET", f"{RUNS}/{self.name}")["status"]["items"]["done"]
            if shown == wanted:
                return taken
            time.sleep(0.05)
        self.problems.append(f"{self.name}: {shown} items in the status, {wanted} were reported and accepted")
        return None
