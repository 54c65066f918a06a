"""How work can fail, each class with the exit code that tells the Job controller what to do about it."""

from __future__ import annotations

from shardwise_api.wire import ExitCode


class WorkError(Exception):
    """Base of all errors that a worker reports as one line instead of a traceback."""

    exit_code = ExitCode.FAILED


class BadConfiguration(WorkError):
    """The manifest asks for something that can't work, however often it is tried: exit 2, never retried."""

    exit_code = ExitCode.BAD_CONFIGURATION


class Unavailable(WorkError):
    """Something the worker depends on can't be reached after several tries: exit 1, counts as a failed attempt."""

    exit_code = ExitCode.FAILED


class Temporary(WorkError):
    """Not this worker's fault and gone soon (a lost peer): exit 75, not counted against its retries."""

    exit_code = ExitCode.TEMPORARY


class Interrupted(WorkError):
    """SIGTERM came; the current block is committed or rolled back: exit 143."""

    exit_code = ExitCode.TERMINATED
