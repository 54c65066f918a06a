"""Makes one list of the jobs that a person wrote, the built-in ones and those found in the tree.

The original compares ids only, and since its built-in ids lack the `train_` of file names, it runs seven scripts twice
when it looks into its own tree. Here a script that is in the list already is not added again: the id that it would have
got becomes another name of the job that is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..model.job import SuiteJob
from ..model.validation_errors import InvalidSuite

_DETECTED = (
    "use_output_dir",
    "supports_epochs",
    "supports_folds",
    "supports_sample",
    "supports_batch",
    "detect_method",
    "spellings",
)
"""What looking into a script tells about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """One list of jobs, no id twice: the written ones first, then built-in ones, then those found."""

    jobs: tuple[SuiteJob, ...]
    warnings: tuple[str, ...] = ()


def require_distinct(jobs: Sequence[SuiteJob]) -> None:
    """Compare ids, in any case, as a choice of jobs does.

    Raises:
        InvalidSuite: two jobs have the same id.
    """
    first: dict[str, SuiteJob] = {}
    for job in jobs:
        other = first.setdefault(job.id.lower(), job)
        if other is not job:
            raise InvalidSuite(
                f"jobs: the id {job.id!r} is given twice, for {other.script} and {job.script}; "
                "give one of them an id of its own"
            )


def merge(
    *,
    written: Sequence[SuiteJob],
    built_in: Sequence[SuiteJob],
    found: Sequence[SuiteJob],
    allow_overrides: bool = False,
) -> Merged:
    """Return all jobs as one list.

    A written job stands for a built-in one with its id or its script. A job that was found gives way to one with its
    script or its id; with `allow_overrides`, it replaces a written or built-in job with its id, and what was detected
    replaces what a job with its script says of its options.

    Raises:
        InvalidSuite: two written jobs have the same id.
    """
    require_distinct(written)
    listing = _Listing(written)
    for job in built_in:
        listing.add_built_in(job)
    rest = found
    if allow_overrides:
        # First, or a job that is replaced later might take the script of another with it.
        rest = [job for job in found if not listing.override(job)]
    for job in rest:
        listing.add_found(job, detect_again=allow_overrides)
    return Merged(jobs=tuple(listing.jobs), warnings=tuple(listing.warnings))


class _Listing:
    def __init__(self, jobs: Iterable[SuiteJob]) -> None:
        self.jobs = [*jobs]
        self.warnings: list[str] = []
        self._overridden: set[int] = set()

    def add_built_in(self, job: SuiteJob) -> None:
        if self._with_id(job.id) is None and not self._name_also(job):
            self.jobs.append(job)

    def override(self, job: SuiteJob) -> bool:
        """Put a job that was found in the place of the one with its id; False when there is none, or it was found."""
        place = self._with_id(job.id)
        if place is None or place in self._overridden:
            return False
        self.jobs[place] = job
        self._overridden.add(place)
        return True

    def add_found(self, job: SuiteJob, *, detect_again: bool) -> None:
        if detect_again:
            self._detect_again(job)
        if self._name_also(job):
            return
        place = self._with_id(job.id)
        if place is None:
            self.jobs.append(job)
            return
        there = self.jobs[place].script
        self.warnings.append(
            f"{job.script}: is left out, {there} has its id {job.id} already; to run both, write one into jobs "
            "with an id of its own"
        )

    def _with_id(self, job_id: str) -> int | None:
        same = (place for place, there in enumerate(self.jobs) if there.id.lower() == job_id.lower())
        return next(same, None)

    def _places(self, script: str) -> list[int]:
        return [place for place, there in enumerate(self.jobs) if there.script == script]

    def _name_also(self, job: SuiteJob) -> bool:
        """Give a job's id to the jobs with its script as another name; False when there are none."""
        places = self._places(job.script)
        for place in places:
            there = self.jobs[place]
            if job.id.lower() not in {there.id.lower(), *(alias.lower() for alias in there.aliases)}:
                self.jobs[place] = there.model_copy(update={"aliases": (*there.aliases, job.id)})
        return bool(places)

    def _detect_again(self, job: SuiteJob) -> None:
        detected = {name: getattr(job, name) for name in _DETECTED}
        for place in self._places(job.script):
            self.jobs[place] = self.jobs[place].model_copy(update=detected)
