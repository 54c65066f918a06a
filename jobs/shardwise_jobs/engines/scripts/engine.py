"""The scripts engine: a suite found and frozen by one worker, run by one worker per script, judged by the last."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.identity import RunIdentity
from shardwise.engine.worker import Context
from shardwise_api.common import MAX_SHARDS
from shardwise_api.runs import TrainingRunSpec
from shardwise_api.wire import PrepareResult, RunResult, ShardResult

from . import finalize, work
from .discovery.checks import require_interpreter
from .discovery.frozen_list import FrozenSuite, freeze, parts
from .discovery.selection import select
from .model.options import SuiteOptions
from .model.records import Status
from .model.validation_errors import InvalidSuite
from .workspace import FIELD, Workspace

IDS_BYTES = 2500
"""Of what the jobs are called, in the message of the prepare step, which has 4 KiB."""
MAX_WARNINGS = 5
MAX_WARNING_CHARACTERS = 160
_NOT_OF_THE_LIST = {
    "strict_discovery", "parallel", "max_workers", "retries", "retry_delay_seconds", "retry_backoff", "timeout_seconds",
    "grace_seconds", "dry_run", "allow_partial_success", "interpreter",
}  # fmt: skip
"""Settings that may be others when a run goes on: which scripts there are, and their commands, don't rest on them."""


class NothingDiscovered(BadConfiguration):
    """There is no script at all: exit 2 of prepare, 3 of the suite."""

    reason = "NothingDiscovered"


class ScriptsEngine:
    """See `shardwise.engine.worker.Engine`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        try:
            spec = TrainingRunSpec.model_validate(context.document.spec)
        except ValidationError as error:
            raise BadConfiguration(f"run document: {error}") from error
        assert spec.engine.scripts is not None
        self._workspace = Workspace(context, spec.engine.scripts)
        self._overrides = [override.ids for override in spec.engine.scripts.pod_overrides or ()]

    # -- prepare

    def prepare(self, *, dry_run: bool) -> PrepareResult:
        """Find the scripts and freeze which index is which; what was frozen for this run before stays."""
        workspace = self._workspace
        workspace.require_tree()
        try:
            require_interpreter(workspace.interpreter, tree=workspace.tree, environment=os.environ)
        except InvalidSuite as error:
            raise InvalidSuite(f"{FIELD}.{error}") from error
        if not dry_run:
            self._context.output.check_writable()
            if not workspace.options.dry_run:
                workspace.require_outputs()
        # What a dry run lists is found anew each time: no index of it is ever tried.
        suite = None if workspace.options.dry_run else workspace.read()
        warnings: list[str] = []
        if suite is not None:
            RunIdentity(fields=_identity(workspace.options)).require_same(json.dumps(_identity(suite.options)))
            warnings = self._since(suite)
        else:
            suite = self._found()
        of_overrides = self._parts(suite)
        if not dry_run:
            if workspace.options.dry_run:
                suite.write(workspace.records)
            else:
                suite = suite.keep(workspace.records)
            workspace.begin(suite, warnings=warnings)
            workspace.publish(suite)
        stored = workspace.all_stored(suite)
        return PrepareResult(
            items_total=len(suite.jobs),
            input_fingerprint=suite.digest,
            parts=of_overrides or None,
            already_complete=bool(stored) and all(one.record.status is Status.SUCCESS for one in stored),
            details=self._details(
                suite,
                warnings=[*warnings, *suite.warnings],
                # Said in the same message.
                room=IDS_BYTES - len(json.dumps(of_overrides)),
                dry_run=dry_run,
            ),
        )

    def _found(self) -> FrozenSuite:
        workspace = self._workspace
        try:
            named = {f"podOverrides[{number}].ids": ids for number, ids in enumerate(self._overrides)}
            selection = select(workspace.tree, workspace.options, fall_back=False, named=named)
        except InvalidSuite as error:
            raise InvalidSuite(f"{FIELD}: {error}") from error
        if selection.nothing_discovered:
            raise NothingDiscovered(
                f"{FIELD}: no script was found or named in {workspace.tree}: mend source, roots, includePatterns or "
                "excludeRegex, give jobs, or useDefaultJobs for the seven of the original"
            )
        if len(selection.jobs) > MAX_SHARDS:
            raise BadConfiguration(
                f"{FIELD}: {len(selection.jobs):,} scripts, and a run has at most {MAX_SHARDS:,}: choose with only, "
                "exclude or discoveryLimit"
            )
        return freeze(workspace.tree, selection, options=workspace.options, run_uid=workspace.uid)

    def _since(self, suite: FrozenSuite) -> list[str]:
        """Return a warning when the tree would make another list now than the one that was frozen, which stays."""
        way_out = f"to run this tree use another metadata.name or remove records/{self._workspace.uid}"
        try:
            changes = suite.changes(self._found())
        except BadConfiguration as error:
            return [f"the list frozen before stays, as the tree makes none now; {way_out} ({error})"]
        return [f"{changes} since the list was frozen; {way_out}"] if changes else []

    def _parts(self, suite: FrozenSuite) -> list[str]:
        try:
            return parts(suite.jobs, self._overrides)
        except InvalidSuite as error:
            raise InvalidSuite(f"{FIELD}.{error}") from error

    def _details(self, suite: FrozenSuite, *, warnings: Sequence[str], room: int, dry_run: bool) -> dict[str, Any]:
        ids: list[str] = []
        size = 0
        for job in suite.jobs:
            size += len(json.dumps(job.id)) + 1
            if size > room:
                break
            ids.append(job.id)
        cut = [warning[:MAX_WARNING_CHARACTERS] for warning in warnings[:MAX_WARNINGS]]
        details: dict[str, Any] = {"ids": ids, "warnings": cut}
        if dry_run:
            # Nobody cuts what is said on one machine.
            details["warnings"] = list(warnings)
            details["jobs"] = [
                {"id": job.id, "optional": job.optional, "command": self._workspace.command(job)} for job in suite.jobs
            ]
        return details

    # -- work

    def work(self, *, shard: int) -> ShardResult:
        """Run the script of an index once."""
        self._workspace.require_tree()
        return work.work(self._workspace, suite=self._frozen(), shard=shard, context=self._context)

    def _frozen(self) -> FrozenSuite:
        prepared = self._context.document.prepared
        return self._workspace.frozen(None if prepared is None else prepared.input_fingerprint)

    # -- finalize

    def finalize(self) -> RunResult:
        """Judge what the records say, and write the summary."""
        return finalize.finalize(self._workspace, suite=self._frozen(), worked=self._context.document.worked)


def _identity(options: SuiteOptions) -> dict[str, Any]:
    return options.model_dump(mode="json", exclude=_NOT_OF_THE_LIST)
