"""Finds training scripts in a tree, in the order of their paths, so that two machines find the same list.

Nothing found is ever run. Folders are walked as the original walks them: never through a symbolic link, so that a link
back up the tree can't go round for ever.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ..model.options import SuiteOptions
from ..model.validation_errors import InvalidSuite

SKIPPED_NAMES = frozenset(
    {
        ".git",
        "__pycache__",
        "venv",
        "env",
        ".venv",
        "build",
        "dist",
        ".mypy_cache",
        ".pytest_cache",
        ".idea",
        ".vscode",
        "node_modules",
    }
)
"""Folders never entered, wherever they are."""
SKIPPED_PATHS = (("files", "training"), ("training",))
"""Folders at the tree's top that are entered only as roots: older copies of src/aimedres/training.

Compared by whole names: `training_x` is another folder.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found."""

    scripts: tuple[str, ...]
    """Posix paths relative to the tree, sorted."""
    warnings: tuple[str, ...] = ()


def discover(tree: Path, *, options: SuiteOptions) -> Found:
    """Return the scripts below a tree that the options ask for.

    Raises:
        InvalidSuite: the tree or a root is no folder, or a root is not within the tree.
    """
    top = _folder(tree, name=str(tree))
    patterns = (*options.include_patterns, *options.extra_include_patterns)
    excluded = re.compile(options.exclude_regex) if options.exclude_regex is not None else None
    scripts: set[str] = set()
    warnings: list[str] = []
    for root in options.roots or (".",):
        folder = _root(top, root)
        for path in _files(folder, top=top, warnings=warnings):
            if not path.name.endswith(".py") or not any(fnmatchcase(path.name, pattern) for pattern in patterns):
                continue
            if excluded and excluded.search(path.relative_to(folder.parent).as_posix()):
                continue
            script = path.relative_to(top).as_posix()
            if script.isprintable():
                scripts.add(script)
            else:
                warnings.append(f"{script!r}: is left out, its name is not plain text")
    return Found(scripts=tuple(sorted(scripts)[: options.discovery_limit]), warnings=tuple(sorted({*warnings})))


def _folder(path: Path, *, name: str) -> Path:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise InvalidSuite(f"{name}: {getattr(error, 'strerror', None) or error}") from error
    if not real.is_dir():
        raise InvalidSuite(f"{name}: is not a folder")
    return real


def _root(top: Path, root: str) -> Path:
    folder = _folder(top / root, name=f"roots: {root}")
    if not folder.is_relative_to(top):
        raise InvalidSuite(f"roots: {root}: is not within the tree {top}")
    return folder


def _files(folder: Path, *, top: Path, warnings: list[str]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        name = PurePosixPath(os.path.relpath(error.filename, top))
        warnings.append(f"{str(name)!r}: can't be looked into: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(place)
        parts = here.relative_to(top).parts
        folders[:] = sorted(
            name
            for name in folders
            # The kubelet keeps the versions of a mounted ConfigMap in folders like `..2026_11_22_10_00_00.123`.
            if name not in SKIPPED_NAMES and not name.startswith("..") and (*parts, name) not in SKIPPED_PATHS
        )
        yield from (here / name for name in files)
