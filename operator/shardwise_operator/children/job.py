"""The Indexed Job of a step: which attempts count, which end the run, and when a lost pod is replaced.

A shard is never worked on by two pods on purpose (`podReplacementPolicy: Failed`), and what is no fault of the worker
(a drained node, lost peers, a deleted pod) uses up no retry.
"""

from __future__ import annotations

from typing import Any

from shardwise_api.common import Retry
from shardwise_api.runs import Run
from shardwise_api.wire import ExitCode, Step

from ..core.actions import EnsureJob
from .names import CONTAINER, KUEUE, Labels, child_name, owner, run_labels
from .pod import pod_spec
from .settings import ChildSettings

KUEUE_QUEUE = f"{KUEUE}queue-name"
ONE_STEP = Retry(per_shard=1)
"""Prepare and finalize are one worker each; what a retry may mend gets one more, after the worker's own."""


def job(run: Run, *, action: EnsureJob, settings: ChildSettings) -> dict[str, Any]:
    """Return the Job of a step."""
    name = child_name(run=run.metadata.name, step=action.step)
    labels = {**run_labels(run, step=action.step), Labels.STEP.value: action.step.value}
    retry = run.spec.retry if action.step is Step.WORK else ONE_STEP
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": run.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner(run)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": action.completions,
            "parallelism": action.parallelism,
            "backoffLimitPerIndex": retry.per_shard,
            # More than there are indexes is refused by the API server, and would say no more.
            "maxFailedIndexes": min(retry.max_failed_shards, action.completions),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules(run.spec.retry)},
            # Kueue lets a Job begin by taking this away; it is made suspended and then left to Kueue.
            "suspend": action.step is Step.WORK and queued(run),
            "template": {
                "metadata": {"labels": labels, "annotations": dict(run.spec.worker.annotations)},
                "spec": pod_spec(run, step=action.step, job_name=name, settings=settings),
            },
        },
    }


def queued(run: Run) -> bool:
    """Say whether Kueue decides when the run's workers may start."""
    return KUEUE_QUEUE in run.spec.worker.labels


def _failure_rules(retry: Retry) -> list[dict[str, Any]]:
    final = sorted({*retry.non_retriable_exit_codes} - {ExitCode.TEMPORARY, ExitCode.TERMINATED})
    rules: list[dict[str, Any]] = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _codes(int(ExitCode.TEMPORARY), int(ExitCode.TERMINATED))},
    ]
    if final:
        rules.append({"action": "FailJob", "onExitCodes": _codes(*final)})
    return rules


def _codes(*values: int) -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": list(values)}
