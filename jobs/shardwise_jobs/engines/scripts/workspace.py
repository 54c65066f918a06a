"""Where a suite of a manifest lives: its tree, its settings, and on the output its frozen list, records, logs, summary.

Everything that a worker knows of others it reads here. Each index has a record of its own, which one worker at a time
writes, whole; what all of them write is the summary, which is made anew from all records.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shardwise.engine.errors import BadConfiguration, BadInput
from shardwise.engine.files import OutputFolder, local_path
from shardwise.engine.pod import mount_hint
from shardwise.engine.worker import Context
from shardwise_api.scripts import ScriptsEngine

from .discovery.frozen_list import FILE, FrozenSuite, read_frozen
from .model.command import command_of
from .model.job import SuiteJob
from .model.options import SuiteOptions
from .model.records import JobRecord, Status, SuiteExit, exit_status_of, record_of
from .model.summary import summary_name, summary_of, write_summary
from .model.validation_errors import InvalidSuite
from .running.attempt import Stopping
from .running.provenance import commit_of, gpu_info

FIELD = "spec.engine.scripts"


class StoredRecord(BaseModel):
    """What a worker leaves of its index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    record: JobRecord
    warnings: tuple[str, ...] = ()
    """Of this job; they outlive the attempt that saw them."""


class _Begun(BaseModel):
    """What is looked at once and said in every summary of a run; the warnings are those of its newest start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start_time: datetime
    git_commit: str | None
    gpu_info: dict[str, Any]
    warnings: tuple[str, ...] = ()


class Workspace:
    """A run's suite, as one worker sees it."""

    def __init__(self, context: Context, settings: ScriptsEngine) -> None:
        """Raises BadConfiguration when the settings can't work, or the output is no folder."""
        self.uid = context.document.uid
        self.options = options_of(settings)
        self.tree = Path(settings.source)
        output = local_path(context.output.uri)
        if output is None:
            raise BadConfiguration(
                f"spec.output.uri: {context.output.uri}: scripts write while they run: it must be a folder on a volume"
            )
        self.output = output
        self.interpreter = self.options.interpreter or sys.executable
        # A dry run has a list of its own: the scripts are run by a start of the same name, maybe of another tree.
        own = f"records/{self.uid}"
        self.records = context.output.child(f"{own}/dry-run" if self.options.dry_run else own)
        self._summaries = context.output.child(self.options.summary_dir)

    # -- folders

    @property
    def outputs(self) -> Path:
        """The folder that holds each script's own."""
        return self.output / self.options.base_output_dir

    @property
    def logs(self) -> Path:
        """The folder of logs."""
        return self.output / self.options.logs_dir

    def require_tree(self) -> None:
        """Raise BadConfiguration when the tree is not there."""
        if not self.tree.is_dir():
            raise BadConfiguration(f"{FIELD}.source: {self.tree}: there is no such folder{mount_hint(self.tree)}")

    def require_outputs(self) -> None:
        """Raise BadConfiguration when scripts could not write their results."""
        try:
            OutputFolder(str(self.outputs)).check_writable()
        except BadConfiguration as error:
            raise BadConfiguration(f"{FIELD}.baseOutputDir: {str(error).partition(': ')[2]}") from error

    def command(self, job: SuiteJob) -> list[str]:
        """Return a script's command line."""
        return command_of(job, options=self.options, interpreter=self.interpreter, output_base=str(self.outputs))

    # -- what is frozen

    def read(self) -> FrozenSuite | None:
        """Return what was frozen for this run; None when nothing was."""
        return read_frozen(self.records, run_uid=self.uid)

    def frozen(self, digest: str | None) -> FrozenSuite:
        """Return what was frozen, which must be what the prepare step said.

        Raises:
            BadInput: it is not there, or another one.
        """
        suite = self.read()
        where = self.records.uri_of(FILE)
        if suite is None:
            raise BadInput(f"{where}: is not there: the list of scripts was removed since the prepare step froze it")
        if suite.digest != digest:
            raise BadInput(f"{where}: is another list than the prepare step froze: indexes would not mean the same")
        return suite

    # -- records

    def stored(self, index: int) -> StoredRecord | None:
        """Return what is recorded of an index, None when nothing is. Raises BadConfiguration when it is damaged."""
        content = self.records.read_bytes(_name(index))
        if content is None:
            return None
        try:
            return StoredRecord.model_validate_json(content)
        except ValidationError as error:
            raise BadConfiguration(f"{self.records.uri_of(_name(index))}: is no record of a script") from error

    def store(self, stored: StoredRecord) -> None:
        """Record an index, in place of what was recorded of it before."""
        self.records.write_text(_name(stored.index), stored.model_dump_json(indent=2) + "\n")

    def all_stored(self, suite: FrozenSuite) -> list[StoredRecord]:
        """Return what is recorded of every index; a script that nobody has begun is pending."""
        return [
            self.stored(index) or StoredRecord(index=index, record=record_of(job, command=self.command(job)))
            for index, job in enumerate(suite.jobs)
        ]

    # -- summary

    def begin(self, suite: FrozenSuite, *, warnings: Sequence[str] = ()) -> None:
        """Note what is odd about this start, and when the run began: now, unless a script has been tried before."""
        begun = self._begun()
        if begun is None or all(self.stored(index) is None for index in range(len(suite.jobs))):
            if begun is not None:
                # Nothing has come of it, and a run has one summary.
                name = summary_name(start_time=begun.start_time, run_uid=self.uid)
                (self.output / self.options.summary_dir / name).unlink(missing_ok=True)
            begun = _Begun(start_time=datetime.now(UTC), git_commit=commit_of(self.tree), gpu_info=gpu_info(os.environ))
        begun = begun.model_copy(update={"warnings": tuple(warnings)})
        self.records.write_text(_BEGUN, begun.model_dump_json() + "\n")

    def _begun(self) -> _Begun | None:
        content = self.records.read_bytes(_BEGUN)
        return None if content is None else _Begun.model_validate_json(content)

    def warnings(self, suite: FrozenSuite, stored: Sequence[StoredRecord]) -> list[str]:
        """Return what was odd about the newest start, about the suite, and about each of its scripts."""
        begun = self._begun()
        of_scripts = [f"{one.record.id}: {warning}" for one in stored for warning in one.warnings]
        return [*(begun.warnings if begun else ()), *suite.warnings, *of_scripts]

    def sum_up(
        self, records: Sequence[JobRecord], *, exit_status: SuiteExit | None, warnings: Sequence[str] = ()
    ) -> tuple[dict[str, Any], str]:
        """Write the summary of some records, and return it with its URI; each time of a run the same file."""
        begun = self._begun()
        if begun is None:
            raise BadInput(f"{self.records.uri_of(_BEGUN)}: is not there: it was removed since the prepare step")
        ends = [datetime.fromisoformat(record.end_time) for record in records if record.end_time]
        summary = summary_of(
            records,
            run_uid=self.uid,
            start_time=begun.start_time,
            # Of the records and not of this moment, so that it is the same when it is written again.
            end_time=max([begun.start_time, *ends]),
            working_directory=str(self.tree),
            arguments=self.options.arguments(),
            exit_status=exit_status,
            git_commit=begun.git_commit,
            gpu_info=begun.gpu_info,
        )
        summary["warnings"] = list(warnings)
        return summary, write_summary(self._summaries, summary)

    def publish(self, suite: FrozenSuite, *, stop: Stopping | None = None) -> None:
        """Write the summary of all that is recorded now: whoever writes last has seen what all others recorded.

        Once `stop` is set, what nobody has begun is shown as interrupted. Its record is not: a run that goes on begins
        it.
        """
        written: tuple[list[StoredRecord], bool] | None = None
        while (seen := (self.all_stored(suite), stop is not None and stop.is_set)) != written:
            stored, stopping = seen
            records = [_not_begun(one.record) if stopping else one.record for one in stored]
            interrupted = stopping or any(record.status is Status.INTERRUPTED for record in records)
            status = exit_status_of(records, options=self.options, interrupted=True) if interrupted else None
            self.sum_up(records, exit_status=status, warnings=self.warnings(suite, stored))
            written = seen


_BEGUN = "begun.json"


def _name(index: int) -> str:
    return f"result-{index}.json"


def _not_begun(record: JobRecord) -> JobRecord:
    if record.status is not Status.PENDING:
        return record
    return record.model_copy(update={"status": Status.INTERRUPTED, "error": "Not started: the run was interrupted"})


def options_of(settings: ScriptsEngine) -> SuiteOptions:
    """Return a manifest's settings as the command line has them.

    Raises:
        BadConfiguration: they can't work; the message names each.
    """
    values = settings.model_dump(exclude={"source", "detect", "use_default_jobs", "pod_overrides"})
    try:
        return SuiteOptions.of(
            {
                **values,
                "detect": settings.detect.value.lower(),
                "default_jobs": settings.use_default_jobs,
                "parallel": True,
            }
        )
    except InvalidSuite as error:
        raise InvalidSuite(f"{FIELD}: {error}") from error
