"""A worker's part in a gang: it meets the other ranks' workers, runs its own rank process, and sees all of it ended.

A worker is its pod's first process. It talks to the other workers beside MPI, for MPI itself can't be asked whether a
peer is lost: whoever waits in a sum waits for ever.
"""

from __future__ import annotations

import logging
import queue
import signal
import time
from collections.abc import Callable, Sequence

from shardwise.engine.errors import BadConfiguration, Interrupted, Temporary, Unavailable, WorkError
from shardwise.engine.stop import StopFlag
from shardwise_api.wire import ExitCode

from .channel import Caller, Channel, ConnectionLost, Message
from .handshake import Broken, Dialer, Disconnected, Event, Events, Joined, Launch, Listener, MessageReceived
from .hydra import Mpiexec, check_line
from .rank_process import Ended, RankProcess
from .settings import mpi_environment

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.1
_TELL_SECONDS = 1.0
_END_SECONDS = 7.0
"""For ranks that were asked to end: they agree on the step after which they do. Less than a stopped worker has."""
_AFTER_LOSS_SECONDS = 2.0
"""For a rank process to say how it ended, when a peer is lost: it may just have come to its end."""
_FAILED_SECONDS = 20.0
"""For a rank process that has reported a failure to end, which it does together with the others."""
_LAST_SECONDS = 1.5
"""For a rank process after this worker's own time for its block is over."""


def run_in_gang(
    *,
    rank: int,
    size: int,
    token: str,
    rendezvous: str,
    command: Sequence[str],
    stop: StopFlag,
    on_waiting: Callable[[frozenset[int]], None],
) -> str:
    """Meet the other ranks, run `command` as this one, and return the JSON text of the result that it left.

    `command` is a program that ends in `rank_main.serve`. `on_waiting` is called about
    once a second on rank 0 with the ranks that have not come yet, and once with none of them, before the start.

    Raises:
        Temporary: a peer is lost or left, or the ranks must meet anew, for one more came or their number changes.
        Interrupted: `stop` was set; the rank processes have ended at a step that they agreed upon, or were killed.
        WorkError: what this rank process reported at its end, with its reason and exit code; or it died.
        BadConfiguration: no such rank or rendezvous, or Hydra is missing.
    """
    if not 0 <= rank < size:
        raise BadConfiguration(f"rank {rank} of {size}: there is no such rank")
    if not token:
        raise BadConfiguration("the run has no peer token; its prepare step makes one")
    gang: _Supervisor
    if rank == 0:
        gang = _Leader(size=size, command=command, stop=stop, token=token, rendezvous=rendezvous, on_waiting=on_waiting)
    else:
        gang = _Follower(rank=rank, size=size, command=command, stop=stop, token=token, rendezvous=rendezvous)
    try:
        return gang.run()
    except Exception as error:
        gang.tell_end(error)
        raise
    finally:
        try:
            gang.clear()
        except Interrupted:
            # The clock of a worker that was asked to stop; there is little left to do.
            gang.clear()


