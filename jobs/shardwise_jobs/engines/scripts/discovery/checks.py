"""What is looked at before the first script starts: a suite that can't work says so at once, not in every log."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..model.options import SuiteOptions
from ..model.validation_errors import InvalidSuite


def require_tree(tree: Path) -> Path:
    """Return a tree's whole path.

    Raises:
        InvalidSuite: there is no such folder.
    """
    try:
        whole = tree.resolve(strict=True)
    except OSError as error:
        raise InvalidSuite(f"--root: {tree}: {error.strerror or error}") from error
    if not whole.is_dir():
        raise InvalidSuite(f"--root: {tree}: is not a folder")
    return whole


def require_interpreter(interpreter: str, *, tree: Path, environment: Mapping[str, str]) -> None:
    """Look for the program that runs the scripts: a path as scripts will see it, from the tree, else a name on PATH.

    Raises:
        InvalidSuite: there is none, or it can't be run.
    """
    if interpreter == sys.executable:
        # It runs already.
        return
    if "/" in interpreter:
        path, hint = str(tree / interpreter), f"a path is looked for in the tree, {tree}: give the whole path"
    else:
        path, hint = interpreter, "give its whole path, or a name on PATH"
    if shutil.which(path, path=environment.get("PATH")) is None:
        raise InvalidSuite(f"interpreter: {interpreter}: no such program, or not to be run; {hint}")


def require_writable(tree: Path, *, options: SuiteOptions) -> None:
    """Write into each folder that the run is to write to; a dry run leaves that of the outputs alone.

    Raises:
        InvalidSuite: one of them can't be written.
    """
    folders = {"logs_dir": options.logs_dir, "summary_dir": options.summary_dir}
    if not options.dry_run:
        folders["base_output_dir"] = options.base_output_dir
    for name, folder in folders.items():
        try:
            (tree / folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=tree / folder):
                pass
        except OSError as error:
            raise InvalidSuite(f"{name}: {tree / folder}: can't be written: {error.strerror or error}") from error
