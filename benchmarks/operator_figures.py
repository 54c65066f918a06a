"""From what was written down while a run lived (audit log, Prometheus text, /proc) to figures.

Pure, and tested: a figure that is read wrongly looks like any other.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from shardwise_api.runs import Run
from shardwise_api.status import Failure, JobReference
from shardwise_api.wire import MAX_TERMINATION_MESSAGE_BYTES, ItemCounts, ProgressReport, RunResult, Step
from shardwise_operator.core.conditions import shortened
from shardwise_operator.core.observed import FAILED_INDEXES, JobState, JobView, Observed
from shardwise_operator.core.plan import plan
from shardwise_operator.core.report import MAX_FAILURES

Json = dict[str, Any]
WINDOW_SECONDS = 1.0
RECONCILES = "shardwise_reconcile_seconds"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call to the API server as its audit log has it."""

    what: str
    """Verb and resource, as `update trainingruns/status`."""
    at: float
    """Seconds since 1970, when the API server received it."""


def calls(lines: Iterable[str], *, user: str, since: float = 0.0, until: float = float("inf")) -> list[Call]:
    """Return a user's calls in the order of their coming; a watch has several lines and is one call."""
    found: dict[str, Call] = {}
    for line in lines:
        entry = json.loads(line)
        at = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
        if entry["user"]["username"] != user or not since <= at < until:
            continue
        target = entry.get("objectRef", {})
        # What has no resource is discovery.
        resource = "/".join(filter(None, (target.get("resource", "discovery"), target.get("subresource"))))
        found[entry["auditID"]] = Call(what=f"{entry['verb']} {resource}", at=at)
    return sorted(found.values(), key=lambda call: call.at)


def by_kind(made: Iterable[Call]) -> dict[str, int]:
    """Return how often each call was made, the most frequent first."""
    return dict(Counter(call.what for call in made).most_common())


def most_within(times: Sequence[float], *, seconds: float = WINDOW_SECONDS) -> int:
    """Return the highest number of moments within any half-open window of that length."""
    ordered = sorted(times)
    first = most = 0
    for last, time in enumerate(ordered):
        while time - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def shortest_pause(times: Sequence[float]) -> float | None:
    """Return the shortest time between two moments, None of fewer than two."""
    return min((after - before for before, after in pairwise(sorted(times))), default=None)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A Prometheus histogram without labels."""

    buckets: tuple[tuple[float, float], ...]
    """Upper bound and how many were at most that, in rising order; the last bound is infinite."""

    def since(self, before: Histogram) -> Histogram:
        """Return what has come in since an earlier reading."""
        return Histogram(
            buckets=tuple(
                (bound, count - known) for (bound, count), (_, known) in zip(self.buckets, before.buckets, strict=True)
            )
        )

    @property
    def count(self) -> int:
        """How many there were."""
        return int(self.buckets[-1][1])

    def quantile(self, part: float) -> float | None:
        """Return a quantile as Prometheus estimates it: straight lines within a bucket; None when there was nothing.

        Beyond the last finite bound nothing is known; that bound is returned.
        """
        wanted = part * self.buckets[-1][1]
        if not wanted:
            return None
        low = below = 0.0
        for bound, count in self.buckets:
            if count >= wanted:
                return low if bound == float("inf") else low + (bound - low) * (wanted - below) / (count - below)
            low, below = bound, count
        return low


def histogram(text: str, name: str) -> Histogram:
    """Read a histogram from Prometheus' text format; raise ValueError when it isn't there."""
    pattern = re.compile(rf'^{re.escape(name)}_bucket{{le="([^"]+)"}} (\S+)$', re.MULTILINE)
    buckets = tuple((float(bound), float(count)) for bound, count in pattern.findall(text))
    if not buckets:
        raise ValueError(f"no histogram {name}")
    return Histogram(buckets=buckets)


def number(text: str, name: str) -> float:
    """Read a number without labels from Prometheus' text format; raise ValueError when it isn't there."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no number {name}")
    return float(found[1])


def peak_resident_bytes(status: str) -> int:
    """Read a process' highest resident size from its /proc/PID/status; raise ValueError when it isn't there."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise ValueError("no VmHWM")
    return int(found[1]) * 1024


def worst_status(run: Run) -> Json:
    """Return the largest status that a run's plan can come to: every other shard failed, everything long as may be.

    A Job's words and a failure's message are cut where the operator cuts them; a result fills its termination message.
    """
    shards = run.spec.sharding.shards
    now = datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    long = "w" * 100_000
    summary = {"text": "s" * (MAX_TERMINATION_MESSAGE_BYTES - 200)}
    result = RunResult(digest="sha256:" + "0" * 64, uri="s3://bucket/result", summary=summary)
    failed = frozenset(range(1, shards, 2))
    observed = Observed(
        now=now,
        jobs={
            Step.PREPARE: JobView(
                state=JobState.COMPLETE, message='{"inputFingerprint":"nothing","itemsTotal":1}', started=now, ended=now
            ),
            Step.WORK: JobView(
                state=JobState.FAILED,
                completions=shards,
                parallelism=shards,
                completed=frozenset(range(0, shards, 2)),
                failed=failed,
                reason=FAILED_INDEXES,
                message=long,
                started=now,
                ended=now,
            ),
            Step.FINALIZE: JobView(
                state=JobState.COMPLETE, message=result.model_dump_json(by_alias=True), started=now, ended=now
            ),
        },
        progress={
            shard: ProgressReport(run="uid", shard=shard, attempt_started=now, time=now, items=ItemCounts(done=10**9))
            for shard in range(0, shards, 2)
        },
        failures=tuple(_failure(shard) for shard in sorted(failed)[-MAX_FAILURES:]),
        job_ref=JobReference(name=run.metadata.name, uid="00000000-0000-0000-0000-000000000000"),
    )
    tolerant = run.model_copy(deep=True)
    tolerant.spec.retry.max_failed_shards = shards
    return plan(tolerant, observed).status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _failure(shard: int) -> Failure:
    return Failure(shard=shard, exit_code=1, reason="WorkerFailed", message=shortened("m" * 100_000))
