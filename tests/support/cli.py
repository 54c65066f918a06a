"""The command line as a person starts it: real processes, a manifest in a folder of its own."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .expected import CORPUS
from .leash import leashed

SHARDWISE = Path(sys.executable).parent / "shardwise"

BASE: dict[str, Any] = {
    "apiVersion": "shardwise.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "pydocs"},
    "spec": {
        "sharding": {"strategy": "RoundRobin", "shards": 4, "parallelism": 2},
        "blockSize": 20,
        "engine": {
            "kato": {
                "knowledgeBase": "pydocs",
                "nodes": [
                    {"name": "node0", "chunkSize": 5},
                    {"name": "node1", "chunkSize": 7},
                    {"name": "node2", "chunkSize": 9},
                ],
                "tokenizer": {"builtin": "words"},
                "transport": "Direct",
                "store": {"uri": "sqlite:///patterns.db"},
                "dataset": {"files": {"uris": ["samples.jsonl"], "format": "jsonl", "column": "text"}},
            }
        },
    },
}


@dataclass(slots=True, kw_only=True)
class Finished:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def resource(self) -> dict[str, Any]:
        """The resource that `-o json` printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def status(self) -> dict[str, Any]:
        """Its status."""
        found: dict[str, Any] = self.resource["status"]
        return found


@dataclass(slots=True, kw_only=True)
class Folder:
    """A folder with samples and a manifest that learns them."""

    path: Path
    samples: int = 200
    environment: Mapping[str, str] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(BASE))

    def __post_init__(self) -> None:
        lines = CORPUS.read_bytes().splitlines(keepends=True)[: self.samples]
        (self.path / "samples.jsonl").write_bytes(b"".join(lines))

    @property
    def kato(self) -> dict[str, Any]:
        """The manifest's engine block."""
        found: dict[str, Any] = self.manifest["spec"]["engine"]["kato"]
        return found

    def write(self) -> Path:
        """Write the manifest and return its path."""
        path = self.path / "run.yaml"
        path.write_text(yaml.safe_dump(self.manifest, sort_keys=False), encoding="utf-8")
        return path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `shardwise run` and return its process."""
        return subprocess.Popen(
            leashed(str(SHARDWISE), "run", str(self.write()), "-o", "json", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
            cwd=self.path,
        )

    def run(self, *arguments: str) -> Finished:
        """Run the manifest to its end."""
        return finish(self.start(*arguments))

    def command(self, *arguments: str) -> Finished:
        """Run any other command in this folder."""
        done = subprocess.run(
            [SHARDWISE, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment},
            cwd=self.path,
            check=False,
        )
        return Finished(code=done.returncode, out=done.stdout, err=done.stderr)

    def digest_by_command(self) -> str:
        """Return the digest of what `shardwise kato patterns` prints."""
        name = self.kato["knowledgeBase"]
        printed = self.command("kato", "patterns", "--store", self.kato["store"]["uri"], "--knowledge-base", name)
        assert printed.code == 0, printed.err
        return f"sha256:{hashlib.sha256(printed.out.encode()).hexdigest()}"


def finish(process: subprocess.Popen[str]) -> Finished:
    """Wait for a started command."""
    out, err = process.communicate(timeout=280)
    return Finished(code=process.returncode, out=out, err=err)
