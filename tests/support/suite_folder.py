"""A suite of scripts on one machine, as a person has it: a folder with a tree and a manifest for `shardwise run`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import suites
from .cli import Finished, Folder


@dataclass(slots=True, kw_only=True)
class SuiteFolder(Folder):
    """A folder with a tree of scripts and a manifest that runs them."""

    @property
    def tree(self) -> Path:
        return self.path / "tree"

    @property
    def output(self) -> Path:
        return self.path / ".shardwise" / "suite" / "output"

    def by_command(self, *arguments: str) -> Finished:
        """Run the same scripts by `shardwise suite`."""
        return self.command("suite", "--root", str(self.tree), "--no-default-jobs", "-o", "json", *arguments)

    @property
    def summary(self) -> dict[str, Any]:
        """The one summary that there is."""
        (path,) = self.output.glob("summaries/*.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def suite(path: Path, *names: str, **scripts: Any) -> SuiteFolder:
    """A folder with a suite of some scripts."""
    path.mkdir(parents=True, exist_ok=True)
    manifest = {
        "apiVersion": "shardwise.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "suite"},
        "spec": {"engine": {"scripts": {"source": "tree", "retryDelaySeconds": 0, **scripts}}},
    }
    folder = SuiteFolder(path=path, samples=0, manifest=manifest)
    suites.plant(folder.tree, *names)
    return folder


def statuses(done: Finished) -> dict[str, str]:
    """Return what each script came to."""
    return {job["id"].removeprefix("train_"): job["status"] for job in done.status["suite"]["jobs"]}
