"""Runs a manifest on this machine: observes its processes, asks the plan, does what it says, until the run is over."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import FrameType, TracebackType

from shardwise_api.runs import Run
from shardwise_api.safe_streams import tell
from shardwise_api.status import Failure, RunStatus
from shardwise_api.wire import Environment, RunDocument, Step
from shardwise_operator.children.pod import single_threaded
from shardwise_operator.core.actions import EnsureJob, StopJob, SuspendJob
from shardwise_operator.core.observed import Observed
from shardwise_operator.core.plan import plan
from shardwise_operator.core.policies import policy_of

from .jobs import LocalJob
from .workdir import Workdir

TICK_SECONDS = 0.05
OBSERVE_SECONDS = 0.25
_RUN_NAMESPACE = uuid.UUID("6a3f5c1e-7d0b-5b57-9a63-0d9a1f2f7c11")


def local_uid(run: Run) -> str:
    """Return the identity of a run without a cluster: the same name is the same run, so that a second start of it
    finds its ledger and counts nothing twice."""
    return str(uuid.uuid5(_RUN_NAMESPACE, f"{run.kind}/{run.metadata.namespace}/{run.metadata.name}"))


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP, counted: once means finish the current blocks, twice means now."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                # Under nohup the terminal may go, and the run goes on.
                continue
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


class LocalRunner:
    """One run on this machine. `on_status` is called with every new status."""

    def __init__(self, *, run: Run, workdir: Workdir, on_status: Callable[[RunStatus], None]) -> None:
        self._run = run
        self._workdir = workdir
        self._on_status = on_status
        self._jobs: dict[Step, LocalJob] = {}
        self._environment = worker_environment(run, workdir)
        self._finishing = policy_of(run).finishing

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        for job in self._jobs.values():
            job.kill()

    def run(self) -> Run:
        """Work until the run is over, or interrupted, and return it with its status."""
        self._workdir.clear_progress()
        self._workdir.clear_rendezvous()
        status = self._run.status
        with Interrupts() as interrupts:
            told = 0
            while True:
                status = self._observe_and_act(interrupted=interrupts.count > 0)
                if status.finished:
                    break
                if interrupts.count > told:
                    told = interrupts.count
                    _say(f"{self._finishing}; once more to stop at once" if told == 1 else "stopping now")
                if interrupts.count > 1:
                    for job in self._jobs.values():
                        job.kill()
                if interrupts.count and not any(job.alive for job in self._jobs.values()):
                    break
                self._work_for(OBSERVE_SECONDS, until=interrupts.count)
            while any(job.alive for job in self._jobs.values()):
                if interrupts.count > 1:
                    for job in self._jobs.values():
                        job.kill()
                time.sleep(TICK_SECONDS)
        return self._run

    def _work_for(self, seconds: float, *, until: int) -> None:
        end = time.monotonic() + seconds
        before = [job.view().state for job in self._jobs.values()]
        while time.monotonic() < end:
            time.sleep(TICK_SECONDS)
            for job in self._jobs.values():
                job.tick()
            if [job.view().state for job in self._jobs.values()] != before:
                return

    def _observe_and_act(self, *, interrupted: bool) -> RunStatus:
        failures: list[Failure] = [failure for job in self._jobs.values() for failure in job.failures]
        observed = Observed(
            now=datetime.now(UTC),
            jobs={step: job.view() for step, job in self._jobs.items()},
            progress=self._workdir.reports(self._run.metadata.uid or ""),
            failures=tuple(failures),
            interrupted=interrupted,
        )
        made = plan(self._run, observed)
        if made.status != self._run.status:
            self._run.status = made.status
            self._workdir.write_status(made.status)
            self._on_status(made.status)
        for action in made.actions:
            if isinstance(action, EnsureJob):
                self._ensure(action)
            elif isinstance(action, SuspendJob):
                self._jobs[action.step].suspend()
            elif isinstance(action, StopJob):
                self._jobs[action.step].stop()
        return made.status

    def _ensure(self, action: EnsureJob) -> None:
        job = self._jobs.get(action.step)
        if job is None:
            if action.step is Step.WORK:
                self._workdir.require_identity(identity_of(self._run, action.document))
            job = LocalJob(
                step=action.step,
                completions=action.completions,
                parallelism=local_parallelism(self._run, action.parallelism),
                rules=policy_of(self._run).retry(step=action.step, completions=action.completions),
                workdir=self._workdir,
                document=self._workdir.write_document(action.step, action.document),
                environment=self._environment,
            )
            self._jobs[action.step] = job
        job.resume()
        job.tick()


def identity_of(run: Run, document: RunDocument) -> dict[str, object]:
    """Return the fields that the numbers of a run's blocks rest on; none for work that isn't cut into blocks."""
    return {} if document.prepared is None else policy_of(run).identity(document.prepared)


def local_parallelism(run: Run, wanted: int) -> int:
    """Return how many workers run at once here: what the manifest says, else one per core; ranks all of them."""
    if run.spec.sharding.parallelism is not None or not policy_of(run).worker_per_core:
        return wanted
    return max(1, min(wanted, len(os.sched_getaffinity(0))))


def worker_environment(run: Run, workdir: Workdir) -> Mapping[str, str]:
    """Return the variables that all workers of a run get; of `worker.env` those with a plain value."""
    output = run.spec.output.uri if run.spec.output is not None else workdir.output.absolute().as_uri()
    named = {str(entry["name"]): str(entry["value"]) for entry in run.spec.worker.env if "value" in entry}
    meeting: dict[str, str] = (
        {Environment.RENDEZVOUS: workdir.rendezvous.absolute().as_uri()} if policy_of(run).peers_talk else {}
    )
    beside: dict[str, str] = {} if workdir.manifests is None else {Environment.FOLDER: str(workdir.manifests)}
    return {**single_threaded(run), **named, **meeting, **beside, Environment.OUTPUT: output}


def _say(text: str) -> None:
    tell(f"\n{text}")
