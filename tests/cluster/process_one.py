"""The first process of a node: keeps its namespaces alive, and takes them and everybody inside along when it is killed.

Run as a script by the machine's Python: a node's view of the file system may not hold this package.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Sleep for ever; the kernel buries orphans by itself once nobody asks for their exit codes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
