"""The definitions, judged by Kubernetes' own code; and manifests, which that code and the local runner judge alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shardwise_api.common import MUTABLE
from shardwise_api.manifest import InvalidManifest, parse_manifest
from shardwise_api.runs import KINDS, IngestRunSpec, Run, TrainingRunSpec
from tests.integration.crd_cases import BY_HAND, SPELLINGS, Case, from_schema
from tests.support import crdcheck, manifests

DEFINITIONS = [crdcheck.REPOSITORY / "crds" / f"shardwise.dev_{model.plural}.yaml" for model in KINDS.values()]
CASES = [*BY_HAND, *SPELLINGS, *from_schema()]


@pytest.fixture(scope="module")
def program() -> Path:
    return crdcheck.build()


@pytest.fixture(scope="module")
def verdicts(program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the API server says of each case, by its name."""
    folder = tmp_path_factory.mktemp("cases")
    files = []
    for number, case in enumerate(CASES):
        files.append(folder / f"{number}.yaml")
        files[-1].write_text(case.text, encoding="utf-8")
    found = crdcheck.judge(program, DEFINITIONS, objects=files)["objects"]
    return {case.name: verdict for case, verdict in zip(CASES, found, strict=True)}


def judge_locally(text: str) -> tuple[Run | None, list[str]]:
    """Return the run, or the fields that the local runner blames."""
    try:
        return parse_manifest(text, name="run.yaml"), []
    except InvalidManifest as invalid:
        return None, [problem.path for problem in invalid.problems]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.name)
def test_the_api_server_accepts_the_definition_without_a_warning(program: Path, definition: Path) -> None:
    found = crdcheck.judge(program, [definition])["definitions"]

    assert found == [{**found[0], "valid": True, "errors": [], "warnings": []}]


def test_the_check_would_notice_a_rule_that_costs_too_much(program: Path, tmp_path: Path) -> None:
    definition = yaml.safe_load(DEFINITIONS[0].read_text(encoding="utf-8"))
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    uris = schema["properties"]["spec"]["properties"]["engine"]["properties"]["kato"]["properties"]["dataset"]
    uris["x-kubernetes-validations"] = [{"rule": "!has(self.files) || self.files.uris.all(u, u.matches('a*b'))"}]
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(definition), encoding="utf-8")

    found = crdcheck.judge(program, [changed])["definitions"][0]

    assert not found["valid"]
    assert "cost" in found["errors"][0]["message"]


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_local_runner_and_the_api_server_agree_on(case: Case, verdicts: dict[str, dict[str, Any]]) -> None:
    theirs = verdicts[case.name]
    run, blamed = judge_locally(case.text)

    assert (run is not None) == theirs["valid"], (blamed, theirs["unknownFields"], theirs["errors"])
    if case.valid:
        assert run is not None, blamed
    if case.blames is not None:
        assert case.blames in blamed
    if run is not None:
        assert run.spec_document() == theirs["object"]["spec"], "defaults differ"


IMMUTABLE = {
    "kato": {
        "sharding": "sharding.shards=9",
        "blockSize": "blockSize=51",
        "retry": "retry.perShard=4",
        "items": "items.maxFailedFraction=0.5",
        "output": "output.uri=s3://bucket",
        "worker": "worker.env=[{name: A}]",
        "activeDeadlineSeconds": "activeDeadlineSeconds=5",
        "startDeadlineSeconds": "startDeadlineSeconds=5",
        "managedBy": "managedBy=kueue.x-k8s.io/multikueue",
        "engine": "engine.kato.nodes[1].chunkSize=9",
    },
    "ingest": {
        "sharding": "sharding.strategy=Chunked",
        "blockSize": "blockSize=51",
        "retry": "retry.perShard=4",
        "items": "items.maxFailedFraction=0.5",
        "output": "output.uri=s3://bucket",
        "worker": "worker.resources={limits: {cpu: 1}}",
        "activeDeadlineSeconds": "activeDeadlineSeconds=5",
        "startDeadlineSeconds": "startDeadlineSeconds=5",
        "managedBy": "managedBy=kueue.x-k8s.io/multikueue",
        "source": "source.files.format=jsonl",
        "datasetSource": "datasetSource=other",
        "dedup": "dedup=content",
        "workers": "workers=11",
        "tmd": "tmd.retries=4",
        "embedding": "embedding={backend: sentence-transformers, model: m}",
        "store": "store.uri=sqlite:///other.db",
        "index": "index.kind=IVF",
    },
}
FREE = (
    "",
    "suspend=true",
    "ttlSecondsAfterFinished=60",
    "sharding.parallelism=1",
    "sharding.parallelism=null",
    "metadata.labels={a: b}",
    "retry={perShard: 3}",
)


def update(program: Path, folder: Path, *, before: str, after: str) -> dict[str, Any]:
    old, new = folder / "old.yaml", folder / "new.yaml"
    old.write_text(before, encoding="utf-8")
    new.write_text(after, encoding="utf-8")
    verdict: dict[str, Any] = crdcheck.judge(program, DEFINITIONS, objects=[new], old=old)["objects"][0]
    return verdict


@pytest.mark.parametrize(("base", "field"), [(base, field) for base, fields in IMMUTABLE.items() for field in fields])
@pytest.mark.parametrize("backwards", [False, True], ids=["changed", "changed-back"])
def test_an_immutable_field_stays(program: Path, tmp_path: Path, base: str, field: str, backwards: bool) -> None:
    texts = [manifests.ALL[base], manifests.changed(manifests.ALL[base], IMMUTABLE[base][field])]
    before, after = reversed(texts) if backwards else texts

    verdict = update(program, tmp_path, before=before, after=after)

    assert [error["field"] for error in verdict["errors"]] == [f"spec.{field}"], verdict["errors"]
    assert "another name" in verdict["errors"][0]["message"]


@pytest.mark.parametrize(("base", "spec"), [("kato", TrainingRunSpec), ("ingest", IngestRunSpec)])
def test_every_field_is_either_immutable_or_known_to_be_mutable(
    base: str, spec: type[TrainingRunSpec | IngestRunSpec]
) -> None:
    fields = {field.alias for field in spec.model_fields.values()}

    assert fields == {*IMMUTABLE[base], *MUTABLE}


@pytest.mark.parametrize("changes", FREE)
def test_a_mutable_field_may_change(program: Path, tmp_path: Path, changes: str) -> None:
    after = manifests.changed(manifests.KATO, *filter(None, [changes]))

    verdict = update(program, tmp_path, before=manifests.KATO, after=after)

    assert verdict["valid"], verdict["errors"]


def test_a_change_of_parallelism_is_still_judged_by_the_rules(program: Path, tmp_path: Path) -> None:
    after = manifests.changed(manifests.KATO, "sharding.parallelism=9")

    verdict = update(program, tmp_path, before=manifests.KATO, after=after)

    assert [error["field"] for error in verdict["errors"]] == ["spec.sharding.parallelism"]
