"""Processes that tests start end with them, also when the test run is killed."""

from __future__ import annotations

import shutil

_SETPRIV = shutil.which("setpriv")


def leashed(*command: str) -> list[str]:
    """Return the command so that the kernel ends it when its parent ends; it keeps its process id."""
    # util-linux is essential on Debian; where there is none, only a killed test run leaves something behind.
    return [*([_SETPRIV, "--pdeathsig", "KILL"] if _SETPRIV else []), *command]
