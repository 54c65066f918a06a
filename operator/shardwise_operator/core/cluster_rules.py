"""What a cluster asks of a run beyond its schema: workers share no folder with whoever wrote the manifest.

A run that can't be accepted hears of every problem at once, by field, and nothing is made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from shardwise_api.file_fields import file_fields, file_problems, secret_problems
from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, Phase, RunStatus
from shardwise_api.uris import allowed_schemes

from .conditions import set_condition

INVALID_SPEC = "InvalidSpec"
OWN_PREFIX = "shardwise.dev/"


def cluster_problems(run: Run, *, reserved: Collection[str]) -> list[str]:
    """Return what keeps a valid run from running in pods, as `field: problem and way out`.

    `reserved` are the environment variables that the operator sets itself.
    """
    problems = []
    if run.spec.output is None:
        problems.append(
            "spec.output: required on a cluster: a URI that all pods reach, as s3://bucket/dir or file:///data/NAME on "
            "a volume of worker.volumes"
        )
    unusable = file_problems(run, schemes=allowed_schemes())
    problems += map(str, unusable)
    if run.status is None or not run.status.is_true(ConditionType.ACCEPTED):
        # One that an older operator has accepted works already, and would lose what it has done.
        problems += map(str, secret_problems(run))
    for field in [] if unusable else file_fields(run):
        if (path := field.path()) is not None and not path.is_absolute():
            problems.append(
                f"{field.field}: {field.value!r} is relative, and pods have no folder of the manifest: give an "
                "absolute path on a volume of worker.volumes, or a URI"
            )
    for key in run.spec.worker.annotations:
        if key.startswith(OWN_PREFIX):
            problems.append(f"spec.worker.annotations: {key} is the operator's own")
    seen = set()
    for index, entry in enumerate(run.spec.worker.env):
        name = entry.get("name")
        if name in reserved:
            problems.append(f"spec.worker.env[{index}].name: {name} is set by the operator")
        elif name in seen:
            # An API server takes no list of them that holds one twice, and says so in words of its own.
            problems.append(f"spec.worker.env[{index}].name: duplicate variable {name}")
        seen.add(name)
    return problems


def rejected(status: RunStatus | None, *, problems: Sequence[str], generation: int | None, now: datetime) -> RunStatus:
    """Return the status of a run whose spec has problems; one that has ended stays as it ended."""
    status = (status or RunStatus()).model_copy(deep=True)
    if status.finished:
        return status
    status.observed_generation = generation or status.observed_generation
    set_condition(
        status, ConditionType.ACCEPTED, value=False, reason=INVALID_SPEC, message="; ".join(problems), now=now
    )
    status.phase = Phase.REJECTED
    return status
