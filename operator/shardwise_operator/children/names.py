"""Names and labels of children: functions of the run alone, so that a child made twice is the same child."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from shardwise_api.runs import Run
from shardwise_api.wire import Step

CONTAINER = "worker"
KUEUE = "kueue.x-k8s.io/"
KUEUE_QUEUE = f"{KUEUE}queue-name"
KUEUE_PRIORITY = f"{KUEUE}priority-class"
KUEUE_MIN_PARALLELISM = f"{KUEUE}job-min-parallelism"
GROUP = "shardwise.dev"
VERSION = "v1alpha1"


class Labels(StrEnum):
    """Labels of every child and pod."""

    MANAGED_BY = "app.kubernetes.io/managed-by"
    PART_OF = "app.kubernetes.io/part-of"
    RUN = "shardwise.dev/run"
    RUN_UID = "shardwise.dev/run-uid"
    KIND = "shardwise.dev/kind"
    STEP = "shardwise.dev/step"


class Annotations(StrEnum):
    """Annotations of Jobs, SHARDS also of pods."""

    MESSAGE = "shardwise.dev/termination-message"
    """What the step's worker left: outlives its pod, which a lost node takes along."""
    PART = "shardwise.dev/part"
    """Of a Job that has a part of a step's shards: which part, and in how many Jobs they are, as `2/3`."""
    SHARDS = "shardwise.dev/shards"
    """The shards of such a Job, as interval text: its completion indexes count in these."""


def child_name(*, run: str, step: Step, part: int = 0) -> str:
    """Return the name of a step's Job and ConfigMap; the work step's is the run's own."""
    if part:
        return f"{run}-{step}-{part}"
    return run if step is Step.WORK else f"{run}-{step}"


def run_labels(run: Run, *, step: Step | None = None) -> dict[str, str]:
    """Return the labels of a run's children, its own ones before ours; Kueue's are for the Job with the shards only."""
    own = run.spec.worker.labels.items()
    return {
        **{key: value for key, value in own if step is Step.WORK or not key.startswith(KUEUE)},
        Labels.MANAGED_BY.value: "shardwise",
        Labels.PART_OF.value: "shardwise",
        Labels.RUN.value: run.metadata.name,
        Labels.RUN_UID.value: run.metadata.uid or "",
        Labels.KIND.value: run.kind,
    }


def queue_labels(run: Run) -> dict[str, str]:
    """Return the labels by which Kueue knows the Jobs with the shards: of `worker.labels`, else of the run itself."""
    given = {key: run.spec.worker.labels.get(key, run.metadata.label(key)) for key in (KUEUE_QUEUE, KUEUE_PRIORITY)}
    return {key: value for key, value in given.items() if value is not None}


def queued(run: Run) -> bool:
    """Say whether a queue of Kueue is to decide when the run's workers may start."""
    return KUEUE_QUEUE in queue_labels(run)


def owner(run: Run) -> dict[str, object]:
    """Return the reference by which a child goes when its run does."""
    return {
        "apiVersion": run.api_version,
        "kind": run.kind,
        "name": run.metadata.name,
        "uid": run.metadata.uid or "",
        "controller": True,
        "blockOwnerDeletion": False,
    }


def step_of(labels: Mapping[str, str]) -> Step | None:
    """Return the step that a child's labels name."""
    value = labels.get(Labels.STEP)
    return Step(value) if value in set(Step) else None