class _Supervisor:
    """What all ranks' workers do alike."""

    def __init__(self, *, rank: int, size: int, command: Sequence[str], stop: StopFlag) -> None:
        self.rank = rank
        self.size = size
        self.command = command
        self.stop = stop
        self.events: Events = queue.SimpleQueue()
        self.process: RankProcess | None = None
        self.lost: str | None = None
        """Why this gang can't go on, when that has shown."""
        self.end: float | None = None
        """When the rank process will be killed (monotonic)."""

    def run(self) -> str:
        """Meet, start, and see it through."""
        self.meet()
        while True:
            try:
                ended = self._watch()
                break
            except Interrupted as error:
                # The clock in `stop`: this worker must be gone soon.
                log.info("%s", error)
                self._within(_LAST_SECONDS)
        result = self._verdict(ended)
        self.tell_end(None)
        self.wait_for_others()
        return result

    def meet(self) -> None:
        """Return when the rank process is started."""
        raise NotImplementedError

    def heard(self, event: Event) -> None:
        """Take in what happened while the rank process runs."""
        raise NotImplementedError

    def tell_end(self, error: Exception | None) -> None:
        """Tell the others that this rank has ended, and how."""
        raise NotImplementedError

    def wait_for_others(self) -> None:
        """Stay while others need this worker."""

    def clear(self) -> None:
        """Leave no process and no connection behind."""
        if self.process is not None:
            self.process.clear()

    def next(self) -> Event | None:
        """Wait a moment for something to happen."""
        try:
            return self.events.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            return None

    def regroup(self, why: str) -> None:
        """End this gang at a step that the ranks agree upon; they will meet again."""
        if self.lost is None:
            log.info("%s", why)
            self.lost = why
        if self.process is not None:
            self.process.terminate()
        self._within(_END_SECONDS)

    def peer_lost(self, why: str) -> None:
        """A peer is gone, and with it whatever MPI is doing."""
        if self.lost is None:
            log.info("%s", why)
            self.lost = why
        self._within(_AFTER_LOSS_SECONDS)

    def _within(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.end = end if self.end is None else min(end, self.end)

    def _watch(self) -> Ended:
        assert self.process is not None
        told_failure = False
        while True:
            event = self.next()
            if event is not None:
                self.heard(event)
            ended = self.process.poll()
            if ended is not None:
                return ended
            if self.stop.is_set:
                self.process.terminate()
                self._within(_END_SECONDS)
            outcome = self.process.outcome
            if not told_failure and outcome is not None and outcome.failure is not None:
                told_failure = True
                self._within(_FAILED_SECONDS)
            if self.end is not None and time.monotonic() > self.end:
                return Ended(code=None, outcome=outcome)

    def _verdict(self, ended: Ended) -> str:
        outcome, code = ended.outcome, ended.code
        if outcome is not None and outcome.result is not None:
            return outcome.result
        if self.stop.is_set:
            raise Interrupted("stopped at a step that the ranks agreed upon" if outcome else "stopped")
        if outcome is not None and outcome.failure is not None:
            if outcome.code in (ExitCode.TEMPORARY, ExitCode.TERMINATED):
                raise Temporary(self.lost or outcome.failure.message)
            failed = WorkError(outcome.failure.message)
            failed.reason, failed.exit_code = outcome.failure.reason, outcome.code
            raise failed
        assert self.process is not None
        if code == -signal.SIGTERM and self.process.asked:
            raise Temporary(self.lost or f"rank {self.rank} was stopped before its first step")
        if code is not None and code < 0:
            raise _killed(self.rank, -code)
        if self.lost is None and code is not None:
            # MPI may have ended the process for a peer that is lost; the word about that may come later.
            end = time.monotonic() + _AFTER_LOSS_SECONDS
            while self.lost is None and time.monotonic() < end:
                if (event := self.next()) is not None:
                    self.heard(event)
        if self.lost is None and code is not None:
            raise WorkError(f"rank {self.rank} ended with exit code {code} and left no result")
        raise Temporary(self.lost or "a peer is lost: this rank was taken down with it")


class _Leader(_Supervisor):
    """Rank 0's worker: the others come to it, and it starts them."""

    def __init__(
        self,
        *,
        size: int,
        command: Sequence[str],
        stop: StopFlag,
        token: str,
        rendezvous: str,
        on_waiting: Callable[[frozenset[int]], None],
    ) -> None:
        super().__init__(rank=0, size=size, command=command, stop=stop)
        self._on_waiting = on_waiting
        self._members: dict[int, Channel] = {}
        self._done: set[int] = set()
        self._mpiexec: Mpiexec | None = None
        try:
            self._listener = Listener(rendezvous=rendezvous, token=token, events=self.events)
        except OSError as error:
            raise Unavailable(f"rank 0 can't listen at {rendezvous}: {error}") from error

    def meet(self) -> None:
        told_at = float("-inf")
        while missing := frozenset(range(1, self.size)) - self._members.keys():
            self.stop.check()
            now = time.monotonic()
            if now >= told_at + _TELL_SECONDS:
                told_at = now
                self._on_waiting(missing)
            event = self.next()
            if isinstance(event, Joined):
                self._let_in(event)
            elif isinstance(event, Disconnected):
                self._members = {rank: channel for rank, channel in self._members.items() if channel != event.channel}
        self._on_waiting(frozenset())
        if self.size == 1:
            self.process = RankProcess(command=self.command, launcher=None, environment={})
            return
        self._launch()

    def _let_in(self, joined: Joined) -> None:
        rank, size = joined.caller.rank, joined.caller.size
        if size != self.size:
            why = f"rank {rank} is one of {size}, rank 0 one of {self.size}: the number of ranks changes"
            _say(joined.channel, {"kind": "leave", "why": why})
            raise Temporary(why)
        if not 0 < rank < self.size or rank in self._members:
            # One that is lost is out of the table within seconds, and its successor calls again.
            log.warning("dropped a caller from %s: rank %d is none that is awaited", joined.channel.there, rank)
            joined.channel.close()
            return
        log.info("rank %d is there, at %s", rank, joined.channel.there)
        self._members[rank] = joined.channel

    def _launch(self) -> None:
        address = self._members[1].here
        self._mpiexec = Mpiexec(
            size=self.size, address=address, tell=lambda lines: self.events.put(Launch(lines=lines))
        )
        while True:
            self.stop.check()
            event = self.next()
            if isinstance(event, Launch):
                break
            if event is not None:
                self.heard(event)
            if self.lost is not None:
                raise Temporary(self.lost)
        if event.lines is None:
            raise WorkError("MPI's starter ended before it had started anything; the log says why")
        for rank, channel in self._members.items():
            _say(channel, {"kind": "launch", "line": event.lines[rank]})
        launcher = check_line(event.lines[0], rank=0, leader=address)
        self.process = RankProcess(
            command=self.command, launcher=launcher, environment=mpi_environment(address=address)
        )

    def heard(self, event: Event) -> None:
        if isinstance(event, Joined):
            caller = event.caller
            why = (
                f"the number of ranks changes from {self.size} to {max(caller.size, caller.rank + 1)}"
                if caller.size != self.size or caller.rank >= self.size
                else f"rank {caller.rank} came anew"
            )
            for channel in self._members.values():
                _say(channel, {"kind": "regroup", "why": why})
            self.regroup(why)
        elif isinstance(event, Disconnected | MessageReceived):
            rank = next((rank for rank, channel in self._members.items() if channel == event.channel), None)
            if rank is None or rank in self._done:
                return
            if isinstance(event, Disconnected):
                self.peer_lost(f"rank {rank} is lost: {event.why}")
            elif event.message.get("kind") == "end":
                self._done.add(rank)
                if event.message.get("why"):
                    self.peer_lost(f"rank {rank} left: {event.message['why']}")

    def tell_end(self, error: Exception | None) -> None:
        for rank, channel in self._members.items():
            if rank not in self._done:
                _say(channel, _end(error))

    def wait_for_others(self) -> None:
        end = time.monotonic() + _END_SECONDS
        while self._done < self._members.keys() and self.lost is None and time.monotonic() < end:
            if (event := self.next()) is not None:
                self.heard(event)
        if self.process is not None and self._mpiexec is not None and self.lost is None:
            self.process.clear()
            self._mpiexec.wait()

    def clear(self) -> None:
        self._listener.close()
        if self._mpiexec is not None:
            self._mpiexec.clear()
        super().clear()


class _Follower(_Supervisor):
    """Any other rank's worker."""

    def __init__(
        self, *, rank: int, size: int, command: Sequence[str], stop: StopFlag, token: str, rendezvous: str
    ) -> None:
        super().__init__(rank=rank, size=size, command=command, stop=stop)
        self._leader: Channel | None = None
        self._leader_ended = False
        self._dialer = Dialer(
            rendezvous=rendezvous, token=token, caller=Caller(rank=rank, size=size), events=self.events
        )

    def meet(self) -> None:
        while self.process is None:
            self.stop.check()
            event = self.next()
            if isinstance(event, Broken):
                raise event.error
            if isinstance(event, Joined):
                log.info("rank 0 is there, at %s", event.channel.there)
                self._leader = event.channel
            elif isinstance(event, MessageReceived) and event.channel == self._leader:
                self._told(event.message, self._leader)

    def _told(self, message: Message, leader: Channel) -> None:
        kind = message.get("kind")
        if kind == "launch":
            launcher = check_line(str(message.get("line")), rank=self.rank, leader=leader.there)
            self.process = RankProcess(
                command=self.command, launcher=launcher, environment=mpi_environment(address=leader.here)
            )
        elif kind == "leave":
            raise Temporary(str(message.get("why")))

    def heard(self, event: Event) -> None:
        if isinstance(event, Joined):
            # Another rank 0 by now; this worker has its rank process to end first.
            event.channel.close()
        elif isinstance(event, Disconnected):
            if event.channel == self._leader and not self._leader_ended:
                self.peer_lost(f"rank 0 is lost: {event.why}")
        elif isinstance(event, MessageReceived) and event.channel == self._leader:
            why = event.message.get("why")
            if event.message.get("kind") == "regroup":
                self.regroup(str(why))
            elif event.message.get("kind") == "end":
                self._leader_ended = True
                if why:
                    self.peer_lost(f"rank 0 left: {why}")

    def tell_end(self, error: Exception | None) -> None:
        if self._leader is not None:
            _say(self._leader, _end(error))

    def clear(self) -> None:
        self._dialer.close()
        super().clear()


def _killed(rank: int, number: int) -> WorkError:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = "; the kernel does that when memory runs out" if number == signal.SIGKILL else ""
    error = WorkError(f"the process of rank {rank} was ended by {name}{hint}")
    error.reason = "RankKilled"
    return error


def _end(error: Exception | None) -> Message:
    return {"kind": "end", "why": None if error is None else str(error)[:500]}


def _say(channel: Channel, message: Message) -> None:
    try:
        channel.send(message)
    except ConnectionLost as error:
        # Whoever listens to it will say so.
        log.debug("not said: %s", error)
