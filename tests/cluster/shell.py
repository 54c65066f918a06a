"""Runs a program to its end; its own words become the error, since `exit status 1` helps nobody."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import ClusterError

_TIMEOUT_SECONDS = 120


def run(
    *command: str | Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    given: str | None = None,
    timeout: float = _TIMEOUT_SECONDS,
) -> str:
    """Return what the program printed; raise with what it complained about."""
    words = [str(word) for word in command]
    try:
        result = subprocess.run(
            words,
            env=environment,
            cwd=folder,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{words[0]} is not on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"`{_short(words)}` took longer than {timeout:.0f} s") from error
    if result.returncode != 0:
        raise ClusterError(
            f"`{_short(words)}` ended with {result.returncode}: {(result.stderr or result.stdout).strip()}"
        )
    return result.stdout


def succeeds(*command: str | Path) -> bool:
    """Tell whether the program ends well; for questions, and for removing what may be gone."""
    try:
        run(*command)
    except ClusterError:
        return False
    return True


def say(text: str) -> None:
    """Tell the reader how far things are; at once, also through a pipe."""
    print(text, flush=True)


def _short(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text if len(text) < 300 else f"{text[:300]}…"
