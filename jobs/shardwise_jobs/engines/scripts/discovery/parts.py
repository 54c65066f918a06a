"""Which indexes of a frozen list want pods of another shape: what the runner needs to make a Job for each."""

from __future__ import annotations

from collections.abc import Sequence

from shardwise_api import indexes

from ..model.job import SuiteJob
from ..model.validation_errors import InvalidSuite
from .selection import resolve_ids


def parts(jobs: Sequence[SuiteJob], overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return the indexes that the ids of each override mean, as interval text; ids that were not selected mean none.

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
