"""`shardwise suite`: the original orchestrator's command line, option for option, and what was added to it.

Whatever is given ends in one `SuiteOptions`, as a manifest does, and is judged there.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from shardwise.engine.errors import WorkError

from .terminal.argv_compat import as_click_reads

EPILOG = """
\b
Try it:
  shardwise suite --self-test                                      does it work here? Takes seconds
  shardwise suite --root examples/suite --no-default-jobs --list   what would run
  shardwise suite --root examples/suite --no-default-jobs --dry-run --epochs 5
  shardwise suite --root examples/suite --no-default-jobs --parallel --epochs 5

\b
As with the original:
  shardwise suite --parallel --max-workers 6 --epochs 50 --folds 5 --batch 128
  shardwise suite --only als alzheimers parkinsons --parallel
  shardwise suite --exclude train_baseline_models train_model --retries 2
  shardwise suite --parallel --extra-arg=--verbose --extra-arg=--early-stopping
  shardwise suite --config jobs.yaml --no-default-jobs --no-auto-discover

\b
Ctrl-C once: nothing more is started, what runs may end (--grace-seconds). Twice: all is ended at once.
Exit status: 0 every mandatory job succeeded; 1 one failed, or the results can't be written; 2 bad configuration;
3 nothing found, with --strict-discovery; 130 interrupted.
"""


class _Drop(click.Command):
    """Takes words as the original's parser does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            words = as_click_reads(args, parameters=self.get_params(ctx))
        except click.UsageError as error:
            # With it click says how the command is used.
            error.ctx = ctx
            raise
        return super().parse_args(ctx, words)


