"""A run may go on only as what it was begun: everything that gives a block its meaning is compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.identity import RunIdentity
from shardwise.engine.sources import Survey
from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import TrainingRun, TrainingRunSpec
from shardwise_jobs.engines.kato.engine import identity_of, knowledge_base_config
from tests.support import manifests

SURVEY = Survey(fingerprint="sha256:abc", items_total=100)


def _spec(*changes: str) -> TrainingRunSpec:
    run = parse_manifest(manifests.changed(manifests.KATO, *changes), name="test")
    assert isinstance(run, TrainingRun)
    return run.spec


def _identity(*changes: str, survey: Survey = SURVEY) -> RunIdentity:
    spec = _spec(*changes)
    assert spec.engine.kato is not None
    return identity_of(spec=spec, config=knowledge_base_config(spec.engine.kato), survey=survey)


def test_the_same_manifest_and_input_are_the_same_run() -> None:
    _identity().require_same(_identity().to_json())


@pytest.mark.parametrize(
    "change",
    [
        "sharding.parallelism=4",
        "retry.perShard=9",
        "items.maxFailedFraction=0.5",
        "suspend=true",
        "engine.kato.dataset.files.uris=[moved.txt]",
    ],
)
def test_what_gives_no_block_another_meaning_may_change(change: str) -> None:
    _identity(change).require_same(_identity().to_json())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("sharding.shards=9", "spec.sharding.shards: 8 then, 9 now"),
        ("sharding.strategy=Chunked", "spec.sharding.strategy: 'RoundRobin' then, 'Chunked' now"),
        ("blockSize=7", "spec.blockSize: 50 then, 7 now"),
        ("engine.kato.knowledgeBase=other", "spec.engine.kato.knowledgeBase: 'kb' then, 'other' now"),
        ("engine.kato.nodes[1].chunkSize=4", "spec.engine.kato.nodes: "),
        ("engine.kato.nodes[0].mode=Sentences", "spec.engine.kato.dataset.structure: "),
        ("engine.kato.dataset.structure=Book", "spec.engine.kato.dataset.structure: "),
        (
            "engine.kato.tokenizer.builtin=bytes",
            "spec.engine.kato.tokenizer: 'builtin:words' then, 'builtin:bytes' now",
        ),
    ],
)
def test_other_settings_are_refused_by_name_with_both_values(change: str, told: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        _identity(change).require_same(_identity().to_json())
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("survey", "told"),
    [
        (replace(SURVEY, fingerprint="sha256:def"), "spec.engine.kato.dataset: sha256:abc… then, sha256:def… now"),
        (replace(SURVEY, items_total=101), "items: 100 then, 101 now"),
        (replace(SURVEY, items_total=None), "items: 100 then, None now"),
    ],
)
def test_another_input_is_refused(survey: Survey, told: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        _identity(survey=survey).require_same(_identity().to_json())
    assert told in str(refused.value)


def test_every_difference_is_told_at_once() -> None:
    with pytest.raises(BadConfiguration) as refused:
        _identity("blockSize=7", "sharding.shards=9").require_same(_identity().to_json())
    assert "spec.blockSize" in str(refused.value)
    assert "spec.sharding.shards" in str(refused.value)
