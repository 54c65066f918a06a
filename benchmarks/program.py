"""How every benchmark speaks and ends: a document on standard output, the rest on standard error, Ctrl-C obeyed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn


def say(text: str) -> None:
    """Tell what is being done."""
    print(text, file=sys.stderr, flush=True)


def told(document: dict[str, Any], *, problems: Sequence[str]) -> int:
    """Print a benchmark's document and return its exit code: 1 when results were wrong."""
    print(json.dumps({**document, "problems": list(problems)}, indent=2))
    return 1 if problems else 0


def run(main: Callable[[], int]) -> NoReturn:
    """Run a benchmark and exit; what it started is stopped on the way out of its blocks, on SIGTERM too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = main()
    except KeyboardInterrupt:
        say("interrupted; everything started was stopped")
        code = 130
    sys.exit(code)
