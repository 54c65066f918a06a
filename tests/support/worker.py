"""The worker entry as a pod starts it: a process with a run document and an environment, one step at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardwise_api.manifest import parse_manifest
from shardwise_api.wire import Environment, PrepareResult, RunDocument, RunResult, Step, StepFailure, WorkResult

from .leash import leashed
from .manifests import as_yaml

AS_NOBODY = (
    *("setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)
"""A user without an entry in passwd. It may read everything, for the interpreter may lie in somebody's home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a step left."""

    code: int
    message: str
    """Its termination message."""
    log: str

    @property
    def failure(self) -> StepFailure:
        """Why it gave up."""
        return StepFailure.model_validate_json(self.message)


@dataclass(slots=True, kw_only=True)
class Pods:
    """A run's pods, one after the other; `folder` is for what they leave, and holds nothing that they need."""

    folder: Path
    manifest: dict[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    cwd: Path | None = None
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    prepared: PrepareResult | None = None

    def start(self, step: Step, *, shard: int = 0, worked: WorkResult | None = None) -> subprocess.Popen[str]:
        """Start a step."""
        run = parse_manifest(as_yaml(self.manifest), name="run.yaml")
        document = RunDocument(
            uid=self.uid,
            name=run.metadata.name,
            kind=run.kind,
            spec=run.spec_document(),
            prepared=self.prepared,
            worked=worked,
        )
        path = self.folder / "run.json"
        path.write_text(document.model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")
        self._termination_log.write_text("", encoding="utf-8")
        self._termination_log.chmod(0o666)
        own = {
            Environment.RUN: str(path),
            Environment.STEP: str(step),
            Environment.SHARD: str(shard),
            Environment.TERMINATION_LOG: str(self._termination_log),
            "POD_NAME": f"run-{step}-{shard}",
            "PATH": os.environ["PATH"],
        }
        return subprocess.Popen(
            [*leashed(*self.prefix), sys.executable, "-m", "shardwise_jobs"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**own, **self.environment},
            cwd=self.cwd or self.folder,
        )

    @property
    def _termination_log(self) -> Path:
        return self.folder / "termination-log"

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for a started step."""
        log, _ = process.communicate(timeout=120)
        return Ended(code=process.returncode, message=self._termination_log.read_text(encoding="utf-8"), log=log)

    def run(self, step: Step, *, shard: int = 0, worked: WorkResult | None = None) -> Ended:
        """Run a step to its end."""
        return self.end(self.start(step, shard=shard, worked=worked))

    def prepare(self) -> Ended:
        """Run the prepare step; later ones get what it found."""
        ended = self.run(Step.PREPARE)
        if ended.code == 0:
            self.prepared = PrepareResult.model_validate_json(ended.message)
        return ended

    def result(self, *, worked: WorkResult | None = None) -> RunResult:
        """Run whatever steps and shards are left, and return the result."""
        if self.prepared is None:
            ended = self.prepare()
            assert ended.code == 0, ended
        for shard in range(self.manifest["spec"]["sharding"]["shards"]):
            ended = self.run(Step.WORK, shard=shard)
            assert ended.code == 0, ended
        ended = self.run(Step.FINALIZE, worked=worked)
        assert ended.code == 0, ended
        return RunResult.model_validate_json(ended.message)


def terminate(process: subprocess.Popen[str]) -> None:
    """Do what a kubelet does first."""
    process.send_signal(signal.SIGTERM)
