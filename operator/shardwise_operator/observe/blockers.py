"""What keeps pods from running, in words a person can act on; computed anew each time, so that it heals by itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..core.conditions import shortened
from ..core.observed import Blocker
from .snapshots import PodSnapshot

_STARTING = ("", "ContainerCreating", "PodInitializing")
_EVENT_REASONS = (
    (re.compile(r"exceeded quota"), "QuotaExceeded"),
    (re.compile(r"violates PodSecurity"), "PodSecurityViolation"),
    (re.compile(r"serviceaccount .* not found", re.IGNORECASE), "ServiceAccountMissing"),
    (re.compile(r'secret "?[^ "]+"? not found', re.IGNORECASE), "SecretMissing"),
    (re.compile(r"couldn't find key .* in ConfigMap|non-existent config key", re.IGNORECASE), "ConfigMapKeyMissing"),
    (re.compile(r"couldn't find key|non-existent secret key", re.IGNORECASE), "SecretKeyMissing"),
    (re.compile(r'configmap "?[^ "]+"? not found', re.IGNORECASE), "ConfigMapMissing"),
    (re.compile(r"ErrImagePull|failed to pull|Back-off pulling image"), "ImagePullBackOff"),
    (re.compile(r"because it is being terminated"), "NamespaceTerminating"),
    (re.compile(r"is forbidden: User|cannot (create|patch|update|delete) resource"), "Forbidden"),
)
_HINTS = {
    "ErrImagePull": "the image can't be pulled",
    "ImagePullBackOff": "the image can't be pulled",
    "ErrImageNeverPull": "the image is not on the node",
    "InvalidImageName": "spec.worker.image is no image name",
    "Unschedulable": "no node takes the pod",
}


def blocker_of(pods: Collection[PodSnapshot]) -> Blocker | None:
    """Return why pods that should run don't, None when nothing stands in their way."""
    waiting = [pod for pod in pods if not pod.deleting and pod.phase == "Pending" and pod.waiting not in _STARTING]
    if not waiting:
        return None
    first = min(waiting, key=lambda pod: (pod.step, pod.shard, pod.name))
    # The two take turns, and are one blocker.
    pulling = first.waiting in ("ErrImagePull", "ImagePullBackOff")
    reason = "ImagePullBackOff" if pulling else reason_of(first.waiting_message, otherwise=first.waiting)
    hint = _HINTS.get(first.waiting)
    message = f"{hint}: {first.waiting_message}" if hint else first.waiting_message
    more = f" (and {len(waiting) - 1} more pods)" if len(waiting) > 1 else ""
    return Blocker(reason=reason, message=shortened(f"pod {first.name}: {message}{more}"))


def blocker_in_events(events: Iterable[Mapping[str, Any]], *, since: datetime | None = None) -> Blocker | None:
    """Return what the newest warning among a Job's or pod's Events says; one from before `since` is mended."""
    warnings = [event for event in events if event.get("type") == "Warning" and event.get("message")]
    if since is not None:
        warnings = [event for event in warnings if _time_of(event) >= since]
    if not warnings:
        return None
    newest = max(warnings, key=_event_time)
    message = str(newest["message"])
    return Blocker(reason=reason_of(message, otherwise=str(newest.get("reason") or "Warning")), message=message)


def reason_of(message: str, *, otherwise: str) -> str:
    """Return a condition's reason for what the API server or a kubelet said."""
    return next((reason for pattern, reason in _EVENT_REASONS if pattern.search(message)), otherwise)


def _time_of(event: Mapping[str, Any]) -> datetime:
    text = _event_time(event)
    return datetime.fromisoformat(text) if text else datetime.max.replace(tzinfo=UTC)


def _event_time(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("metadata", {}).get("creationTimestamp")
        or ""
    )
