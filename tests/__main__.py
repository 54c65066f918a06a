"""All tests, as `make test` runs them: those on a cluster beside those without, as the first mostly wait.

What the second half says is shown as a whole at its end, so that the two can be read. `python -m pytest` runs tests
one after the other, all or some, as always.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO

_POLL_SECONDS = 0.5
_NOTHING_COLLECTED = 5
_HALVES = {
    "on a cluster": ("-m", "e2e", "-v", "--durations=15"),
    "without a cluster": ("-m", "not e2e", "-q", "--durations=15"),
}
_ON_A_CLUSTER = "tests/e2e"
"""Where all of the first half are: to collect the others there too takes half a minute."""
_ANNOUNCEMENT = """\
All tests, in two halves at once: those on a cluster (shown as they end) and those without (shown at their end).
Needs Debian and root: a two-node Kubernetes comes up on this machine, and is removed again. What it is made of is built
the first time, and kept in SHARDWISE_CACHE.
Takes about 45 minutes on two cores, and 20 more the first time. `make test-unit` takes minutes and needs no root;
`make test-e2e` runs the tests on a cluster alone, or on the one that KUBECONFIG names. Ctrl-C stops both halves.
"""


def main(arguments: Sequence[str]) -> int:
    """Run both halves; 0 when all of both went well."""
    halves: dict[str, subprocess.Popen[bytes]] = {}

    def stop(number: int, _frame: FrameType | None) -> None:
        for half in halves.values():
            half.send_signal(number)

    if not arguments:
        print(_ANNOUNCEMENT, flush=True)
    # Before they start: from the background, or from nohup, they would inherit what is ignored, and test it in vain.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    with tempfile.TemporaryFile("w+") as said:
        for name, options in _HALVES.items():
            first = name == "on a cluster"
            paths = [word for word in arguments if Path(word.partition("::")[0]).exists()]
            folder = [_ON_A_CLUSTER] if first and not paths else []
            halves[name] = _start([*options, *folder, *arguments], said=None if first else said)
        shown = False
        while any(half.poll() is None for half in halves.values()):
            if not shown and halves["without a cluster"].poll() is not None:
                shown = True
                _show(said)
            time.sleep(_POLL_SECONDS)
        if not shown:
            _show(said)
    codes = {name: half.wait() for name, half in halves.items()}
    for name, code in codes.items():
        print(f"tests {name}: {'passed' if code == 0 else f'exit code {code}'}")
    return max((code for code in codes.values() if code != _NOTHING_COLLECTED), key=abs, default=_NOTHING_COLLECTED)


def _start(options: Sequence[str], *, said: IO[str] | None) -> subprocess.Popen[bytes]:
    # In a session of its own, so that a Ctrl-C reaches each half once, through us.
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options],
        stdout=said,
        stderr=said and subprocess.STDOUT,
        start_new_session=True,
    )


def _show(said: IO[str]) -> None:
    said.seek(0)
    print(f"\n{said.read()}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
