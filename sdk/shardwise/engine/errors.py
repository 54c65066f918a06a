"""How work can fail, each class with the exit code that tells the Job controller what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shardwise_api.wire import ExitCode

from .secrets import struck

if TYPE_CHECKING:
    from pydantic import ValidationError


@contextmanager
def panics_are_errors() -> Iterator[None]:
    """Raise a panic of the Rust library, which no `except Exception` would catch, as a ValueError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(str(error)) from error


def first_mistake(error: ValidationError) -> str:
    """Return the first of a model's complaints in one line, with its field."""
    mistake = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, mistake['loc'])) or 'the whole'}: {mistake['msg']}"


class WorkError(Exception):
    """Base of all errors that a worker reports as one line instead of a traceback."""

    exit_code: int = ExitCode.FAILED
    reason = "WorkerFailed"
    """CamelCase, for the run's conditions."""

    def __str__(self) -> str:
        # A driver's or a server's words may quote what is nobody's business.
        return struck(super().__str__())


class BadConfiguration(WorkError):
    """The manifest asks for something that can't work, however often it is tried: exit 2, never retried."""

    exit_code = ExitCode.BAD_CONFIGURATION
    reason = "InvalidSpec"


class BadInput(BadConfiguration):
    """The input can't be worked on, however often it is tried: exit 2, never retried."""

    reason = "InvalidInput"


class TooManyFailedItems(BadConfiguration):
    """More items failed than `items.maxFailedFraction` allows: exit 2, since the same items would fail again."""

    reason = "TooManyFailedItems"


class Unavailable(WorkError):
    """Something the worker depends on can't be reached after several tries: exit 1, counts as a failed attempt."""

    reason = "Unavailable"


class Temporary(WorkError):
    """Not this worker's fault and gone soon (a lost peer): exit 75, not counted against its retries."""

    exit_code = ExitCode.TEMPORARY
    reason = "Temporary"


class Interrupted(WorkError):
    """SIGTERM came; the current block is committed or rolled back: exit 143."""

    exit_code = ExitCode.TERMINATED
    reason = "Interrupted"
