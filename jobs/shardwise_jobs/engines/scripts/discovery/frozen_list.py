"""A selection, written down before its first script runs: which index is which script, with what settings.

A cluster tries an index again hours later, on a tree that may have changed. What is frozen is read, never found anew,
so that no change of the tree gives an index another script; each script's SHA-256 says whether it is still the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.files import OutputFolder
from shardwise_api import indexes

from ..model.job import SuiteJob
from ..model.options import SuiteOptions
from ..model.summary import canonical_json, sha256_of
from ..model.validation_errors import InvalidSuite
from .detect import open_script
from .selection import Selection, resolve_ids

FILE = "suite.json"
SCHEMA_VERSION: Literal[1] = 1


class FrozenJob(SuiteJob):
    """A job at its index."""

    script_sha256: str | None
    """Of the script's content as hex digits; None when it wasn't there."""


class FrozenSuite(BaseModel):
    """The whole of what a suite runs. The index of a job is its place in `jobs`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    run_uid: str = Field(min_length=1)
    jobs: tuple[FrozenJob, ...]
    options: SuiteOptions
    warnings: tuple[str, ...] = ()
    """What the selection said."""
    nothing_discovered: bool = False

    @property
    def digest(self) -> str:
        """`sha256:…` over all of it."""
        return sha256_of(canonical_json(self.model_dump(mode="json")))

    def job(self, index: int) -> FrozenJob:
        """Return the job of an index.

        Raises:
            InvalidSuite: no job has it.
        """
        if not 0 <= index < len(self.jobs):
            raise InvalidSuite(f"index {index}: this suite has {len(self.jobs)} jobs, counted from 0")
        return self.jobs[index]

    def keep(self, folder: OutputFolder) -> FrozenSuite:
        """Write the suite, unless this run was frozen there before: then return what was frozen.

        Raises:
            BadConfiguration: the folder can't be read or written, or what is there is damaged.
            Unavailable: it is not local, and its place can't be reached.
        """
        there = read_frozen(folder, run_uid=self.run_uid)
        if there is not None:
            return there
        self.write(folder)
        return self

    def write(self, folder: OutputFolder) -> None:
        """Write the suite, in place of whatever was frozen there. Raises as `keep`."""
        document = {"digest": self.digest, "suite": self.model_dump(mode="json")}
        folder.write_text(FILE, json.dumps(document, indent=2) + "\n")

    def changes(self, now: FrozenSuite) -> str:
        """Return how another list differs: `1 new, 0 gone, 2 changed`, in scripts; empty when it does not."""
        then = {job.id: job.script_sha256 for job in self.jobs}
        found = {job.id: job.script_sha256 for job in now.jobs}
        gone = {id for id, sha256 in then.items() if sha256 is not None and found.get(id) is None}
        gone |= then.keys() - found.keys()
        new = found.keys() - then.keys()
        changed = {id for id in (then.keys() & found.keys()) - gone if then[id] != found[id]}
        return f"{len(new)} new, {len(gone)} gone, {len(changed)} changed" if new or gone or changed else ""


def freeze(tree: Path, selection: Selection, *, options: SuiteOptions, run_uid: str) -> FrozenSuite:
    """Return a selection with the SHA-256 of each script.

    Raises:
        UnreadableScript: a script can't be read.
    """
    return FrozenSuite(
        run_uid=run_uid,
        jobs=tuple(
            FrozenJob(**job.model_dump(), script_sha256=script_sha256(tree, job.script)) for job in selection.jobs
        ),
        options=options,
        warnings=selection.warnings,
        nothing_discovered=selection.nothing_discovered,
    )


def read_frozen(folder: OutputFolder, *, run_uid: str) -> FrozenSuite | None:
    """Return what was frozen for a run, None when nothing was, or for another run only.

    Raises:
        BadConfiguration: the folder can't be read, or what is there is damaged.
        Unavailable: it is not local, and its place can't be reached.
    """
    content = folder.read_bytes(FILE)
    if content is None:
        return None
    where = folder.uri_of(FILE)
    try:
        document = json.loads(content)
        suite = FrozenSuite.model_validate(document["suite"])
        digest = document["digest"]
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise BadConfiguration(f"{where}: is no frozen suite: {type(error).__name__}") from error
    if digest != suite.digest:
        raise BadConfiguration(f"{where}: was changed after it had been frozen; indexes would not mean the same")
    return suite if suite.run_uid == run_uid else None


def script_sha256(tree: Path, script: str) -> str | None:
    """Return the SHA-256 of a script's content as hex digits, None when it isn't there.

    Raises:
        UnreadableScript: it can't be read.
    """
    with open_script(tree / script, name=script) as stream:
        return None if stream is None else hashlib.file_digest(stream, "sha256").hexdigest()


def parts(jobs: Sequence[SuiteJob], overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return the indexes that the ids of each override mean, as interval text; ids that were not selected mean none.

    They want pods of another shape, so the runner makes a Job for each of the texts.

    Raises:
        InvalidSuite: two overrides mean the same script, and neither comes before the other.
    """
    taken: dict[int, int] = {}
    for number, names in enumerate(overrides):
        # No aliases: which job one means would depend on what else is selected.
        ids = resolve_ids(jobs, names, aliases=False).ids
        for index, job in enumerate(jobs):
            if job.id in ids and taken.setdefault(index, number) != number:
                raise InvalidSuite(
                    f"podOverrides[{number}].ids: {job.id} is in podOverrides[{taken[index]}] too: name it in one only"
                )
    return [indexes.to_text(index for index, of in taken.items() if of == number) for number in range(len(overrides))]
