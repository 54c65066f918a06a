"""Stands between Hydra and a rank process, to see how that ends and to be the one whom Hydra kills.

Hydra's proxy starts this instead of the training. When a peer is lost, proxies and all below them are killed, so this
process can say nothing; when its own rank process dies (the kernel ran out of memory, a crash), it lives and reports
by which signal. It also carries SIGTERM to the rank, and kills it when the worker is gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass

from .cleanup import PROXY
from .parent_death import die_with

LAUNCH_SPEC = "SHARDWISE_RANK_ORDER"
"""Environment variable that holds a `LaunchSpec`."""
TERMINATE = b"t"
"""From the worker, down the control socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """What a worker wants of its relay. File descriptors go through Hydra's proxy, which leaves them alone."""

    command: list[str]
    folder: str
    """The command's working directory; Hydra would take that of rank 0."""
    control: int
    """A socket to the worker."""
    alive: int
    """A pipe that nothing is written to: its other end is closed once this process and its rank process are gone."""
    outcome: int
    """What the rank process tells goes there; it knows by another variable."""
    log: int
    """Where the rank process's output goes; Hydra would bring it to rank 0."""

    def text(self) -> str:
        """Return it as the environment variable holds it."""
        return json.dumps(asdict(self))


def main() -> int:
    """Run the ordered command, and report its exit code (negative: a signal) to the worker."""
    die_with(os.getppid())
    spec = LaunchSpec(**json.loads(os.environ.pop(LAUNCH_SPEC)))
    control = socket.socket(fileno=spec.control)
    waking, woken = socket.socketpair()
    woken.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    relay = os.getpid()
    process = subprocess.Popen(
        spec.command,
        stdin=subprocess.DEVNULL,
        stdout=spec.log,
        stderr=spec.log,
        cwd=spec.folder,
        env={**os.environ, PROXY: str(os.getppid())},
        # MPI talks to its starter by an open file.
        pass_fds=[spec.alive, spec.outcome, *([int(os.environ["PMI_FD"])] if "PMI_FD" in os.environ else [])],
        preexec_fn=lambda: die_with(relay),
    )
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while process.poll() is None:
        ready, _, _ = select.select([control, waking], [], [])
        if waking in ready:
            waking.recv(64)
        if control in ready:
            if control.recv(1) != TERMINATE:
                process.kill()
                process.wait()
                return 1
            process.terminate()
    control.sendall(b"%d\n" % process.returncode)
    # Hydra would bring everybody down at once on any other code; that is the workers' to decide.
    return 0


if __name__ == "__main__":
    sys.exit(main())
