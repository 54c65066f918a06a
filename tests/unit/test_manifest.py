"""A manifest becomes a run, or a list of everything that is wrong with it in words a person can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardwise_api.manifest import InvalidManifest, load_manifest
from shardwise_api.runs import IngestRun, TrainingRun
from tests.support.manifests import ALL, KATO, complaints, kato, parse

KATO_PATH = "spec.engine.kato"


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_a_good_manifest_is_a_run(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")

    run = load_manifest(path)

    assert run == parse(text)
    assert isinstance(run, IngestRun if "IngestRun" in text else TrainingRun)


def test_defaults_are_filled_in() -> None:
    assert parse(KATO).spec.retry.per_shard == 3
    assert kato(KATO).nodes[1].chunk_size == 15


def test_null_is_absent() -> None:
    run = parse(KATO, "retry=null", "sharding={shards: 2, strategy: null}", "worker.labels={a: null, b: c}")

    assert run.spec.retry.per_shard == 3
    assert run.spec.sharding.strategy == "RoundRobin"
    assert run.spec.worker.labels == {"b": "c"}


def test_null_within_a_part_of_the_core_api_stays() -> None:
    run = parse(KATO, "worker.env=[{name: A, value: null}]")

    assert run.spec.worker.env == [{"name": "A", "value": None}]


def test_a_status_that_came_along_is_left_aside() -> None:
    assert parse(KATO, "status={phase: Nonsense, bogus: 1}").status is None


def test_what_kubectl_prints_of_a_resource_can_be_read_again() -> None:
    run = parse(
        KATO, "metadata.uid=u", "metadata.managedFields=[{}]", "metadata.creationTimestamp='2026-01-01T00:00:00Z'"
    )

    assert run.metadata.uid == "u"


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(KATO, encoding="utf-8-sig")

    assert load_manifest(path).metadata.name == "words"


def test_separators_without_a_document_are_passed_over() -> None:
    assert parse(f"---\n# nothing\n---\n{KATO}").metadata.name == "words"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder, a manifest is a file"),
        (lambda path: path.write_bytes(b"kind: \xff"), "is not UTF-8 text (byte 6)"),
    ],
    ids=["missing", "folder", "latin-1"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, make: Any, complaint: str) -> None:
    path = tmp_path / "run.yaml"
    make(path)

    with pytest.raises(InvalidManifest) as caught:
        load_manifest(path)

    assert str(caught.value) == f"{path}: {complaint}"


def test_every_problem_is_told_at_once() -> None:
    assert complaints(
        KATO,
        "sharding={shards: 0, strategy: Foo}",
        "shardng=1",
        "engine.kato.tokenizer={}",
        "engine.kato.dataset=null",
        "metadata.lables={}",
        "nonsense",
    ) == [
        "--set nonsense: write path=value, as sharding.shards=8",
        "spec.sharding.strategy: must be one of RoundRobin, Chunked, Dynamic, got 'Foo'",
        "spec.sharding.shards: must be at least 1, got 0",
        "spec.engine.kato.dataset: required",
        "spec.shardng: unknown field; did you mean sharding?",
        "spec.engine.kato.tokenizer: give exactly one of builtin, file, hub",
        "metadata.lables: unknown field; did you mean labels?",
    ]


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("sharding.shards=0", "spec.sharding.shards: must be at least 1, got 0"),
        ("sharding.shards=10001", "spec.sharding.shards: must be at most 10000, got 10001"),
        ("sharding.shards='4'", "spec.sharding.shards: must be a whole number, got '4': leave the quotes out"),
        ("sharding.shards=true", "spec.sharding.shards: must be a whole number, got true"),
        ("sharding.shards=4.5", "spec.sharding.shards: must be a whole number, got 4.5"),
        ("sharding.shards=[4]", "spec.sharding.shards: must be a whole number, got a list"),
        ("items.maxFailedFraction=1.5", "spec.items.maxFailedFraction: must be at most 1, got 1.5"),
        ("items={maxFailedFraction: '1'}", "spec.items.maxFailedFraction: must be a number, got '1': leave the"),
        ("suspend='true'", "spec.suspend: must be true or false, got 'true': leave the quotes out"),
        ("sharding=8", "spec.sharding: must be a mapping, got 8"),
        ("worker.env={}", "spec.worker.env: must be a list, got a mapping"),
        ("worker.env=[1]", "spec.worker.env[0]: must be a mapping, got 1"),
        ("worker.labels={a.b/c: 1}", "spec.worker.labels[a.b/c]: must be a string, got 1: put it in quotes"),
        ("worker.image=''", "spec.worker.image: must not be empty, got ''"),
        ("engine.kato.nodes=[]", f"{KATO_PATH}.nodes: must have at least 1 entry, got 0"),
        (f"engine.kato.nodes={[{}] * 17}", f"{KATO_PATH}.nodes: must have at most 16 entries, got 17"),
        ("engine.kato.nodes[0].chunkSize=2", f"{KATO_PATH}.nodes[0].chunkSize: must be at least 3, got 2"),
        ("engine.kato.nodes[1]={}", f"{KATO_PATH}.nodes[1].name: required"),
        ("engine.kato.knowledgeBase=a b", f"{KATO_PATH}.knowledgeBase: must match ^[A-Za-z0-9]"),
        (
            f"output={{uri: x, secretRef: {{name: {'a' * 300}}}}}",
            "spec.output.secretRef.name: must have at most 253 characters, got 300",
        ),
        ("engine=null", "spec.engine: required"),
        ("engine={}", "spec.engine: give exactly one of kato, difflogic, scripts"),
        ("spec=null", "spec: required"),
        ("metadata=null", "metadata: required"),
        ("metadata.name=null", "metadata.name: required"),
        ("metadata.labels={a: 1}", "metadata.labels.a: must be a string, got 1: put it in quotes"),
        ("kind=TrainingRum", "kind: unknown 'TrainingRum'; did you mean TrainingRun?"),
        ("kind=Pod", "kind: unknown 'Pod'; known are TrainingRun, IngestRun"),
        ("kind=null", "kind: required: TrainingRun or IngestRun"),
        ("apiVersion=v1", "apiVersion: must be shardwise.dev/v1alpha1, got 'v1'"),
        ("apiVersion=null", "apiVersion: required"),
        ("sharding.Shards=1", "spec.sharding.Shards: unknown field; did you mean shards?"),
        ("block_size=1", "spec.block_size: unknown field; did you mean blockSize?"),
        ("engine.kato.nodes[0].xyz=1", f"{KATO_PATH}.nodes[0].xyz: unknown field; known are name, chunkSize, mode, "),
        ("sharding.parallelism=9", "spec.sharding.parallelism: parallelism must not exceed shards"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_line_in_plain_words(override: str, complaint: str) -> None:
    lines = complaints(KATO, override)

    assert len([line for line in lines if line.startswith(complaint)]) == 1, lines
    assert len(lines) == 1 or override.startswith("engine.kato.nodes=")
    assert "pydantic" not in lines[0]
    assert "https://errors" not in lines[0]


def test_a_resource_of_another_api_is_named_by_both_fields() -> None:
    assert complaints("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n") == [
        "apiVersion: unknown 'v1'; known are shardwise.dev/v1alpha1",
        "kind: unknown 'Pod'; known are TrainingRun, IngestRun",
    ]


def test_a_rule_that_needs_an_absent_part_is_not_told_twice() -> None:
    assert complaints(KATO, "engine.kato.transport=Rest") == [
        f"{KATO_PATH}.server: transport Rest needs a server, as server: {{url: 'http://127.0.0.1:8000'}}"
    ]


def test_a_password_is_never_repeated() -> None:
    (line,) = complaints(KATO, "engine.kato.store.uri=mongdb://user:s3cret@host/")

    assert line.endswith("got 'mongdb://***@host/'")


def test_a_password_in_a_valid_uri_is_refused_without_repeating_it() -> None:
    (line,) = complaints(KATO, "engine.kato.store.uri=mongodb://user:s3cret@host/")

    assert line.startswith(f"{KATO_PATH}.store.uri: a password does not belong in a manifest")
    assert "s3cret" not in line


def test_a_long_value_is_cut() -> None:
    (line,) = complaints(KATO, f"sharding.strategy={'x' * 500}")

    assert len(line) < 200
