"""Which Secrets reach a worker, and as what: by reference only, so that no manifest, status or log holds one."""

from __future__ import annotations

from typing import Any

from shardwise_api.runs import Run
from shardwise_api.wire import Environment

from ..core.policies import policy_of


def secret_environment(run: Run) -> list[dict[str, Any]]:
    """Return variables that hold one key of a Secret each."""
    reference = policy_of(run).store_secret
    if reference is None:
        return []
    source = {"secretKeyRef": {"name": reference.name, "key": reference.key}}
    return [{"name": Environment.STORE_URI.value, "valueFrom": source}]


def secret_sources(run: Run) -> list[dict[str, Any]]:
    """Return Secrets whose keys become variables."""
    output = run.spec.output
    if output is None or output.secret_ref is None:
        return []
    return [{"secretRef": {"name": output.secret_ref.name}}]
