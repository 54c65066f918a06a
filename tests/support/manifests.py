"""Valid manifests, one of each engine, to be changed by tests; and what is said of a bad one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from shardwise_api import overrides
from shardwise_api.kato import KatoEngine
from shardwise_api.manifest import InvalidManifest, parse_manifest
from shardwise_api.runs import Run, TrainingRun

KATO = """\
apiVersion: shardwise.dev/v1alpha1
kind: TrainingRun
metadata:
  name: words
spec:
  sharding: {shards: 8, parallelism: 2}
  engine:
    kato:
      knowledgeBase: kb
      nodes:
      - {name: node0, chunkSize: 6}
      - {name: node1}
      tokenizer: {builtin: words}
      store: {uri: "sqlite:///patterns.db"}
      dataset: {files: {uris: [corpus.txt], format: text}}
"""
REST = """\
apiVersion: shardwise.dev/v1alpha1
kind: TrainingRun
metadata: {name: rest}
spec:
  sharding: {shards: 10}
  output: {uri: "s3://bucket/prefix", secretRef: {name: s3}}
  engine:
    kato:
      knowledgeBase: kb
      nodes: [{name: node0}]
      tokenizer: {hub: gpt2}
      transport: Rest
      store: {secretRef: {name: mongo, key: uri}}
      server: {url: "http://127.0.0.1:8000"}
      dataset: {hub: {path: wikitext, name: wikitext-2-raw-v1}, maxSamples: 10}
"""
DIFFLOGIC = """\
apiVersion: shardwise.dev/v1alpha1
kind: TrainingRun
metadata: {name: life}
spec:
  engine:
    difflogic:
      preset: GameOfLife
      steps: 100
      batchSize: 4
      optimizer: {lr: 0.5}
"""
SCRIPTS = """\
apiVersion: shardwise.dev/v1alpha1
kind: TrainingRun
metadata: {name: scripts}
spec:
  engine:
    scripts: {source: /scripts, jobs: [{name: a, script: a.py, output: a}], excludeRegex: x, only: [a], roots: [b]}
"""
INGEST = """\
apiVersion: shardwise.dev/v1alpha1
kind: IngestRun
metadata: {name: chunks}
spec:
  source: {files: {uris: [chunks.json]}}
  store: {uri: "sqlite:///chunks.db"}
"""
ALL = {"kato": KATO, "rest": REST, "difflogic": DIFFLOGIC, "scripts": SCRIPTS, "ingest": INGEST}


def changed(text: str, *changes: str) -> str:
    """Return a manifest with `path=value` changes (as `--set` takes them), as YAML."""
    document: dict[str, Any] = yaml.safe_load(text)
    return as_yaml(document, changes)


def as_yaml(document: dict[str, Any], changes: Sequence[str] = ()) -> str:
    """Return a document as YAML after `path=value` changes."""
    problems = overrides.apply(document, changes)
    assert not problems, problems
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def parse(text: str, *changes: str) -> Run:
    """Return the run of a manifest's text."""
    return parse_manifest(text, name="run.yaml", overrides=changes)


def complaints(text: str, *changes: str) -> list[str]:
    """Return what is wrong with a manifest, a line per problem."""
    with pytest.raises(InvalidManifest) as caught:
        parse(text, *changes)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return str(caught.value).splitlines()


def kato(text: str, *changes: str) -> KatoEngine:
    """Return the engine block of a manifest's text."""
    run = parse(text, *changes)
    assert isinstance(run, TrainingRun)
    assert run.spec.engine.kato is not None
    return run.spec.engine.kato
