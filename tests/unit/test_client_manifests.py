"""What `submit` and `render` make of a manifest, without any cluster."""

from __future__ import annotations

from typing import Any

import yaml

from shardwise_api.manifest import load_manifest, parse_manifest
from shardwise_api.runs import Run
from shardwise_api.wire import RunDocument, Step
from shardwise_cli.cluster.cluster_checks import relative_paths, warnings
from shardwise_cli.commands.render import actions, documents
from shardwise_cli.commands.submit import to_send
from shardwise_operator.children import ChildSettings
from shardwise_operator.core.policies.base import UNKNOWN_FINGERPRINT
from tests.support import manifests
from tests.support.client import INGEST, PORTABLE

SETTINGS = ChildSettings(worker_image="worker:1")


def _run(text: str = PORTABLE, *changes: str) -> Run:
    return parse_manifest(manifests.changed(text, *changes), name="test")


def _children(run: Run, *steps: Step) -> list[dict[str, Any]]:
    run.metadata.uid = "1234"
    return [yaml.safe_load(text) for text in documents(run, settings=SETTINGS, steps=list(steps or Step))]


def test_what_is_sent_is_what_the_manifest_says_and_no_default() -> None:
    document = yaml.safe_load(PORTABLE)

    assert to_send(_run()) == document


def test_what_a_cluster_has_added_to_a_manifest_is_not_sent_back() -> None:
    server = (
        "metadata.uid=u-1",
        "metadata.resourceVersion='7'",
        "metadata.managedFields=[{a: 1}]",
        "metadata.generation=2",
    )

    assert to_send(_run(PORTABLE, *server, "metadata.labels={a: b}"))["metadata"] == {
        "name": "words",
        "labels": {"a": "b"},
    }


def test_paths_of_a_laptop_are_found_in_every_field() -> None:
    changes = (
        "engine.kato.store.uri=sqlite:///patterns.db",
        "engine.kato.tokenizer={file: t.json}",
        "engine.kato.dataset.files.uris=[/data/a, b.txt, 'file://c.txt']",
        "output.uri=out",
    )

    assert [problem.path for problem in relative_paths(_run(PORTABLE, *changes))] == [
        "spec.output.uri",
        "spec.engine.kato.tokenizer.file",
        "spec.engine.kato.store.uri",
        "spec.engine.kato.dataset.files.uris[1]",
        "spec.engine.kato.dataset.files.uris[2]",
    ]
    model = "embedding={backend: sentence-transformers, model: ./model}"
    assert [problem.path for problem in relative_paths(_run(manifests.INGEST, model))] == [
        "spec.source.files.uris[0]",
        "spec.store.uri",
        "spec.embedding.model",
    ]


def test_absolute_paths_uris_and_hub_names_are_a_clusters_too() -> None:
    hub = "engine.kato.dataset={hub: {path: org/name}}"

    assert relative_paths(_run()) == relative_paths(_run(PORTABLE, hub)) == relative_paths(_run(INGEST)) == []
    assert relative_paths(_run(PORTABLE, "engine.kato.store.uri=sqlite:////data/p.db")) == []
    assert relative_paths(_run(INGEST, "embedding={backend: sentence-transformers, model: org/name}")) == []


def test_folders_without_a_volume_and_localhost_are_warned_of() -> None:
    assert warnings(_run()) == []
    unmounted = [str(problem) for problem in warnings(_run(PORTABLE, "output.uri=file:///elsewhere"))]
    assert unmounted == [
        "spec.output.uri: 'file:///elsewhere' is on no volume that the worker mounts (worker.volumeMounts): a pod's "
        "own files are read-only"
    ]
    rest = _run(manifests.REST)
    assert [problem.path for problem in warnings(rest)] == ["spec.engine.kato.server.url"]
    ingestion = _run(
        INGEST,
        "store.uri='postgresql://localhost/chunks'",
        "tmd={backend: ollama, url: 'http://127.0.0.1:11434', model: m}",
        "embedding={backend: sentence-transformers, model: /model}",
        "worker={volumeMounts: [{name: data, mountPath: /data}]}",
    )
    assert [problem.path for problem in warnings(ingestion)] == [
        "spec.embedding.model",
        "spec.tmd.url",
        "spec.store.uri",
    ]


def test_render_shows_each_child_once_in_the_order_of_the_steps() -> None:
    made = [(child["kind"], child["metadata"]["name"]) for child in _children(_run())]

    assert made == [
        ("ServiceAccount", "words"),
        ("NetworkPolicy", "words"),
        ("ConfigMap", "words-prepare"),
        ("Job", "words-prepare"),
        ("ConfigMap", "words"),
        ("Job", "words"),
        ("ConfigMap", "words-finalize"),
        ("Job", "words-finalize"),
    ]


def test_render_of_one_step_has_all_that_this_step_needs() -> None:
    made = {child["kind"]: child for child in _children(_run(), Step.WORK)}

    assert set(made) == {"ServiceAccount", "NetworkPolicy", "ConfigMap", "Job"}
    assert (made["Job"]["spec"]["completions"], made["Job"]["spec"]["parallelism"]) == (8, 2)
    assert made["Job"]["spec"]["template"]["spec"]["containers"][0]["image"] == "worker:1"


def test_render_marks_what_only_a_run_can_know() -> None:
    prepare, work, finalize = actions(_run(PORTABLE, "suspend=true"))

    assert prepare.document.prepared is None
    assert work.document.prepared is not None
    assert work.document.prepared.input_fingerprint == UNKNOWN_FINGERPRINT
    assert finalize.document.worked is not None
    (document,) = (child for child in _children(_run(), Step.WORK) if child["kind"] == "ConfigMap")
    assert RunDocument.model_validate_json(document["data"]["run.json"]).prepared == work.document.prepared


def test_the_portable_manifest_of_these_tests_is_valid(tmp_path: Any) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(PORTABLE)

    assert load_manifest(path).metadata.name == "words"
