"""What a training must come to: the digest of the same training in one process on this machine."""

from __future__ import annotations

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.cli import SHARDWISE, finish
from tests.support.leash import leashed


def manifest(difflogic: dict[str, Any], *, name: str = "training", **spec: Any) -> dict[str, Any]:
    """Return the manifest of a training."""
    return {
        "apiVersion": "shardwise.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {"engine": {"difflogic": difflogic}, **spec},
    }


def alone(difflogic: dict[str, Any]) -> str:
    """Return the digest of a training in one process; computed once per test session."""
    return _alone(json.dumps(difflogic, sort_keys=True))


@cache
def _alone(difflogic: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.yaml"
        path.write_text(yaml.safe_dump(manifest(json.loads(difflogic))), encoding="utf-8")
        command = leashed(str(SHARDWISE), "run", str(path), "--workdir", f"{folder}/work", "-o", "json")
        done = finish(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        assert done.code == 0, done.err
        digest: str = done.status["result"]["digest"]
        return digest
