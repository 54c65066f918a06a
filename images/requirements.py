"""Prints what pyproject.toml asks for, without the project itself: `requirements.py pyproject.toml kato s3`.

It runs inside a build, on nothing but Python. Its output is what the layer of dependencies is made from, so that
neither a change of sources nor one of a tool's settings in pyproject.toml installs everything anew.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path


def requirements(pyproject: str, extras: Sequence[str]) -> list[str]:
    """Return the project's requirements with those of its extras, sorted; raise `SystemExit` for an unknown extra."""
    project = tomllib.loads(pyproject)["project"]
    found = set(project["dependencies"])
    for extra in extras:
        if extra not in project["optional-dependencies"]:
            raise SystemExit(f"pyproject.toml has no extra named {extra}")
        found.update(project["optional-dependencies"][extra])
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]).read_text(), sys.argv[2:])))
