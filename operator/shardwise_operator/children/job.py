"""An Indexed Job of a step: which attempts count, which end the run, and when a lost pod is replaced.

A shard is never worked on by two pods on purpose (`podReplacementPolicy: Failed`), and what is no fault of the worker
(a drained node, lost peers, a deleted pod) uses up no retry.
"""

from __future__ import annotations

from typing import Any

from shardwise_api.runs import Run
from shardwise_api.wire import Step

from ..core.policies import policy_of
from ..core.retry_policy import UNCOUNTED, RetryPolicy
from .job_groups import JobGroup
from .names import CONTAINER, KUEUE, KUEUE_QUEUE, Annotations, Labels, child_name, owner, queue_labels, run_labels
from .pod import ChildSettings, pod_spec


def job(run: Run, *, step: Step, group: JobGroup, parallelism: int, settings: ChildSettings) -> dict[str, Any]:
    """Return the Job of a step, or of a part of it."""
    name = child_name(run=run.metadata.name, step=step, part=group.number)
    labels = {**run_labels(run, step=step), Labels.STEP.value: step.value}
    queue = queue_labels(run) if step is Step.WORK else {}
    rules = policy_of(run).retry(step=step, completions=group.completions)
    shards = {} if group.shards is None else {Annotations.SHARDS.value: group.shards}
    place = {Annotations.PART.value: f"{group.number}/{group.of}", **shards} if shards else {}
    # What Kueue is to know of the Job with the shards (its least parallelism) is untrue of a Job of one pod.
    given = run.spec.worker.annotations.items()
    annotations = {**{key: value for key, value in given if step is Step.WORK or not key.startswith(KUEUE)}, **place}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": run.metadata.namespace,
            "labels": {**queue, **labels},
            **({"annotations": annotations} if annotations else {}),
            "ownerReferences": [owner(run)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": group.completions,
            "parallelism": parallelism,
            "backoffLimitPerIndex": rules.per_index,
            "maxFailedIndexes": rules.max_failed,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules(rules)},
            **(
                {}
                if rules.success_count is None
                else {"successPolicy": {"rules": [{"succeededCount": rules.success_count}]}}
            ),
            # Kueue lets a Job begin by taking this away; it is made suspended and then left to Kueue.
            "suspend": KUEUE_QUEUE in queue,
            "template": {
                "metadata": {"labels": labels, "annotations": {**run.spec.worker.annotations, **shards}},
                "spec": pod_spec(run, step=step, group=group, job_name=name, settings=settings),
            },
        },
    }


def _failure_rules(rules: RetryPolicy) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _codes(*map(int, UNCOUNTED))},
    ]
    if rules.fail_index_codes:
        # Before a disruption: what was worked to its end would be worked again to the same end.
        found.insert(0, {"action": "FailIndex", "onExitCodes": _codes(*sorted(rules.fail_index_codes))})
    if rules.fail_job_codes:
        found.append({"action": "FailJob", "onExitCodes": _codes(*sorted(rules.fail_job_codes))})
    return found


def _codes(*values: int) -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": list(values)}
