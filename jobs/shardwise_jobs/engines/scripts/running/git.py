"""Which commit a tree of scripts is of: what a summary says so that its figures can be traced to their source."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SECONDS = 10.0


def commit_of(tree: Path) -> str | None:
    """Return the commit that a tree is of, None where git has nothing to say, or isn't there."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 (whichever git there is)
            cwd=tree,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() or None
