"""Manifests that the API server and the local runner must judge alike: each rule by hand, each bound from the schema.

A case that must be refused names the field to blame; one that blames nothing only asks that both say the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from shardwise_api.crdgen import definition
from shardwise_api.runs import KINDS
from tests.support import manifests


@dataclass(frozen=True, kw_only=True)
class Case:
    """A manifest, and what is expected of both judges."""

    name: str
    text: str
    blames: str | None = None
    """The field that our side must name; such a manifest must be refused."""
    valid: bool = False
    """Must be accepted."""


def _changes(base: str, *, good: tuple[str, ...] = (), bad: dict[str, str]) -> Iterator[Case]:
    """Read `changes -> field to blame`; several changes of one manifest stand apart by ` && `."""
    for changes in good:
        yield _case(base, changes, valid=True)
    for changes, blames in bad.items():
        yield _case(base, changes, blames=blames)


def _case(base: str, changes: str, *, blames: str | None = None, valid: bool = False) -> Case:
    text = manifests.changed(manifests.ALL[base], *filter(None, changes.split(" && ")))
    return Case(name=f"{base}: {changes}", text=text, blames=blames, valid=valid)


KATO = "spec.engine.kato"
DIFFLOGIC = "spec.engine.difflogic"
SCRIPTS = "spec.engine.scripts"
_KATO_GOOD = (
    "",
    "sharding=null",
    "sharding.parallelism=8",
    "sharding.strategy=Dynamic",
    "sharding.strategy=Chunked && sharding.shards=10000",
    "items.maxFailedFraction=1",
    "items.maxFailedFraction=0.25",
    "output.uri=results",
    "worker.labels={kueue.x-k8s.io/queue-name: q}",
    "managedBy=kueue.x-k8s.io/multikueue",
    "managedBy=shardwise.dev/operator",
    "worker.labels={a: null}",
    "worker.env=[{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
    "worker.resources={limits: {cpu: 1, memory: 1Gi}}",
    "worker.tolerations=[{}]",
    "retry=null",
    "ttlSecondsAfterFinished=0",
    "engine.kato.nodes[1]=null && engine.kato.nodes=[{name: node0, mode: Sentences}]",
    "engine.kato.tokenizer={file: tokenizer.json}",
    "engine.kato.tokenizer={builtin: bytes, hub: null}",
    "engine.kato.store.uri=mongodb://user@host:27017/",
    "engine.kato.store={secretRef: {name: a, key: b}}",
    "engine.kato.dataset={hub: {path: ./data}}",
    "engine.kato.knowledgeBase=A_b-9",
    "engine.difflogic=null",
    f"metadata.name={'a' * 50}",
    "metadata.labels={a: b}",
    "metadata.annotations={a: b}",
    "metadata.namespace=team",
    "status={phase: Complete}",
    "status={bogus: 1} && status=null",
)
_KATO_BAD = {
    "managedBy=multikueue": "spec.managedBy",
    "sharding.parallelism=9": "spec.sharding.parallelism",
    "sharding.strategy=Dynamic && sharding.parallelism=8": "spec.sharding.parallelism",
    "sharding.strategy=Dynamic && sharding.parallelism=null": "spec.sharding.parallelism",
    "sharding.strategy=roundrobin": "spec.sharding.strategy",
    "sharding.shards=4.5": "spec.sharding.shards",
    "engine.kato=null": "spec.engine",
    "engine=null": "spec.engine",
    "engine.scripts={source: a}": "spec.engine",
    "engine.difflogic={preset: Lizard, steps: 1}": "spec.engine",
    "engine.kato.tokenizer={}": f"{KATO}.tokenizer",
    "engine.kato.tokenizer=null": f"{KATO}.tokenizer",
    "engine.kato.tokenizer.hub=gpt2": f"{KATO}.tokenizer",
    "engine.kato.tokenizer.builtin=letters": f"{KATO}.tokenizer.builtin",
    "engine.kato.nodes[1].name=node2": f"{KATO}.nodes",
    "engine.kato.nodes[0].name=node1": f"{KATO}.nodes",
    "engine.kato.nodes[1].name=node0": f"{KATO}.nodes",
    "engine.kato.nodes[1].name=node01": f"{KATO}.nodes[1].name",
    "engine.kato.nodes[1].name=node100": f"{KATO}.nodes[1].name",
    "engine.kato.nodes[1].mode=Sentences": f"{KATO}.nodes",
    "engine.kato.store=null": f"{KATO}.store",
    "engine.kato.store={}": f"{KATO}.store",
    "engine.kato.store.secretRef={name: a, key: b}": f"{KATO}.store",
    "engine.kato.store.uri=mongodb://user:secret@host": f"{KATO}.store.uri",
    "engine.kato.store.uri=mongodb+srv://user:secret@host": f"{KATO}.store.uri",
    "engine.kato.store.uri=sqlite://file.db": f"{KATO}.store.uri",
    "engine.kato.store.uri=http://host": f"{KATO}.store.uri",
    "engine.kato.dataset={}": f"{KATO}.dataset",
    "engine.kato.dataset.hub={path: c4}": f"{KATO}.dataset",
    "engine.kato.dataset.files.uris=[null]": f"{KATO}.dataset.files.uris[0]",
    "engine.kato.transport=Rest": f"{KATO}.server",
    "engine.kato.knowledgeBase=a b": f"{KATO}.knowledgeBase",
    "engine.kato.knowledgeBase=-a": f"{KATO}.knowledgeBase",
    "engine.kato.knowledgeBase=": f"{KATO}.knowledgeBase",
    f"engine.kato.knowledgeBase={'a' * 33}": f"{KATO}.knowledgeBase",
    "engine.kato.server={url: ftp://host}": f"{KATO}.server.url",
    "retry.nonRetriableExitCodes=[0]": "spec.retry.nonRetriableExitCodes[0]",
    "retry.nonRetriableExitCodes=[256]": "spec.retry.nonRetriableExitCodes[0]",
    "worker.labels={a: 1}": "spec.worker.labels.a",
    "worker.env=[1]": "spec.worker.env[0]",
    "worker.env=[null]": "spec.worker.env[0]",
    "sharding=[]": "spec.sharding",
    "sharding=8": "spec.sharding",
    "metadata.name=": "metadata.name",
    "metadata.name=Words": "metadata.name",
    "metadata.name=a.b": "metadata.name",
    "metadata.name=1a": "metadata.name",
    "metadata.name=a-": "metadata.name",
    f"metadata.name={'a' * 51}": "metadata.name",
    "metadata.label={}": "metadata.label",
    "metadata.labels={a: 1}": "metadata.labels.a",
    "metadata.labels=[]": "metadata.labels",
    "spec=null": "spec",
    "bogus=1": "spec.bogus",
    "block_size=5": "spec.block_size",
    "kind=TrainingRuns": "kind",
    "kind=": "kind",
    "apiVersion=shardwise.dev/v1": "apiVersion",
    "apiVersion=": "apiVersion",
}
BY_HAND = [
    *_changes("kato", good=_KATO_GOOD, bad=_KATO_BAD),
    *_changes(
        "rest",
        good=(
            "",
            "engine.kato.server.connectionPoolSize=10",
            "sharding.shards=100 && sharding.parallelism=10",
            "engine.kato.store=null",
        ),
        bad={
            "engine.kato.server.connectionPoolSize=9": f"{KATO}.server.connectionPoolSize",
            "sharding.shards=51": f"{KATO}.server.connectionPoolSize",
            "sharding.parallelism=9 && engine.kato.server.connectionPoolSize=8": f"{KATO}.server.connectionPoolSize",
            "sharding.shards=26 && engine.kato.nodes[1]={name: node1}": f"{KATO}.server.connectionPoolSize",
            "engine.kato.server=null": f"{KATO}.server",
            "output.secretRef={}": "spec.output.secretRef.name",
        },
    ),
    *_changes(
        "difflogic",
        good=(
            "",
            "engine.difflogic.model={updateWidths: [8, 1], periodic: false}",
            "engine.difflogic.optimizer={clipMode: GlobalNorm, lr: 0.5, b2: 0}",
            "engine.difflogic.rollout={fireRate: 1, lossChannels: [0, 1]}",
            "engine.difflogic.preset=Lizard && engine.difflogic.pattern=['.#', '#.'] && sharding.shards=1",
            "sharding.shards=20 && engine.difflogic.batchSize=20",
            "sharding.shards=2 && sharding.parallelism=2",
            "sharding.shards=3 && sharding.parallelism=1 && engine.difflogic.sweep={seeds: [3, 1, 2]}",
        ),
        bad={
            "engine.difflogic.model={a: 1}": f"{DIFFLOGIC}.model.a",
            "engine.difflogic.model.updateWidths=[]": f"{DIFFLOGIC}.model.updateWidths",
            "engine.difflogic.model.updateWidths=[0]": f"{DIFFLOGIC}.model.updateWidths[0]",
            "engine.difflogic.optimizer.lr=0": f"{DIFFLOGIC}.optimizer.lr",
            "engine.difflogic.optimizer.b1=1": f"{DIFFLOGIC}.optimizer.b1",
            "engine.difflogic.optimizer.clipMode=value": f"{DIFFLOGIC}.optimizer.clipMode",
            "engine.difflogic.rollout.fireRate=0": f"{DIFFLOGIC}.rollout.fireRate",
            "engine.difflogic.rollout.fireRate=1.5": f"{DIFFLOGIC}.rollout.fireRate",
            "engine.difflogic.batchSize=4097": f"{DIFFLOGIC}.batchSize",
            "engine.difflogic.pattern=['.']": f"{DIFFLOGIC}.pattern",
            "engine.difflogic.preset=Lizard && engine.difflogic.pattern=['.', '..']": f"{DIFFLOGIC}.pattern",
            "engine.difflogic.preset=Lizard && engine.difflogic.pattern=['x']": f"{DIFFLOGIC}.pattern",
            "sharding.shards=21 && engine.difflogic.batchSize=null": "spec.sharding.shards",
            "sharding.shards=3 && engine.difflogic={preset: CheckerboardSync, steps: 1}": "spec.sharding.shards",
            "sharding.shards=3 && engine.difflogic.batchSize=2": "spec.sharding.shards",
            "sharding.shards=2 && sharding.parallelism=1": "spec.sharding.parallelism",
            "retry.maxFailedShards=1": "spec.retry.maxFailedShards",
            "sharding.shards=2 && engine.difflogic.sweep={seeds: [3, 1, 2]}": "spec.sharding.shards",
            "sharding.shards=2 && engine.difflogic.sweep={seeds: [3, 3]}": f"{DIFFLOGIC}.sweep.seeds",
            "sharding.shards=1 && engine.difflogic.sweep={seeds: []}": f"{DIFFLOGIC}.sweep.seeds",
        },
    ),
    *_changes(
        "scripts",
        good=(
            "",
            "engine.scripts.includePatterns=[] && engine.scripts.autoDiscover=false",
            "engine.scripts.includePatterns=[] && engine.scripts.extraIncludePatterns=['fit_*.py']",
            "engine.scripts.jobs=null",
            "engine.scripts.jobs=null && engine.scripts.autoDiscover=false && engine.scripts.useDefaultJobs=true",
            "engine.scripts.jobs[0].args={a: 1, b: true, c: text}",
            "output.uri=file:///data/a",
            "output.uri=results",
            "sharding={shards: 1}",
            "retry={perShard: 3, nonRetriableExitCodes: [2]}",
            "items.maxFailedFraction=0",
            "blockSize=50",
            "worker.terminationGracePeriodSeconds=50",
            "engine.scripts.graceSeconds=0 && worker.terminationGracePeriodSeconds=20",
        ),
        bad={
            "engine.scripts.maxWorkers=0": f"{SCRIPTS}.maxWorkers",
            "engine.scripts.maxWorkers=-1": f"{SCRIPTS}.maxWorkers",
            "engine.scripts.includePatterns=[]": f"{SCRIPTS}.includePatterns",
            "engine.scripts.jobs=null && engine.scripts.autoDiscover=false": f"{SCRIPTS}.jobs",
            "engine.scripts.jobs[0].script=null": f"{SCRIPTS}.jobs[0].script",
            "engine.scripts.jobs[0].useOutputDirectory=true": f"{SCRIPTS}.jobs[0].useOutputDirectory",
            "engine.scripts.retryBackoff=0.5": f"{SCRIPTS}.retryBackoff",
            "sharding.shards=2": "spec.sharding",
            "sharding.parallelism=1": "spec.sharding",
            "sharding.strategy=Chunked": "spec.sharding",
            "retry.perShard=0": "spec.retry",
            "retry.maxFailedShards=1": "spec.retry",
            "retry.nonRetriableExitCodes=[]": "spec.retry",
            "items.maxFailedFraction=0.5": "spec.items",
            "blockSize=1": "spec.blockSize",
            "output.uri=s3://bucket/a": "spec.output.uri",
            "worker.terminationGracePeriodSeconds=49": "spec.worker.terminationGracePeriodSeconds",
        },
    ),
    *_changes(
        "ingest",
        good=(
            "",
            "tmd={backend: ollama, url: 'http://ollama:11434', model: m}",
            "tmd.backend=client",
            "embedding={backend: sentence-transformers, model: m}",
            "store.uri=postgresql://u@h/db && store.poolSize=1",
            "workers=1 && dedup=content && index={kind: IVF, tmdWeight: 0.5}",
        ),
        bad={
            "tmd.backend=ollama": "spec.tmd.url",
            "tmd={backend: ollama, url: 'http://ollama:11434'}": "spec.tmd.url",
            "tmd.url=ollama": "spec.tmd.url",
            "tmd={backend: client, model: m}": "spec.tmd.backend",
            "tmd={backend: embedded, url: 'http://ollama:11434'}": "spec.tmd.backend",
            "tmd={backend: ollama, url: 'http://ollama:11434', model: m, timeoutSeconds: 0}": "spec.tmd.timeoutSeconds",
            "tmd={backend: ollama, url: 'http://user:secret@ollama:11434', model: m}": "spec.tmd.url",
            "embedding.backend=sentence-transformers": "spec.embedding.model",
            "embedding.model=m": "spec.embedding.model",
            "workers=0": "spec.workers",
            "workers=-1": "spec.workers",
            "workers=1001": "spec.workers",
            "dedup=Content": "spec.dedup",
            "datasetSource=''": "spec.datasetSource",
            "store.poolSize=0": "spec.store.poolSize",
            "index.tmdWeight=-1": "spec.index.tmdWeight",
            "store={}": "spec.store",
            "store.secretRef={name: a, key: b}": "spec.store",
            "store.uri=postgres://user:secret@host/db": "spec.store.uri",
            "store.uri=mysql://host": "spec.store.uri",
            "source=null": "spec.source",
            "source.files=null": "spec.source.files",
            "engine.kato=null": "spec.engine",
            "index.kind=flat": "spec.index.kind",
        },
    ),
]


def _spelling(name: str, old: str, new: str, *, blames: str | None = None, valid: bool = False) -> Case:
    assert old in manifests.KATO
    return Case(name=f"yaml: {name}", text=manifests.KATO.replace(old, new), blames=blames, valid=valid)


SPELLINGS = [
    _spelling("a quoted number", "shards: 8", 'shards: "8"', blames="spec.sharding.shards"),
    _spelling("a boolean for a number", "shards: 8", "shards: true", blames="spec.sharding.shards"),
    _spelling("a whole float", "shards: 8", "shards: 8.0", valid=True),
    _spelling("an exponent", "shards: 8", "shards: 8e0", valid=True),
    _spelling("octal", "shards: 8", "shards: 010", valid=True),
    _spelling("new octal", "shards: 8", "shards: 0o10", valid=True),
    _spelling("hexadecimal", "shards: 8", "shards: 0x8", valid=True),
    _spelling("binary", "shards: 8", "shards: 0b1000", valid=True),
    _spelling("a digit group", "shards: 8", "shards: 1_0", valid=True),
    _spelling("a decimal with a zero in front", "shards: 8", "shards: 08", valid=True),
    _spelling(
        "a number beyond 64 bits",
        "spec:\n",
        "spec:\n  activeDeadlineSeconds: 99999999999999999999\n",
        blames="spec.activeDeadlineSeconds",
    ),
    _spelling("base 60", "shards: 8", "shards: 1:30", blames="spec.sharding.shards"),
    _spelling("on for a name", "knowledgeBase: kb", "knowledgeBase: on", blames=f"{KATO}.knowledgeBase"),
    _spelling("y for a name", "knowledgeBase: kb", "knowledgeBase: y", blames=f"{KATO}.knowledgeBase"),
    _spelling("a number for a name", "knowledgeBase: kb", "knowledgeBase: 1e3", blames=f"{KATO}.knowledgeBase"),
    _spelling("a date for a name", "knowledgeBase: kb", "knowledgeBase: 2024-01-01", valid=True),
    _spelling("a time for a name", "name: words", "name: 1:30", blames="metadata.name"),
    _spelling("null for a name", "knowledgeBase: kb", "knowledgeBase: ~", blames=f"{KATO}.knowledgeBase"),
    _spelling("a quoted yes for a name", "knowledgeBase: kb", "knowledgeBase: 'yes'", valid=True),
    _spelling("yes for a boolean", "spec:\n", "spec:\n  suspend: yes\n", valid=True),
    _spelling("a quoted true for a boolean", "spec:\n", "spec:\n  suspend: 'true'\n", blames="spec.suspend"),
    _spelling("1 for a boolean", "spec:\n", "spec:\n  suspend: 1\n", blames="spec.suspend"),
    _spelling("an empty field", "spec:\n", "spec:\n  retry:\n", valid=True),
    _spelling("a merge key", "{name: node1}", "{<<: {name: node9, chunkSize: 5}, name: node1}", valid=True),
    _spelling("JSON", manifests.KATO, json.dumps(yaml.safe_load(manifests.KATO)), valid=True),
]


def from_schema() -> Iterator[Case]:
    """Yield, for every field that a base manifest reaches, its bounds, wrong types, and an unknown neighbour."""
    seen = set()
    for base, text in manifests.ALL.items():
        document = yaml.safe_load(text)
        schema = definition(KINDS[document["kind"]])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for path, part, required in _fields(schema["properties"]["spec"], document["spec"], path="spec"):
            if (document["kind"], path) in seen:
                continue
            seen.add((document["kind"], path))
            for value, blames in _values(part, path=path, required=required):
                shown = json.dumps(value)
                name = shown if len(shown) < _SHOWN else f"{shown[:_SHOWN]}… ({len(shown)})"
                changed = manifests.changed(text, f"{path}={shown}")
                yield Case(name=f"{base}: {path}={name}", text=changed, blames=blames)


_SHOWN = 30


def _fields(schema: dict[str, Any], value: Any, *, path: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, part in schema.get("properties", {}).items():
        place = f"{path}.{name}"
        there = value.get(name) if isinstance(value, dict) else None
        if there is None and part["type"] == "object" and part.get("required"):
            continue  # Another base has it; half a mapping would be blamed for what it lacks.
        yield place, part, name in schema.get("required", ())
        if part["type"] == "array":
            first = there[0] if there else None
            if first is not None:
                yield f"{place}[0]", part["items"], True
            yield from _fields(part["items"], first, path=f"{place}[0]") if first is not None else ()
        else:
            yield from _fields(part, there, path=place)


_WRONG: dict[str, tuple[Any, ...]] = {
    "integer": ("4", True, 1.5, [], {}),
    "number": ("0.5", True, []),
    "string": (5, True, 1.5, [], {}),
    "boolean": ("true", 1, []),
    "array": ("a", 1, {}),
    "object": ("a", 1, []),
}


def _values(schema: dict[str, Any], *, path: str, required: bool) -> Iterator[tuple[Any, str | None]]:
    for wrong in _WRONG[schema["type"]]:
        yield wrong, path
    if not path.endswith("]"):
        yield None, path if required else None
    for keyword, beyond in (("minimum", -1), ("maximum", 1)):
        if keyword in schema:
            yield schema[keyword], None
            yield schema[keyword] + beyond, path
    if "minLength" in schema:
        yield "", path
    if "maxLength" in schema:
        yield "a" * schema["maxLength"], None
        yield "a" * (schema["maxLength"] + 1), path
    if "minItems" in schema:
        yield [], path
    if "maxItems" in schema:
        entry = _entry(schema["items"])
        yield [entry] * schema["maxItems"], None
        yield [entry] * (schema["maxItems"] + 1), path
    if "enum" in schema:
        yield "Foo", path
        yield from ((choice, None) for choice in schema["enum"])
    if schema["type"] == "object" and "properties" in schema:
        yield {"bogus": 1}, f"{path}.bogus"


def _entry(schema: dict[str, Any]) -> Any:
    match schema["type"]:
        case "integer":
            return schema.get("minimum", 1)
        case "string":
            return "a"
        case _:
            return {"name": "node0"}
