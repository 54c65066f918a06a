"""A worker's own rank process: started below Hydra's proxy or alone, asked to end, and cleared away without a trace."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .parent_death import wrap
from .rank_outcome import RESULT, RankOutcome, read_outcome
from .relay import LAUNCH_SPEC, TERMINATE, LaunchSpec

log = logging.getLogger(__name__)
PEACE_SECONDS = 1.0
"""For Hydra's programs to end by themselves when the rank processes have."""
CLEAR_SECONDS = 3.0
"""For the kernel to end what was killed."""
RELAY = [sys.executable, "-P", "-m", "shardwise_jobs.mpi.relay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a rank process ended."""

    code: int | None
    """Exit code, or the negative number of a signal; None when it was taken down together with Hydra's proxy."""
    outcome: RankOutcome | None


class RankProcess:
    """One rank process. `launcher` is Hydra's proxy with its options; None: the rank is alone."""

    def __init__(
        self, *, command: Sequence[str], launcher: Sequence[str] | None, environment: Mapping[str, str]
    ) -> None:
        self._outcome = os.memfd_create("outcome")
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._alive, alive = os.pipe()
        self._code: int | None = None
        self._heard = b""
        self._asked = False
        self._cleared = False
        output = sys.stderr.fileno()
        spec = LaunchSpec(
            command=list(command),
            folder=str(Path.cwd()),
            control=theirs.fileno(),
            alive=alive,
            outcome=self._outcome,
            log=os.dup(output),
        )
        try:
            self._process = subprocess.Popen(
                wrap(RELAY if launcher is None else launcher),
                stdin=subprocess.DEVNULL,
                stdout=output,
                env={**os.environ, **environment, LAUNCH_SPEC: spec.text(), RESULT: str(self._outcome)},
                pass_fds=(spec.control, spec.alive, spec.outcome, spec.log),
            )
        finally:
            theirs.close()
            os.close(alive)
            os.close(spec.log)

    @property
    def outcome(self) -> RankOutcome | None:
        """What it has left so far."""
        return read_outcome(self._outcome)

    @property
    def asked(self) -> bool:
        """Whether it was asked to end."""
        return self._asked

    def terminate(self) -> None:
        """Ask it to end, once, as SIGTERM does."""
        if self._asked:
            return
        self._asked = True
        try:
            self._control.send(TERMINATE)
        except OSError:
            log.info("the rank process is gone already")

    def poll(self) -> Ended | None:
        """Return how it ended, when it has."""
        try:
            while data := self._control.recv(64):
                self._heard += data
        except BlockingIOError:
            if not self._heard.endswith(b"\n"):
                return None
        except OSError as error:
            log.info("no word from the rank process: %s", error)
        code = int(self._heard) if self._heard.endswith(b"\n") else None
        return Ended(code=code, outcome=self.outcome)

    def clear(self) -> None:
        """Kill what is left of it, and return when all of it is gone; may be called again when it was interrupted."""
        if self._cleared:
            return
        if self._heard.endswith(b"\n"):
            # It is over: Hydra's proxy is about to say so to its starter, which takes silence for a crash.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PEACE_SECONDS)
        # Its relay kills it for this, should Hydra's proxy not take both along.
        self._control.close()
        self._process.kill()
        self._process.wait()
        ready, _, _ = select.select([self._alive], [], [], CLEAR_SECONDS)
        if not ready:
            log.warning("the rank process was killed and is still there after %s s", CLEAR_SECONDS)
        self._cleared = True
        os.close(self._alive)
        os.close(self._outcome)
