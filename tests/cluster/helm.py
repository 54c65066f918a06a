"""Finds a Helm for the chart: the machine's own when it is new enough, else one built from its Go module."""

from __future__ import annotations

import re
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

from . import builds
from .errors import ClusterError
from .shell import run

_OLDEST = (3, 14)


def find() -> Path:
    """Return a Helm's path. Building one takes minutes, once; how it goes is told on standard error."""
    if (own := shutil.which("helm")) and new_enough(_version(own)):
        return Path(own)
    # The path is all that a caller of `$(python -m tests.cluster helm)` wants to read.
    with redirect_stdout(sys.stderr):
        builds.ensure([builds.HELM])
    return builds.HELM.built


def new_enough(told: str) -> bool:
    """Tell whether the answer of `helm version --template {{.Version}}` names a Helm that knows what the chart uses."""
    found = re.match(r"v?(\d+)\.(\d+)", told)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST


def _version(program: str) -> str:
    try:
        return run(program, "version", "--template", "{{.Version}}")
    except ClusterError:
        return ""
