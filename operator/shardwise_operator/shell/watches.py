"""The watches, by kopf: events go into the cache and wake a loop; nothing is patched and no finalizer is set."""

from __future__ import annotations

from typing import Any

import kopf

from shardwise_api.runs import KINDS

from ..children.names import GROUP, VERSION, Labels
from .cache import Cache

SERVER_TIMEOUT_SECONDS = 300
CLIENT_TIMEOUT_SECONDS = 330
CONNECT_TIMEOUT_SECONDS = 10


def registry_for(cache: Cache) -> kopf.OperatorRegistry:
    """Return kopf's registry of what to watch."""
    registry = kopf.OperatorRegistry()

    def watch(kind: str) -> Any:
        async def seen(event: kopf.RawEvent, **_: Any) -> None:
            cache.on_watch_event(kind, _plain(event["object"]), deleted=event["type"] == "DELETED")

        seen.__name__ = f"see_{kind.lower()}"
        return seen

    for kind, model in KINDS.items():
        kopf.on.event(GROUP, VERSION, model.plural, registry=registry)(watch(kind))
    kopf.on.event("batch", "v1", "jobs", registry=registry)(watch("Job"))
    kopf.on.event("", "v1", "pods", registry=registry)(watch("Pod"))
    kopf.on.login(registry=registry)(_login)
    return registry


def kopf_settings() -> kopf.OperatorSettings:
    """Return kopf's settings: a time limit everywhere, and no write of its own."""
    settings = kopf.OperatorSettings()
    settings.watching.server_timeout = SERVER_TIMEOUT_SECONDS
    settings.watching.client_timeout = CLIENT_TIMEOUT_SECONDS
    settings.watching.connect_timeout = CONNECT_TIMEOUT_SECONDS
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = CONNECT_TIMEOUT_SECONDS
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NothingKept()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.label_selectors["batch", "v1", "jobs"] = Labels.RUN_UID.value
    settings.watching.label_selectors["", "v1", "pods"] = Labels.RUN_UID.value
    return settings


class _NothingKept(kopf.DiffBaseStorage):
    """For nobody: `on.event` needs no differences, and copying every object for them took most of the time."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> Any:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        pass


def _login(**kwargs: Any) -> Any:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _plain(body: Any) -> dict[str, Any]:
    return dict(body)
