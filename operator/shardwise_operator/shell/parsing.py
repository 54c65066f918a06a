"""From what the API server holds to a run and its status: nothing that can't be read stops the operator."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError

from shardwise_api.runs import KINDS, Run
from shardwise_api.status import RunStatus
from shardwise_api.validation import validate

from ..children.pod import reserved_environment
from ..core.cluster_rules import cluster_problems

log = logging.getLogger(__name__)


def parsed(body: dict[str, Any], status: RunStatus | None) -> tuple[Run | None, list[str]]:
    """Return the run, with the status given, and what keeps it from running on a cluster; no run if it is invalid."""
    run, problems = validate(KINDS[body["kind"]], {key: body[key] for key in body if key != "status"})
    if run is None:
        return None, [str(problem) for problem in problems]
    run.status = status
    return run, cluster_problems(run, reserved=reserved_environment())


def status_of(body: dict[str, Any]) -> RunStatus | None:
    """Return what was said of a run before, as far as it can be read; None when nothing was."""
    document = body.get("status")
    if not document:
        return None
    try:
        return RunStatus.model_validate(document)
    except ValidationError as error:
        # Written by another version, or by hand: what can be read stays, above all that the run is over; what is
        # observed says the rest anew.
        log.warning("run %s: a part of its status can't be read: %s", body["metadata"]["name"], error)
    fields = {key: value for key, value in document.items() if key != "conditions" and _readable({key: value})}
    conditions = document.get("conditions")
    known = [one for one in conditions if _readable({"conditions": [one]})] if isinstance(conditions, list) else []
    return RunStatus.model_validate({**fields, "conditions": known})


def _readable(document: dict[str, Any]) -> bool:
    try:
        RunStatus.model_validate(document)
    except ValidationError:
        return False
    return True
