"""A test that can't run says so loudly, and where everything must run (REQUIRE_E2E=1) that is a failure."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str, how_to_get: str) -> NoReturn:
    """Skip the test that needs `what`, or fail it when REQUIRE_E2E=1 is set."""
    message = f"NOT RUN: {what} is missing. {how_to_get}"
    if os.environ.get("REQUIRE_E2E") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
