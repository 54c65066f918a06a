"""A run's work directory: what a runner that is killed leaves for the next one, and the lock that keeps two apart."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from shardwise_api.status import RunStatus
from shardwise_api.wire import ProgressReport, RunDocument, Step


class Busy(Exception):
    """Another runner works in this directory."""


class StatusUnreadable(Exception):
    """The last status is no status: what a full disk or a lost machine left."""


class IdentityChanged(Exception):
    """What a block's number rests on is not what it was when this run began."""


class Workdir:
    """Files of one local run: documents, logs, progress, results and the last status."""

    def __init__(self, path: Path, *, manifests: Path | None = None) -> None:
        self.path = path
        self.manifests = manifests
        """The folder of the run's manifest, where a plugin's relative paths begin."""
        self.output = path / "output"
        self.progress = path / "progress"
        self.rendezvous = path / "rendezvous"
        """Where ranks find each other; the first one writes it."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for one runner.

        Raises:
            Busy: another one has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another `shardwise run` works in {self.path}") from None
            yield

    def status(self) -> RunStatus | None:
        """Return the status that the last runner wrote, None where none did.

        Raises:
            StatusUnreadable: there is one, but it can't be read.
        """
        path = self.path / "status.json"
        try:
            return RunStatus.model_validate_json(path.read_bytes()) if path.exists() else None
        except ValidationError as error:
            raise StatusUnreadable(f"{path} is damaged") from error

    def write_status(self, status: RunStatus) -> None:
        """Keep a status."""
        self._write(self.path / "status.json", status.model_dump_json(by_alias=True, exclude_none=True, indent=2))

    def require_identity(self, fields: dict[str, object]) -> None:
        """Keep what a run's blocks rest on when its work begins, and compare it whenever its work goes on.

        Engines that keep a ledger compare it too; this holds for each engine, whatever it remembers.

        Raises:
            IdentityChanged: a field is another than it was.
        """
        path = self.path / "identity.json"
        try:
            recorded = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            # None yet, or a damaged one: what was committed is for the engine's own ledger to compare.
            self._write(path, json.dumps(fields, sort_keys=True))
            return
        changed = [
            f"{name}: {recorded.get(name)} then, {now} now" for name, now in fields.items() if recorded.get(name) != now
        ]
        if changed:
            raise IdentityChanged(
                f"{'; '.join(changed)}: this run was begun with other settings, and going on would count wrongly; give "
                f"it another metadata.name, or remove {self.path} and what it has stored to begin it anew"
            )

    def write_document(self, step: Step, document: RunDocument) -> Path:
        """Write what the workers of a step read."""
        path = self.path / f"{step}.json"
        self._write(path, document.model_dump_json(by_alias=True, exclude_none=True))
        return path

    def log(self, step: Step, index: int, attempt: int) -> Path:
        """Return the log file of one attempt."""
        folder = self.path / "logs"
        folder.mkdir(exist_ok=True)
        name = f"shard-{index}" if step is Step.WORK else str(step)
        return folder / f"{name}-attempt-{attempt}.log"

    def termination_log(self, step: Step, index: int) -> Path:
        """Return where a worker leaves its message."""
        folder = self.path / "results"
        folder.mkdir(exist_ok=True)
        return folder / f"{step}-{index}.json"

    def clear_progress(self) -> None:
        """Forget the reports of earlier attempts: workers report anew, resumed items included."""
        self.progress.mkdir(parents=True, exist_ok=True)
        for path in self.progress.glob("shard-*.json"):
            path.unlink(missing_ok=True)

    def clear_rendezvous(self) -> None:
        """Forget where the ranks of an earlier start met."""
        self.rendezvous.unlink(missing_ok=True)

    def reports(self, run: str) -> dict[int, ProgressReport]:
        """Return the last report of each shard."""
        found = {}
        for path in self.progress.glob("shard-*.json"):
            try:
                report = ProgressReport.model_validate_json(path.read_bytes())
            except (FileNotFoundError, ValidationError):
                # Progress is never a reason to fail: the next report replaces this one.
                continue
            if report.run == run:
                found[report.shard] = report
        return found

    @staticmethod
    def _write(path: Path, text: str) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
