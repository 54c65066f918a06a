"""A suite of scripts step by step, as pods take it: the worker's entry on a tree and an output folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardwise_api.wire import RunResult, Step, WorkResult

from . import suites
from .worker import Ended, Pods


@dataclass(kw_only=True)
class SuitePods(Pods):
    """A suite's pods, with its tree and its output."""

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = self.manifest["spec"]["engine"]["scripts"]
        return found

    def index(self, id: str) -> int:
        """Return the index that a script was frozen at."""
        (frozen,) = self.output.glob("records/*/suite.json")
        ids: list[str] = [job["id"] for job in json.loads(frozen.read_text())["suite"]["jobs"]]
        return ids.index(id)

    def work(self, id: str) -> Ended:
        """Run a script once."""
        return self.run(Step.WORK, shard=self.index(id))

    def finalize(self, worked: WorkResult | None = None) -> RunResult:
        """Run the last step."""
        ended = self.run(Step.FINALIZE, worked=worked)
        assert ended.code == 0, ended
        return RunResult.model_validate_json(ended.message)

    @property
    def summary(self) -> dict[str, Any]:
        """The one summary that there is."""
        (path,) = self.output.glob("summaries/training_summary_*.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def said_of(self, id: str) -> dict[str, Any]:
        """Return what the summary says of a script."""
        found: dict[str, Any] = next(job for job in self.summary["jobs"] if job["id"] == id)
        return found

    def log_of(self, id: str) -> str:
        """Return the log that the summary names."""
        said = self.said_of(id)
        content: bytes = (self.output / said["log_path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == said["log_sha256"]
        return content.decode()


def new_suite(folder: Path, **settings: Any) -> SuitePods:
    """Return a suite of an empty tree, on a node."""
    manifest = {
        "apiVersion": "shardwise.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "suite"},
        "spec": {
            "output": {"uri": (folder / "output").as_uri()},
            "engine": {"scripts": {"source": str(folder / "tree"), **settings}},
        },
    }
    (folder / "tree").mkdir()
    return SuitePods(folder=folder, manifest=manifest, environment={"SHARDWISE_NODE": "node7"})


def prepared(suite: SuitePods, *names: str) -> SuitePods:
    """Plant scripts and have them found."""
    suites.plant(suite.tree, *names)
    ended = suite.prepare()
    assert ended.code == 0, ended
    return suite