@click.command(cls=_Drop, epilog=EPILOG, short_help="Run a tree's training scripts, several at a time.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, readable=False),
    default=Path(),
    help="The tree: scripts are found below it and run in it, and what they leave is put there. Absent: this folder.",
)
@click.option("--list", "list_only", is_flag=True, help="Print the selected jobs and do nothing.")
@click.option("--dry-run", is_flag=True, help="Print and record commands, start nothing.")
@click.option(
    "--self-test", is_flag=True, help="Try sequential and parallel runs in a tree of its own, and say what works here."
)
@click.option("--verbose", is_flag=True, help="Show every line that a script prints.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json: the summary (or the list) on standard output, and nothing else there.",
)
# Which scripts.
@click.option("--config", metavar="FILE", help="YAML with jobs: name, script, output; they are added to the others.")
@click.option("--only", metavar="ID...", multiple=True, help="Run these jobs only.")
@click.option("--exclude", metavar="ID...", multiple=True, help="Leave these jobs out.")
@click.option("--discover-root", "roots", metavar="DIR...", multiple=True, help="Look in these folders of the tree.")
@click.option(
    "--include-pattern",
    "extra_include_patterns",
    metavar="GLOB",
    multiple=True,
    help="Find such file names too, beside train_*.py. Repeatable.",
)
@click.option(
    "--only-pattern",
    "include_patterns",
    metavar="GLOB",
    multiple=True,
    help="Find such file names instead of train_*.py. Repeatable.",
)
@click.option("--exclude-regex", metavar="REGEX", help="Leave out paths in which this is found.")
@click.option("--discovery-limit", metavar="N", type=int, help="Find so many scripts at most.")
@click.option(
    "--detect",
    type=click.Choice(["text", "ast"]),
    default="text",
    show_default=True,
    help="How to see which options a script takes: text looks for words, as the original; ast reads the code.",
)
@click.option("--no-auto-discover", is_flag=True, help="Find nothing: built-in jobs and --config only.")
@click.option("--no-default-jobs", is_flag=True, help="Without the seven built-in jobs (src/aimedres/training).")
@click.option("--allow-discovery-overrides", is_flag=True, help="What is found replaces a job with its id.")
@click.option(
    "--mark-discovered-optional",
    is_flag=True,
    help="What is found without an output folder, or among scripts or mlops, may fail.",
)
@click.option("--strict-discovery", is_flag=True, help="Exit with 3 when nothing is found.")
# What is passed to them.
@click.option("--epochs", metavar="N", type=int, help="Passed to scripts that take --epochs.")
@click.option("--folds", metavar="N", type=int, help="Passed to scripts that take --folds.")
@click.option("--sample", metavar="N", type=int, help="Passed to scripts that take --sample.")
@click.option("--batch", metavar="N", type=int, help="Passed to scripts that take --batch-size.")
@click.option(
    "--extra-arg",
    "extra_args",
    metavar="WORD",
    multiple=True,
    help="Added to every command; repeatable. --extra-arg=--verbose where it begins with a dash.",
)
# How they run.
@click.option("--parallel", is_flag=True, help="Run several at a time, longest first where earlier runs tell.")
@click.option("--max-workers", metavar="N", type=int, default=4, show_default=True, help="At most so many at a time.")
@click.option(
    "--retries", metavar="N", type=int, default=0, show_default=True, help="Further attempts of a failed job."
)
@click.option(
    "--retry-delay-seconds", metavar="S", type=float, default=2.0, show_default=True, help="Before another attempt."
)
@click.option(
    "--retry-backoff",
    metavar="F",
    type=float,
    default=1.0,
    show_default=True,
    help="Each delay is so many times the one before.",
)
@click.option("--timeout-seconds", metavar="S", type=float, help="Limit of one attempt: SIGTERM, SIGKILL 10 s later.")
@click.option(
    "--grace-seconds",
    metavar="S",
    type=float,
    default=30.0,
    show_default=True,
    help="After Ctrl-C or SIGTERM, for what runs to end by itself.",
)
@click.option(
    "--interpreter",
    metavar="PROGRAM",
    help="Runs the scripts: a name on PATH, or a path from here or from the tree. Absent: the Python that runs this.",
)
@click.option("--allow-partial-success", is_flag=True, help="Exit with 0 though mandatory jobs failed.")
# Where things go.
@click.option("--base-output-dir", metavar="DIR", default="results", show_default=True, help="Of outputs.")
@click.option("--logs-dir", metavar="DIR", default="logs", show_default=True, help="Of logs.")
@click.option("--summary-dir", metavar="DIR", default="summaries", show_default=True, help="Of summaries.")
def suite(
    root: Path,
    list_only: bool,
    self_test: bool,
    verbose: bool,
    output: str,
    roots: tuple[str, ...],
    include_patterns: tuple[str, ...],
    no_auto_discover: bool,
    no_default_jobs: bool,
    interpreter: str | None,
    **values: Any,
) -> None:
    """Find training scripts in a tree, run them one by one or several at a time, and sum up how they went.

    Each script is a process of its own, with its attempts, its log, and an output folder where it takes one. It is
    given --epochs and the like only if it seems to take them. One that fails stops no other.
    """
    from shardwise_api.safe_streams import settle, tell

    from .model.options import SuiteOptions
    from .terminal.run_local import SuiteRequest, run_local

    if self_test:
        from .terminal.self_test import run_self_test

        status = run_self_test(as_json=output == "json")
        settle()
        sys.exit(status)
    if include_patterns:
        values["include_patterns"] = include_patterns
    try:
        options = SuiteOptions.of(
            {
                **values,
                # As in the original, what a person types is relative to where it is typed.
                "roots": tuple(str(Path(folder).absolute()) for folder in roots),
                "auto_discover": not no_auto_discover,
                "interpreter": _as_seen_here(interpreter),
                "default_jobs": not no_default_jobs,
            }
        )
        status = run_local(
            SuiteRequest(root=root, options=options, list_only=list_only, verbose=verbose, as_json=output == "json")
        )
    except WorkError as error:
        tell(f"error: {error}")
        status = error.exit_code
    settle()
    sys.exit(status)


def _as_seen_here(program: str | None) -> str | None:
    """Return the whole path of a program that is there by a path from this folder; any other as it is."""
    if program is None or "/" not in program:
        return program
    whole = str(Path(program).absolute())
    return whole if shutil.which(whole) else program
