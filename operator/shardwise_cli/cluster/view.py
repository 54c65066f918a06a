"""A run as a client sees it. Read leniently: the operator of the cluster may be older or newer than this command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shardwise_api import indexes
from shardwise_api.status import ConditionType, Phase
from shardwise_api.terminal import sanitize_values

from .client import Document
from .names import SHORT

_QUIET_REASONS = frozenset({"AllRunning", "WaitingForPods", "Suspended", "Finished"})
_MUST_HOLD = (ConditionType.ACCEPTED, ConditionType.PODS_READY, ConditionType.PROGRESSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionView:
    """One condition."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What a run's document says, in the words of `get` and `watch`."""

    document: Document = field(repr=False)
    kind: str
    namespace: str
    name: str
    uid: str
    phase: str
    seen: bool
    """Whether an operator has written a status at all."""
    suspend: bool
    percent: int | None
    rate: float | None
    """Items per second."""
    remaining: int | None
    """Seconds."""
    total: int | None
    done: int
    failed: int
    skipped: int
    shards: int
    shards_active: int
    shards_done: int
    shards_failed: int
    shards_ended: frozenset[int] = field(repr=False)
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    conditions: tuple[ConditionView, ...]
    failures: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, float]
    checkpoint: Mapping[str, Any] | None
    """Where a training would go on."""
    suite: Mapping[str, Any] | None
    """Of a run of scripts: exit status, counts and jobs."""
    result: Mapping[str, Any] | None

    @property
    def short(self) -> str:
        """Return `trun/NAME`."""
        return f"{SHORT.get(self.kind, self.kind.lower())}/{self.name}"

    @property
    def scripts_at_work(self) -> tuple[str, ...]:
        """Scripts of a suite that run now, as far as the status names them."""
        jobs = (self.suite or {}).get("jobs") or []
        return tuple(str(job.get("id")) for job in jobs if job.get("status") == "RUNNING")

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what identifies it among the runs of a cluster."""
        return self.namespace, self.kind, self.name

    def condition(self, type_: str) -> ConditionView | None:
        """Return a condition by type."""
        return next((condition for condition in self.conditions if condition.type == type_), None)

    def is_true(self, type_: str) -> bool:
        """Say whether a condition is there and True."""
        found = self.condition(type_)
        return found is not None and found.status == "True"

    @property
    def complete(self) -> bool:
        """Whether it has its result."""
        return self.is_true(ConditionType.COMPLETE)

    @property
    def finished(self) -> bool:
        """Whether it has ended, either way."""
        return self.complete or self.is_true(ConditionType.FAILED)

    @property
    def over(self) -> bool:
        """Whether nothing more will come: ended, or rejected for what its spec says, which can not change."""
        accepted = self.condition(ConditionType.ACCEPTED)
        return self.finished or (accepted is not None and accepted.status == "False")

    @property
    def ended_items(self) -> int:
        """Items that went any way."""
        return self.done + self.failed + self.skipped

    @property
    def trouble(self) -> str:
        """Return why it doesn't go as it should, in one line; empty when nothing is wrong."""
        failed = self.condition(ConditionType.FAILED)
        if failed is not None and failed.status == "True":
            return _reason(failed)
        if self.complete:
            return ""
        for type_ in _MUST_HOLD:
            found = self.condition(type_)
            if found is not None and found.status == "False" and found.reason not in _QUIET_REASONS:
                return _reason(found)
        return ""


def view(document: Document) -> RunView:
    """Return what a run's document says, its texts sanitized: whoever may write a status writes to terminals."""
    document = sanitize_values(document)
    metadata = document["metadata"]
    spec = _mapping(document.get("spec"))
    status = _mapping(document.get("status"))
    items = _mapping(status.get("items"))
    shards = _mapping(status.get("shards"))
    progress = _mapping(status.get("progress"))
    wanted = _mapping(spec.get("sharding")).get("shards")
    return RunView(
        document=document,
        kind=str(document.get("kind")),
        namespace=str(metadata.get("namespace") or ""),
        name=str(metadata["name"]),
        uid=str(metadata.get("uid") or ""),
        phase="Deleting" if metadata.get("deletionTimestamp") else str(status.get("phase") or Phase.PENDING),
        seen=bool(status),
        suspend=bool(spec.get("suspend")),
        percent=_number(progress.get("percent")),
        rate=progress.get("ratePerSecond"),
        remaining=_number(progress.get("estimatedRemainingSeconds")),
        total=_number(items.get("total")),
        done=_number(items.get("done")) or 0,
        failed=_number(items.get("failed")) or 0,
        skipped=_number(items.get("skipped")) or 0,
        shards=_number(shards.get("total")) or _number(wanted) or 0,
        shards_active=_number(shards.get("active")) or 0,
        shards_done=_number(shards.get("succeeded")) or 0,
        shards_failed=_number(shards.get("failed")) or 0,
        shards_ended=_indexes(shards.get("completedIndexes")) | _indexes(shards.get("failedIndexes")),
        created=time_of(metadata.get("creationTimestamp")),
        started=time_of(status.get("startTime")),
        ended=time_of(status.get("completionTime")),
        conditions=tuple(_condition(entry) for entry in status.get("conditions") or []),
        failures=tuple(status.get("failures") or []),
        metrics={metric["name"]: metric["value"] for metric in status.get("metrics") or []},
        checkpoint=_mapping(status.get("checkpoint")) or None,
        suite=_mapping(status.get("suite")) or None,
        result=status.get("result"),
    )


def time_of(text: Any) -> datetime | None:
    """Return a time as Kubernetes writes it; None when there is none."""
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _condition(entry: Mapping[str, Any]) -> ConditionView:
    return ConditionView(
        type=str(entry.get("type")),
        status=str(entry.get("status")),
        reason=str(entry.get("reason") or ""),
        message=str(entry.get("message") or ""),
        since=time_of(entry.get("lastTransitionTime")),
    )


def _reason(condition: ConditionView) -> str:
    return f"{condition.reason}: {condition.message}" if condition.message else condition.reason


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _indexes(text: Any) -> frozenset[int]:
    try:
        return frozenset(indexes.from_text(str(text or "")))
    except ValueError:
        return frozenset()
