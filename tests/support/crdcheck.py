"""Builds and runs tests/crdcheck: the API server's own judgement of definitions and objects, without a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .require import missing

REPOSITORY = Path(__file__).parents[2]
_SOURCES = REPOSITORY / "tests" / "crdcheck"
_HOW_TO_GET = "Run the tests by `make test`, or install Go 1.24 or newer; it needs its module proxy or a filled cache."


def build() -> Path:
    """Return the program, up to date with its sources; Go's own caches make this quick."""
    # Where the machine has no Go, `make` puts one beside the Python of the tests.
    go = shutil.which("go", path=os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)]))
    if go is None:
        missing("Go, to run Kubernetes' own validation", _HOW_TO_GET)
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    cache = Path(os.environ.get("SHARDWISE_CACHE", REPOSITORY / ".cache")).resolve()
    listed = subprocess.run(
        [go, "list", "-deps", "."], cwd=_SOURCES, env=environment, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        missing(f"a Go module of Kubernetes ({listed.stderr.strip().splitlines()[-1]})", _HOW_TO_GET)
    program = cache / "crdcheck"
    subprocess.run([go, "build", "-o", program, "."], cwd=_SOURCES, env=environment, check=True)
    return program


def judge(
    program: Path, definitions: Sequence[Path], *, objects: Sequence[Path] = (), old: Path | None = None
) -> dict[str, Any]:
    """Return the program's report; with `old`, objects are judged as updates of it."""
    command: list[str | Path] = [program, *definitions]
    if old is not None:
        command += ["-old", old]
    result = subprocess.run([*command, "-objects", *objects], capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]
