"""An Indexed Job of a step: which attempts count, which end the run, and when a lost pod is replaced.

A shard is never worked on by two pods on purpose (`podReplacementPolicy: Failed`), and what is no fault of the worker
(a drained node, lost peers, a deleted pod) uses up no retry.
"""

from __future__ import annotations

from typing import Any

from shardwise_api.runs import Run
from shardwise_api.wire import Step

from ..core.attempts import UNCOUNTED, Attempts, attempts
from .names import CONTAINER, KUEUE, KUEUE_QUEUE, Annotations, Labels, child_name, owner, queue_labels, run_labels
from .parts import Part
from .pod import pod_spec
from .settings import ChildSettings


def job(run: Run, *, step: Step, part: Part, parallelism: int, settings: ChildSettings) -> dict[str, Any]:
    """Return the Job of a step, or of a part of it."""
    name = child_name(run=run.metadata.name, step=step, part=part.number)
    labels = {**run_labels(run, step=step), Labels.STEP.value: step.value}
    queue = queue_labels(run) if step is Step.WORK else {}
    rules = attempts(run, step=step, completions=part.completions)
    shards = {} if part.shards is None else {Annotations.SHARDS.value: part.shards}
    place = {Annotations.PART.value: f"{part.number}/{part.of}", **shards} if shards else {}
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
            "completions": part.completions,
            "parallelism": parallelism,
            "backoffLimitPerIndex": rules.per_index,
            "maxFailedIndexes": rules.max_failed,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules(rules)},
            **({} if rules.enough is None else {"successPolicy": {"rules": [{"succeededCount": rules.enough}]}}),
            # Kueue lets a Job begin by taking this away; it is made suspended and then left to Kueue.
            "suspend": KUEUE_QUEUE in queue,
            "template": {
                "metadata": {"labels": labels, "annotations": {**run.spec.worker.annotations, **shards}},
                "spec": pod_spec(run, step=step, part=part, job_name=name, settings=settings),
            },
        },
    }


def _failure_rules(rules: Attempts) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _codes(*map(int, UNCOUNTED))},
    ]
    if rules.ends_index:
        # Before a disruption: what was worked to its end would be worked again to the same end.
        found.insert(0, {"action": "FailIndex", "onExitCodes": _codes(*sorted(rules.ends_index))})
    if rules.ends_job:
        found.append({"action": "FailJob", "onExitCodes": _codes(*sorted(rules.ends_job))})
    return found


def _codes(*values: int) -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": list(values)}
