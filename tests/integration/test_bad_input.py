"""Whatever is wrong is said clearly, with field or line, before anything is learned; a traceback never is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One mistake: how it is made, and what must be said."""

    make: Callable[[Folder], None]
    code: int
    says: tuple[str, ...]


def setting(path: str, value: object) -> Callable[[Folder], None]:
    def make(folder: Folder) -> None:
        *parents, last = path.split(".")
        place = folder.manifest
        for part in parents:
            place = place[part]
        place[last] = value

    return make


def samples(content: bytes) -> Callable[[Folder], None]:
    def make(folder: Folder) -> None:
        (folder.path / "samples.jsonl").write_bytes(content)

    return make


def line(number: int, content: bytes) -> Callable[[Folder], None]:
    def make(folder: Folder) -> None:
        path = folder.path / "samples.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        lines[number - 1] = content + b"\n"
        path.write_bytes(b"".join(lines))

    return make


KATO = "spec.engine.kato"
DATASET = f"{KATO}.dataset.files"

CASES = {
    "unknown field": Case(
        make=setting("spec.shardng", {}), code=2, says=("spec.shardng: unknown field", "did you mean sharding?")
    ),
    "zero shards": Case(make=setting("spec.sharding.shards", 0), code=2, says=("spec.sharding.shards", "at least 1")),
    "parallelism over shards": Case(
        make=setting("spec.sharding.parallelism", 9), code=2, says=("spec.sharding.parallelism", "must not exceed")
    ),
    "chunk size under 3": Case(
        make=setting(f"{KATO}.nodes", [{"name": "node0", "chunkSize": 2}]),
        code=2,
        says=(f"{KATO}.nodes[0].chunkSize", "at least 3"),
    ),
    "missing file": Case(
        make=setting(f"{DATASET}.uris", ["nowhere.jsonl"]), code=2, says=(f"{DATASET}.uris", "nowhere.jsonl", "No such")
    ),
    "missing column": Case(
        make=setting(f"{DATASET}.column", "body"), code=2, says=("no column 'body'", "columns are 'text'")
    ),
    "broken JSON line": Case(make=line(7, b'{"text": '), code=1, says=("samples.jsonl line 7", "not JSON")),
    "not UTF-8": Case(make=line(9, b'{"text": "caf\xe9"}'), code=1, says=("samples.jsonl line 9", "not UTF-8")),
    "empty dataset": Case(make=samples(b""), code=2, says=(f"{DATASET}.uris", "no sample to learn from")),
    "only short samples": Case(make=samples(b'{"text": "tiny"}\n' * 9), code=2, says=("no sample", "9 shorter")),
    "missing tokenizer file": Case(
        make=setting(f"{KATO}.tokenizer", {"file": "nowhere.json"}), code=2, says=("tokenizer.file", "nowhere.json")
    ),
    "unreachable store": Case(
        make=setting(f"{KATO}.store", {"uri": "mongodb://127.0.0.1:1"}),
        code=1,
        says=("StoreUnavailable", "127.0.0.1:1"),
    ),
    "unreachable server": Case(
        make=setting(
            KATO,
            {
                "knowledgeBase": "pydocs",
                "nodes": [{"name": "node0", "chunkSize": 5}],
                "tokenizer": {"builtin": "words"},
                "transport": "Rest",
                "server": {"url": "http://127.0.0.1:1"},
                "dataset": {"files": {"uris": ["samples.jsonl"]}},
            },
        ),
        code=1,
        says=("http://127.0.0.1:1",),
    ),
    "scripts in shards": Case(
        make=setting("spec.engine", {"scripts": {"source": "scripts"}}),
        code=2,
        says=("spec.sharding", "engine.scripts.maxWorkers says how many run at once"),
    ),
    "no workers": Case(
        make=setting("spec.engine", {"scripts": {"source": "scripts", "maxWorkers": 0}}),
        code=2,
        says=("spec.engine.scripts.maxWorkers", "max_workers must be greater than 0"),
    ),
    "store that is a folder": Case(
        make=setting(f"{KATO}.store", {"uri": "sqlite:////"}), code=2, says=("store.uri", "sqlite:///")
    ),
    "store that is no database": Case(
        make=setting(f"{KATO}.store", {"uri": "sqlite:///samples.jsonl"}), code=1, says=("samples.jsonl", "database")
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    folder = Folder(path=tmp_path, samples=20)
    case.make(folder)
    content = (tmp_path / "samples.jsonl").read_bytes()
    done = folder.run()
    assert done.code == case.code, done.err
    for words in case.says:
        assert words in done.err
    assert "Traceback" not in done.err + done.out
    assert not (tmp_path / "patterns.db").exists()
    assert (tmp_path / "samples.jsonl").read_bytes() == content
    for log in tmp_path.rglob("*.log"):
        assert "Traceback" not in log.read_text(encoding="utf-8")


def test_a_knowledge_base_with_other_chunk_sizes_is_left_alone(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path, samples=20)
    assert folder.run().code == 0
    before = folder.digest_by_command()
    other = folder.run("--set", "engine.kato.nodes[0].chunkSize=6", "--set", "metadata.name=other")
    assert other.code == 2
    assert "spec.engine.kato.knowledgeBase" in other.err
    assert "node0 5" in other.err
    assert "node0 6" in other.err
    assert folder.digest_by_command() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("sharding.shards=3", "spec.sharding.shards: 4 then, 3 now"),
        ("blockSize=19", "spec.blockSize: 20 then, 19 now"),
        ("engine.kato.dataset.maxSamples=10", "items: 20 then, 10 now"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(tmp_path: Path, change: str, named: str) -> None:
    folder = Folder(path=tmp_path, samples=20)
    assert folder.run().code == 0
    other = folder.run("--resume", "--set", change)
    assert other.code == 2
    assert named in other.err


def test_a_manifest_that_is_no_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path, samples=1)
    (tmp_path / "bad.yaml").write_text("spec: {a: 1\nkind: [", encoding="utf-8")
    done = folder.command("run", "bad.yaml")
    assert done.code == 2
    assert "line 2" in done.err
    assert list(tmp_path.glob(".shardwise")) == []


def test_an_unknown_knowledge_base_is_named(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path, samples=20)
    assert folder.run().code == 0
    done = folder.command("kato", "patterns", "--store", "sqlite:///patterns.db", "--knowledge-base", "nope")
    assert done.code == 1
    assert "nope" in done.err
