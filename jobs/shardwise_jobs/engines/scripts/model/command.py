"""The command line of a job: an option is passed only to a script that takes it, in the order of the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from .job import BATCH_NAMES, Option, Scalar, SuiteJob
from .options import SuiteOptions

PORTABLE_INTERPRETER = "python"
PORTABLE_OUTPUT = "{output}"
_OUTPUT_AT = 3
"""Where a command has its output folder: after interpreter, script and the option's name."""


class WritesOutput(Protocol):
    """A job, or its record: what says where its output goes."""

    @property
    def use_output_dir(self) -> bool: ...

    @property
    def output(self) -> str: ...


def command_of(job: SuiteJob, *, options: SuiteOptions, interpreter: str, output_base: str) -> list[str]:
    """Return a job's command line.

    A value in the job's args beats the suite's. `output_base` is the folder that holds each job's output folder.
    """
    command = [interpreter, job.script]
    if job.use_output_dir:
        command += [job.spelling("output_dir"), f"{output_base.rstrip('/')}/{job.output}"]
    own = _values(job.args, supports_batch=job.supports_batch)
    shared: tuple[tuple[Option, bool, int | None], ...] = (
        ("epochs", job.supports_epochs, options.epochs),
        ("folds", job.supports_folds, options.folds),
        ("sample", job.supports_sample, options.sample),
        ("batch", job.supports_batch, options.batch),
    )
    for option, supported, general in shared:
        # Taken out also when it isn't passed: what a script is said not to take must not reach it by its args.
        value = own.pop(option, general)
        if supported and value is not None:
            command += [job.spelling(option), str(value)]
    for name, value in own.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            command += [flag] if value else []
        else:
            command += [flag, str(value)]
    return [*command, *options.extra_args]


def portable(command: Sequence[str], *, job: WritesOutput) -> list[str]:
    """Return a job's command without what differs between machines: its interpreter, and the base of all outputs."""
    if not command:
        return []
    general = [PORTABLE_INTERPRETER, *command[1:]]
    if job.use_output_dir:
        general[_OUTPUT_AT] = f"{PORTABLE_OUTPUT}/{job.output}"
    return general


def _values(args: Mapping[str, Scalar], *, supports_batch: bool) -> dict[str, Scalar]:
    """Return a job's args, the batch size by its one name where the script takes one."""
    if not supports_batch:
        return dict(args)
    return {("batch" if name in BATCH_NAMES else name): value for name, value in args.items()}
