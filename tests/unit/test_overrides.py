"""`--set` changes one field, or says why it can't."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.manifests import KATO, complaints, kato, parse


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("sharding.shards=4", "spec.sharding.shards", 4),
        ("spec.sharding.shards=4", "spec.sharding.shards", 4),
        ("metadata.name=x", "metadata.name", "x"),
        ("engine.kato.nodes[0].chunkSize=7", "spec.engine.kato.nodes.0.chunkSize", 7),
        ("engine.kato.nodes.0.chunkSize=7", "spec.engine.kato.nodes.0.chunkSize", 7),
        ("engine.kato.nodes[2]={name: node2}", "spec.engine.kato.nodes.2.name", "node2"),
        ("suspend=true", "spec.suspend", True),
        ("output.uri=s3://b/p?x=1", "spec.output.uri", "s3://b/p?x=1"),
        ("items.maxFailedFraction=1", "spec.items.maxFailedFraction", 1.0),
        ("retry={perShard: 0}", "spec.retry.perShard", 0),
        ("retry.nonRetriableExitCodes[0]=3", "spec.retry.nonRetriableExitCodes", [3]),
        ("worker.env[0].name=A", "spec.worker.env.0.name", "A"),
        (r"worker.labels.kueue\.x-k8s\.io/queue-name=q", "spec.worker.labels", {"kueue.x-k8s.io/queue-name": "q"}),
        ("metadata.namespace='1'", "metadata.namespace", "1"),
    ],
)
def test_an_override_sets_one_field(override: str, path: str, value: Any) -> None:
    here: Any = parse(KATO, override).model_dump(mode="json", by_alias=True)
    for part in path.split("."):
        here = here[int(part)] if isinstance(here, list) else here[part]

    assert here == value


@pytest.mark.parametrize("override", ["sharding.parallelism=null", "sharding.parallelism=", "sharding.parallelism=~"])
def test_an_empty_override_takes_a_field_away(override: str) -> None:
    assert parse(KATO, override).spec.sharding.parallelism is None


def test_overrides_apply_in_order() -> None:
    assert parse(KATO, "sharding.shards=3", "sharding.shards=4").spec.sharding.shards == 4


def test_an_override_of_one_alias_leaves_the_other() -> None:
    text = KATO.replace("- {name: node0, chunkSize: 6}\n      - {name: node1}", "- &n {name: node0}\n      - *n")
    engine = kato(text, "engine.kato.nodes[1].name=node1")

    assert [node.name for node in engine.nodes] == ["node0", "node1"]


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("shards", "write path=value, as sharding.shards=8"),
        ("=1", "'' is not a path, as sharding.shards or engine.kato.nodes[0].chunkSize"),
        ("sharding..shards=1", "'sharding..shards' is not a path"),
        ("sharding.=1", "'sharding.' is not a path"),
        ("[0]=1", "'[0]' is not a path"),
        ("a[x]=1", "'a[x]' is not a path"),
        ("a.[0]=1", "'a.[0]' is not a path"),
        ("a[0]b=1", "'a[0]b' is not a path"),
        ("sharding.shards=[", "value, line 1, column 2: not valid YAML"),
        ("retry={perShard: 1, perShard: 2}", "value, line 1, column 15: duplicate key 'perShard'"),
        ("engine.kato.nodes[5].name=a", "spec.engine.kato.nodes has 2 entries, there is no [5]"),
        ("engine.kato.nodes.first=a", "spec.engine.kato.nodes is a list: give an index, as spec.engine.kato.nodes[0]"),
        ("engine.kato[0]=a", "spec.engine.kato is not a list"),
        ("metadata.name.first=a", "metadata.name is 'words', which has no fields"),
    ],
)
def test_an_override_that_cannot_be_applied_says_why(override: str, complaint: str) -> None:
    assert complaints(KATO, override)[0].startswith(f"--set {override.partition('=')[0]}: {complaint}")
