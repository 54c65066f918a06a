"""What is wrong is said where a person looks, with the way out, and heals by itself once it is mended."""

from __future__ import annotations

from typing import Any

import pytest

from shardwise_api.status import ConditionType, Phase
from tests.e2e.installed import Installed
from tests.support import expected
from tests.support.kube import eventually
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SAMPLES = 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engine": {}}, "exactly one of"),
        ({"sharding": {"shards": 0}}, "spec.sharding.shards"),
        ({"sharding": {"shards": 2, "parallelism": 3}}, "parallelism must not exceed shards"),
        ({"blockSize": "fifty"}, "spec.blockSize"),
        ({"shards": 3}, 'unknown field "spec.shards"'),
    ],
)
def test_the_api_server_refuses_what_a_schema_can_see(workspace: Workspace, change: dict[str, Any], said: str) -> None:
    manifest = workspace.manifest("refused")
    manifest["spec"].update(change)

    answer = workspace.cluster.try_kubectl("create", "--filename=-", given=_yaml(manifest))

    assert answer.returncode != 0
    assert said in answer.stderr


def test_a_name_too_long_for_host_names_is_refused(workspace: Workspace) -> None:
    answer = workspace.cluster.try_kubectl("create", "--filename=-", given=_yaml(workspace.manifest("a" * 51)))

    assert answer.returncode != 0
    assert "metadata.name: Too long: may not be more than 50" in answer.stderr


def test_a_run_without_output_or_with_relative_paths_is_rejected_before_anything_is_made(workspace: Workspace) -> None:
    manifest = workspace.manifest("relative")
    del manifest["spec"]["output"]
    manifest["spec"]["engine"]["kato"]["dataset"]["files"]["uris"] = ["samples.jsonl"]
    run = workspace.apply(manifest)

    message = run.refused(ConditionType.ACCEPTED, "InvalidSpec", seconds=20)

    assert "spec.output: required" in message
    assert "spec.engine.kato.dataset.files.uris[0]: 'samples.jsonl' is relative" in message
    assert run.status.phase is Phase.REJECTED
    made = workspace.cluster.get("jobs,configmaps,serviceaccounts")["items"]
    assert not [item for item in made if item["metadata"]["name"].startswith("relative")]


def test_a_missing_secret_is_named_and_the_run_goes_on_once_it_is_there(workspace: Workspace) -> None:
    manifest = workspace.manifest("secret", samples=SAMPLES)
    manifest["spec"]["engine"]["kato"]["store"] = {"secretRef": {"name": "mongo", "key": "uri"}}
    run = workspace.apply(manifest)

    assert 'secret "mongo" not found' in run.refused(ConditionType.PODS_READY, "SecretMissing")
    workspace.cluster.kubectl("create", "secret", "generic", "mongo", "--from-literal=url=wrong")
    assert "couldn't find key uri" in run.refused(ConditionType.PODS_READY, "SecretKeyMissing")
    workspace.cluster.kubectl(
        "patch", "secret", "mongo", "--type=merge", f'--patch={{"stringData": {{"uri": "{workspace.mongo}"}}}}'
    )

    status = run.complete()
    assert status.result is not None
    assert status.result.digest == expected.digest_of(SAMPLES)
    # A Secret stays where it is.
    assert workspace.mongo not in str(run.body)
    assert workspace.mongo not in str(workspace.cluster.get("jobs,configmaps")["items"])


def test_a_missing_image_is_named(workspace: Workspace) -> None:
    manifest = workspace.manifest("image", samples=SAMPLES)
    manifest["spec"]["worker"]["image"] = "shardwise.test/nowhere:1"
    run = workspace.apply(manifest)

    assert "shardwise.test/nowhere:1" in run.refused(ConditionType.PODS_READY, "ImagePullBackOff")


def test_a_quota_is_named_and_the_run_goes_on_once_it_is_lifted(workspace: Workspace) -> None:
    workspace.cluster.kubectl("create", "quota", "none", "--hard=pods=0")
    run = workspace.submit("quota", samples=SAMPLES)

    assert "exceeded quota: none" in run.refused(ConditionType.PODS_READY, "QuotaExceeded")
    workspace.cluster.kubectl("delete", "quota", "none")

    # The Job controller tries again by itself, later each time.
    assert run.complete(seconds=200).items.done == SAMPLES


