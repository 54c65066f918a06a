"""What the worker of a single step left, read as a whole or not at all: nothing of it reaches a plan unchecked."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from shardwise_api.runs import Run
from shardwise_api.wire import PrepareResult, RunResult

from .conditions import shortened
from .observed import JobState, JobView
from .policies import policy_of

M = TypeVar("M", PrepareResult, RunResult)
MAX_RESULT_CHARACTERS = 64 * 1024
"""A kubelet keeps 4 KiB; this is for what somebody else has written down."""
_SHOWN = 200


class InvalidResult(Exception):
    """A result that no plan can be made from; the message names the field."""


def result_of(model: type[M], job: JobView | None, *, run: Run) -> M | None:
    """Return a step's result, None while there is none.

    Raises:
        InvalidResult: it can't be read (a kubelet cuts long messages), or says what can't be.
    """
    if job is None or job.state is not JobState.COMPLETE:
        return None
    if len(job.message) > MAX_RESULT_CHARACTERS:
        raise InvalidResult(f"the worker's result can't be read: it has more than {MAX_RESULT_CHARACTERS} characters")
    try:
        result = model.model_validate_json(job.message)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        place = ".".join(map(str, problems[0]["loc"]))
        told = f"{place}: {problems[0]['msg']}" if place else problems[0]["msg"]
        shown = shortened(job.message, limit=_SHOWN)
        raise InvalidResult(f"the worker's result can't be read: {told}: {shown!r}") from error
    if isinstance(result, PrepareResult) and (problem := policy_of(run).problem_of(result)) is not None:
        raise InvalidResult(f"the worker's result can't be: {problem}")
    return result
