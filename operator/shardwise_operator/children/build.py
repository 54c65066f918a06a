"""All children that one step of a run needs, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shardwise_api.runs import Run
from shardwise_api.wire import Step

from ..core.actions import EnsureJob
from ..core.policies import policy_of
from .job import job
from .job_groups import job_groups_of, parallelisms
from .names import Labels, child_name, owner, run_labels
from .pod import ChildSettings
from .rank_network import headless_service, network_policy_spec

__all__ = ["ChildSettings", "children_of", "document_of"]

DOCUMENT_KEY = "run.json"


def children_of(
    *, run: Run, action: EnsureJob, settings: ChildSettings, jobs: Mapping[int, int] | None = None
) -> list[dict[str, Any]]:
    """Return the manifests of a step: what its pods rest on first, its Jobs last.

    `jobs` are those to make, by the number of the group, with their parallelism: all unless given.
    """
    groups = job_groups_of(run, action)
    given = parallelisms(run, action, groups) if jobs is None else jobs
    own_account = run.spec.worker.service_account_name is None
    return [
        *([_service_account(run)] if own_account else []),
        _network_policy(run, settings),
        *([headless_service(run)] if policy_of(run).peers_talk and action.step is Step.WORK else []),
        document_of(run, action=action),
        *(
            job(run, step=action.step, group=group, parallelism=given[group.number], settings=settings)
            for group in groups
            if group.number in given
        ),
    ]


def _metadata(run: Run, *, name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": run.metadata.namespace,
        "labels": {**run_labels(run), **(labels or {})},
        "ownerReferences": [owner(run)],
    }


def _service_account(run: Run) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(run, name=run.metadata.name),
        "automountServiceAccountToken": False,
    }


def _network_policy(run: Run, settings: ChildSettings) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(run, name=run.metadata.name),
        "spec": network_policy_spec(run, settings.egress),
    }


def document_of(run: Run, *, action: EnsureJob) -> dict[str, Any]:
    """Return the ConfigMap that a step's workers read."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(
            run, name=child_name(run=run.metadata.name, step=action.step), labels={Labels.STEP.value: action.step.value}
        ),
        "data": {DOCUMENT_KEY: action.document.model_dump_json(by_alias=True, exclude_none=True)},
    }
