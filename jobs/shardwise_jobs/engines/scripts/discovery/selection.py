"""Chooses what a suite runs: reads, finds, merges and filters, and says early what can't work.

The order of a selection is part of its meaning (an index of a cluster's Job is a place in it), so it rests on nothing
but the settings and the tree: written jobs, built-in ones, then those found by path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ..model.job import BATCH_NAMES, SuiteJob
from ..model.options import SuiteOptions
from ..model.validation_errors import InvalidSuite
from .config import canonical_jobs, read_config
from .detect import UnreadableScript, open_script
from .discovered_jobs import discovered_jobs
from .merge import merge
from .search import discover

_NAMED = 20
"""So many are named in one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a suite runs, in order."""

    jobs: tuple[SuiteJob, ...]
    warnings: tuple[str, ...] = ()
    nothing_discovered: bool = False
    """There is no job at all, and that is to be an error (exit 3)."""


def select(
    tree: Path, options: SuiteOptions, *, fall_back: bool = True, named: Mapping[str, Sequence[str]] | None = None
) -> Selection:
    """Return what a suite runs in a tree; nothing is executed.

    Without any job the built-in ones are taken, as the original does: unless strict_discovery forbids it, or
    `fall_back` is false, as for a manifest, which has them only when it asks for them. Scripts that aren't there stay
    selected with a warning: their jobs fail, the others run. `named` are ids that other settings speak of, by setting.

    Raises:
        InvalidSuite: the settings or the config can't work, a selected script can't be read, `only` names no job, or
            another setting one that there isn't.
    """
    config = read_config(Path(options.config)) if options.config is not None else None
    warnings = [*config.warnings] if config else []
    entries = (*(config.jobs if config else ()), *options.jobs)
    scripts: tuple[str, ...] = ()
    if options.auto_discover:
        search = discover(tree, options=options)
        scripts = search.scripts
        warnings += search.warnings
    found = discovered_jobs(tree, scripts, options=options)
    merged = merge(
        written=[entry.job() for entry in entries],
        built_in=canonical_jobs() if options.default_jobs else (),
        found=found.jobs,
        allow_overrides=options.allow_discovery_overrides,
    )
    warnings += [*found.warnings, *merged.warnings]
    jobs = merged.jobs
    if not jobs:
        if options.strict_discovery or not fall_back:
            return Selection(jobs=(), warnings=tuple(warnings), nothing_discovered=True)
        jobs = canonical_jobs()
        warnings.append(
            "no job was given or found, so the built-in ones are taken (strict_discovery makes it an error)"
        )
    unknown = [
        f"{option}: {said}"
        for option, ids in (named or {}).items()
        for said in resolve_ids(jobs, ids, aliases=False).unknown
    ]
    if unknown:
        raise InvalidSuite(f"{'; '.join(unknown[:_NAMED])}; {_known(jobs)}")
    jobs = _filtered(jobs, only=options.only, exclude=options.exclude, warnings=warnings)
    warnings += _missing(tree, jobs)
    warnings += [sentence for job in jobs for sentence in _idle_args(job)]
    warnings += _shared_outputs(jobs)
    return Selection(jobs=jobs, warnings=tuple(warnings))


def _filtered(
    jobs: tuple[SuiteJob, ...], *, only: Sequence[str], exclude: Sequence[str], warnings: list[str]
) -> tuple[SuiteJob, ...]:
    wanted, unwanted = resolve_ids(jobs, only), resolve_ids(jobs, exclude)
    warnings += [f"only: {said}" for said in wanted.unknown]
    chosen = wanted.ids
    if only and not chosen:
        raise InvalidSuite(f"only: no job has such an id ({', '.join(only[:_NAMED])}); {_known(jobs)}")
    warnings += [f"exclude: {said}" for said in unwanted.unknown]
    selected = tuple(job for job in jobs if (not only or job.id in chosen) and job.id not in unwanted.ids)
    if not selected:
        warnings.append("nothing is selected: exclude leaves no job")
    return selected


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedIds:
    """What some names mean."""

    ids: frozenset[str]
    unknown: tuple[str, ...] = ()
    """What is to be said of each name that means no job."""


def resolve_ids(jobs: Sequence[SuiteJob], names: Sequence[str], *, aliases: bool = True) -> ResolvedIds:
    """Return the ids that some names mean, in any case; an id comes before an alias."""
    by_id = {job.id.lower(): {job.id} for job in jobs}
    by_alias: defaultdict[str, set[str]] = defaultdict(set)
    for job in jobs if aliases else ():
        for alias in job.aliases:
            by_alias[alias.lower()].add(job.id)
    ids: set[str] = set()
    unknown = []
    for name in names:
        found = by_id.get(name.lower()) or by_alias.get(name.lower())
        if found:
            ids |= found
            continue
        close = get_close_matches(name.lower(), [*by_id, *by_alias], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        unknown.append(f"no job has the id {name!r}{hint}")
    return ResolvedIds(ids=frozenset(ids), unknown=tuple(unknown))


def _known(jobs: Sequence[SuiteJob]) -> str:
    more = f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else ""
    return f"known are {', '.join(job.id for job in jobs[:_NAMED])}{more}"


def _missing(tree: Path, jobs: Sequence[SuiteJob]) -> list[str]:
    """Return a warning for each script that isn't there. Raises InvalidSuite for those that can't be read."""
    warnings = []
    problems = []
    for job in jobs:
        try:
            with open_script(tree / job.script, name=job.script) as stream:
                if stream is None:
                    warnings.append(f"{job.id}: script not found: {job.script}; this job will fail")
        except UnreadableScript as error:
            problems.append(error)
    if problems:
        more = f" (and {len(problems) - _NAMED} more)" if len(problems) > _NAMED else ""
        said = "; ".join(str(problem) for problem in problems[:_NAMED])
        raise UnreadableScript(f"{said}{more}; mend this, or leave it out by exclude or exclude_regex")
    return warnings


def _idle_args(job: SuiteJob) -> list[str]:
    support = {
        "epochs": job.supports_epochs,
        "folds": job.supports_folds,
        "sample": job.supports_sample,
        BATCH_NAMES[0]: job.supports_batch,
    }
    return [
        f"{job.id}: args.{name} is not passed, since supports_{name} is false"
        for name, supported in support.items()
        if name in job.args and not supported
    ]


def _shared_outputs(jobs: Sequence[SuiteJob]) -> list[str]:
    writers: defaultdict[str, list[str]] = defaultdict(list)
    for job in jobs:
        if job.use_output_dir:
            writers[job.output].append(job.id)
    return [
        f"{' and '.join(ids)} write to the same output folder {output}"
        for output, ids in writers.items()
        if len(ids) > 1
    ]
