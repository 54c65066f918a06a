"""Trying again: exponential backoff with full jitter, for calls that may be repeated without harm."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity

from .stop import interruptible_sleep

T = TypeVar("T")
log = logging.getLogger(__name__)


def retrying(call: Callable[[], T], *, on: type[Exception], attempts: int = 4, longest_seconds: float = 8) -> T:
    """Return what `call` returns, trying again while it raises `on`; after the last attempt its error comes through.

    SIGTERM ends the wait between two attempts with `Interrupted`.
    """

    def tell(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        log.warning("attempt %d of %d failed: %s", state.attempt_number, attempts, state.outcome.exception())

    retryer = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(on),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=longest_seconds),
        sleep=interruptible_sleep,
        before_sleep=tell,
        reraise=True,
    )
    return retryer(call)
