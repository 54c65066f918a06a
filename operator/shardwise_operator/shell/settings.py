"""The operator's settings, all from the environment that the chart writes; what is missing is said at the start."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shardwise_api.http_guard import HttpLimits

from ..children import ChildSettings

HEALTH_PORT = 8080
PROGRESS_PORT = 8090


class MissingSetting(Exception):
    """A variable that must be there is not, or has no usable value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one operator process is told."""

    children: ChildSettings
    namespace: str = "default"
    """Its own: the Lease is there."""
    watched: tuple[str, ...] = ()
    """Namespaces to look after; empty: all."""
    lease: str = "shardwise-operator"
    pod_name: str = field(default_factory=lambda: os.uname().nodename)
    pod_ip: str = "127.0.0.1"
    listen: str | None = None
    """Address of both servers; None: all, as probes and workers come from outside the pod."""
    log_level: str = "INFO"
    health_port: int = HEALTH_PORT
    progress_port: int = PROGRESS_PORT
    http_limits: HttpLimits = field(default_factory=HttpLimits)
    """Of each of both servers."""


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        MissingSetting: no worker image is named, a limit is no number, or the workers' rules are none.
    """
    image = environment.get("SHARDWISE_WORKER_IMAGE")
    if not image:
        raise MissingSetting(
            "SHARDWISE_WORKER_IMAGE is not set: the image of the workers, as the chart's worker.image gives it"
        )
    try:
        limits = HttpLimits.from_environment(environment)
    except ValueError as error:
        raise MissingSetting(str(error)) from None
    return Settings(
        http_limits=limits,
        children=ChildSettings(
            worker_image=image,
            image_pull_policy=environment.get("SHARDWISE_IMAGE_PULL_POLICY") or "IfNotPresent",
            image_pull_secrets=_list(environment.get("SHARDWISE_IMAGE_PULL_SECRETS")),
            progress_url=environment.get("SHARDWISE_PROGRESS_URL") or None,
            uri_schemes=environment.get("SHARDWISE_URI_SCHEMES", ""),
            egress=_rules("SHARDWISE_WORKER_EGRESS", environment),
        ),
        namespace=environment.get("SHARDWISE_NAMESPACE") or "default",
        watched=_list(environment.get("SHARDWISE_WATCH_NAMESPACES")),
        lease=environment.get("SHARDWISE_LEASE") or "shardwise-operator",
        pod_name=environment.get("POD_NAME") or os.uname().nodename,
        pod_ip=environment.get("POD_IP") or "127.0.0.1",
        listen=environment.get("SHARDWISE_LISTEN") or None,
        log_level=(environment.get("SHARDWISE_LOG_LEVEL") or "INFO").upper(),
        health_port=int(environment.get("SHARDWISE_HEALTH_PORT") or HEALTH_PORT),
        progress_port=int(environment.get("SHARDWISE_PROGRESS_PORT") or PROGRESS_PORT),
    )


def _rules(name: str, environment: Mapping[str, str]) -> tuple[dict[str, Any], ...] | None:
    text = environment.get(name)
    if not text:
        return None
    try:
        rules = json.loads(text)
    except ValueError as error:
        raise MissingSetting(f"{name} is no JSON: {error}") from None
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise MissingSetting(
            f"{name} must be a list of a NetworkPolicy's egress rules, as the chart makes it of"
            " networkPolicy.egress.workers.rules"
        )
    return tuple(rules)


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
