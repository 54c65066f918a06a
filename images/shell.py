"""Runs programs: quietly, with their complaint as the error, or aloud, step by step with seconds."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from .errors import ImageError

_LAST_LINES = 25
# `[2/4] STEP 3/5: RUN …` of buildah, `#7 [stage 2/4] RUN …` of Docker; a step of 1,000 characters is told in 100.
_STEP = re.compile(r"^(?:\[\d+/\d+\] )?STEP \d+/\d+: |^#\d+ \[\S+ +\d+/\d+\] ")
# How every step that reaches an index begins says nothing of what it does.
_PREAMBLE = re.compile(r"--mount=\S+ *|if \[ -f \S+ \]; then \S+ \S+; fi *&& *|(?<= ) +")
_SHOWN = 100
_WORTH_TELLING = 0.1


def say(text: str) -> None:
    """Tell how far things are, at once; on standard error, since standard output belongs to results."""
    print(text, file=sys.stderr, flush=True)


def run(*command: str | Path, environment: Mapping[str, str] | None = None, given: str | None = None) -> str:
    """Return what the program printed; raise with what it complained about."""
    words = [str(word) for word in command]
    try:
        result = subprocess.run(words, env=environment, input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ImageError(f"{words[0]} is not on this machine") from error
    if result.returncode != 0:
        raise ImageError(f"`{' '.join(words)[:300]}` ended with {result.returncode}: {_complaint(result)}")
    return result.stdout


def succeeds(*command: str | Path) -> bool:
    """Tell whether the program is there and ends well."""
    try:
        run(*command)
    except ImageError:
        return False
    return True


def follow(*command: str | Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a builder and tell each of its steps with its seconds; raise with its last words."""
    words = [str(word) for word in command]
    last: deque[str] = deque(maxlen=_LAST_LINES)
    step, since = "", time.monotonic()
    with subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line.rstrip())
            if begun := step_of(line):
                _tell(step, since)
                step, since = begun, time.monotonic()
    _tell(step, since)
    if process.returncode != 0:
        raise ImageError(f"{Path(words[0]).name} ended with {process.returncode}:\n" + "\n".join(last))


def step_of(line: str) -> str | None:
    """Return in short what a builder begins with this line of its output, if it begins a step."""
    return _PREAMBLE.sub("", line.rstrip())[:_SHOWN] if _STEP.match(line) else None


def _tell(step: str, since: float) -> None:
    seconds = time.monotonic() - since
    if step and seconds >= _WORTH_TELLING:
        say(f"  {seconds:6.1f} s  {step}")


def _complaint(result: subprocess.CompletedProcess[str]) -> str:
    return (result.stderr or result.stdout).strip()[-2000:]