def test_a_service_account_that_is_missing_is_named(workspace: Workspace) -> None:
    manifest = workspace.manifest("account", samples=SAMPLES)
    manifest["spec"]["worker"]["serviceAccountName"] = "trainer"
    run = workspace.apply(manifest)

    assert "trainer" in run.refused(ConditionType.PODS_READY, "ServiceAccountMissing")
    workspace.cluster.kubectl("create", "serviceaccount", "trainer")

    assert run.complete(seconds=200).items.done == SAMPLES


def test_a_foreign_object_of_a_childs_name_stays_as_it_is(workspace: Workspace) -> None:
    workspace.cluster.kubectl("create", "configmap", "taken-prepare", "--from-literal=mine=1")
    run = workspace.submit("taken", samples=SAMPLES)

    assert "ConfigMap taken-prepare" in run.refused(ConditionType.PODS_READY, "NameTaken")
    assert workspace.cluster.get("configmap", "taken-prepare")["data"] == {"mine": "1"}
    workspace.cluster.kubectl("delete", "configmap", "taken-prepare")

    assert run.complete().items.done == SAMPLES


def test_a_right_that_the_operator_lacks_is_named_and_the_run_goes_on_once_it_is_given(
    workspace: Workspace, shardwise: Installed
) -> None:
    role = next(
        item["metadata"]["name"]
        for item in shardwise.cluster.get("clusterroles")["items"]
        if any("jobs" in rule.get("resources", ()) for rule in item["rules"] or ())
        and item["metadata"]["labels"].get("app.kubernetes.io/name") == "shardwise"
        and "aggregate" not in str(item["metadata"]["labels"])
    )
    before = shardwise.cluster.get("clusterrole", role)["rules"]
    without = [rule for rule in before if "configmaps" not in rule["resources"]]
    _set_rules(shardwise, role, without)
    try:
        run = workspace.submit("rights", samples=SAMPLES)
        message = run.refused(ConditionType.PODS_READY, "Forbidden")
    finally:
        _set_rules(shardwise, role, before)

    assert "cannot get resource" in message
    assert run.complete().items.done == SAMPLES


def test_bad_data_fails_the_run_with_the_line_and_before_anything_is_learned(workspace: Workspace) -> None:
    (workspace.folder / "broken.jsonl").write_text('{"text": "one two three"}\n{"text": \n')
    manifest = workspace.manifest("data")
    manifest["spec"]["engine"]["kato"]["dataset"] = {"files": {"uris": ["/data/broken.jsonl"]}}
    run = workspace.apply(manifest)

    status = run.finish(seconds=90)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None
    assert "broken.jsonl" in failed.message
    assert status.shards.succeeded == 0


def test_a_run_may_tolerate_some_bad_items_and_counts_them(workspace: Workspace) -> None:
    lines = ['{"text": "one two three four five six"}'] * 9 + ['{"text": 7}']
    (workspace.folder / "mixed.jsonl").write_text("\n".join(lines))
    manifest = workspace.manifest("tolerant", items={"maxFailedFraction": 0.2})
    manifest["spec"]["engine"]["kato"]["dataset"] = {"files": {"uris": ["/data/mixed.jsonl"]}}
    run = workspace.apply(manifest)

    status = run.complete()

    assert (status.items.done, status.items.failed) == (9, 1)


def test_a_file_that_no_pod_sees_fails_the_run_with_its_field(workspace: Workspace) -> None:
    manifest = workspace.manifest("unseen")
    manifest["spec"]["engine"]["kato"]["dataset"] = {"files": {"uris": ["/elsewhere/x.jsonl"]}}
    run = workspace.apply(manifest)

    status = run.finish(seconds=90)

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None
    assert "/elsewhere/x.jsonl" in failed.message
    eventually(lambda: "Failed" in {event["reason"] for event in run.events()}, seconds=20)


def _set_rules(shardwise: Installed, role: str, rules: list[dict[str, Any]]) -> None:
    import json

    patch = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
    shardwise.cluster.kubectl("patch", "clusterrole", role, "--type=json", f"--patch={patch}")


def _yaml(manifest: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(manifest)
