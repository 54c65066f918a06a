"""Makes jobs of scripts that were found: an id, a title and an output folder from the file's name, options from a look
into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from ..model.job import SuiteJob, id_of, output_of, title_of
from ..model.options import SuiteOptions
from ..model.validation_errors import validation_errors
from .detect import Detected, UnreadableScript, detect, read_script


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredJobs:
    """Jobs of scripts that were found, in their order."""

    jobs: tuple[SuiteJob, ...]
    warnings: tuple[str, ...]


def discovered_jobs(tree: Path, scripts: Sequence[str], *, options: SuiteOptions) -> DiscoveredJobs:
    """Return the jobs of some scripts, which are named relative to the tree.

    Of one that can't be read no option is known; whether that matters shows when jobs have been chosen.
    """
    jobs: list[SuiteJob] = []
    warnings: list[str] = []
    for script in scripts:
        nothing = Detected(options=frozenset(), method="text")
        try:
            source = read_script(tree / script, name=script)
            detected = nothing if source is None else detect(source, method=options.detect)
        except UnreadableScript:
            detected = nothing
        try:
            jobs.append(_job(script, detected=detected, may_be_optional=options.mark_discovered_optional))
        except ValidationError as error:
            warnings.append(f"{script}: is left out: {'; '.join(validation_errors(error, model=SuiteJob))}")
    return DiscoveredJobs(jobs=tuple(jobs), warnings=tuple(warnings))


def _job(script: str, *, detected: Detected, may_be_optional: bool) -> SuiteJob:
    stem = PurePosixPath(script).stem
    has_output = "output_dir" in detected.options
    return SuiteJob(
        id=id_of(stem),
        name=title_of(stem),
        script=script,
        output=output_of(stem),
        # The original's rule, whatever its help says of "all".
        optional=may_be_optional and (not has_output or "mlops" in script or "scripts/" in script),
        use_output_dir=has_output,
        supports_epochs="epochs" in detected.options,
        supports_folds="folds" in detected.options,
        supports_sample="sample" in detected.options,
        supports_batch="batch" in detected.options,
        detect_method=detected.method,
        spellings=detected.spellings,
    )
