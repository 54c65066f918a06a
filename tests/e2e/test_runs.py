"""The promise on a real cluster: shards over two nodes come to what one process comes to."""

from __future__ import annotations

import json

import pytest
import yaml

from shardwise_api.status import ConditionType, Phase
from tests.e2e.installed import Installed
from tests.support import expected
from tests.support.expected import REPOSITORY
from tests.support.kube import eventually
from tests.support.workspace import Submitted, Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PYDOCS = 3000


def test_the_pydocs_run_over_both_nodes_has_the_digest_of_one_process(workspace: Workspace) -> None:
    run = workspace.submit("pydocs", samples=PYDOCS, blockSize=50)

    status = run.complete(seconds=500)

    assert status.result is not None
    assert status.result.digest == expected.digest_of(PYDOCS)
    assert status.result.uri == "file:///data/pydocs/summary.json"
    assert (status.items.total, status.items.done, status.items.failed) == (PYDOCS, PYDOCS, 0)
    assert status.phase is Phase.COMPLETE
    assert status.observed_generation == run.body["metadata"]["generation"]
    assert (status.shards.total, status.shards.succeeded, status.shards.completed_indexes) == (4, 4, "0-3")
    assert status.progress.percent == 100
    assert status.job_ref is not None
    assert {pod["spec"]["nodeName"] for pod in run.pods("shardwise.dev/step=work")} == {"node0", "node1"}
    assert json.loads((workspace.folder / "pydocs" / "summary.json").read_text())["digest"] == status.result.digest


def test_the_example_through_a_kato_server_has_the_digest_of_one_process(
    workspace: Workspace, shardwise: Installed
) -> None:
    """As docs/install.md tells: apply, put the text on the claim, let the run go on."""
    cluster = workspace.cluster
    text = (REPOSITORY / "examples" / "cluster-pydocs.yaml").read_text()
    text = text.replace("shardwise/worker:0.1.0.dev0", shardwise.images["worker"])
    text = text.replace("http://shardwise-kato.shardwise.svc:8000", shardwise.kato)
    with workspace.volume("pydocs"):
        cluster.apply(*yaml.safe_load_all(text))
        cluster.kubectl("wait", "--for=condition=Ready", "pod/pydocs-loader", "--timeout=120s")
        corpus = expected.CORPUS.read_text(encoding="utf-8")
        cluster.kubectl("exec", "--stdin", "pydocs-loader", "--", "tee", "/data/pydocs.jsonl", given=corpus)
        run = Submitted(cluster=cluster, name="pydocs")
        run.patch({"suspend": False})

        status = run.complete(seconds=500)

    assert status.result is not None
    assert status.result.digest == expected.digest_of(PYDOCS)
    assert (status.items.done, status.items.failed) == (PYDOCS, 0)
    assert {pod["spec"]["nodeName"] for pod in run.pods("shardwise.dev/step=work")} == {"node0", "node1"}


def test_kubectl_get_shows_how_a_run_is_doing(workspace: Workspace) -> None:
    # One shard after the other: after the first one's end most is still to do.
    run = workspace.submit("shown", samples=200, sharding={"shards": 4, "parallelism": 1})
    run.until(lambda status: status.progress.percent and not status.finished, what="progress while it works")

    header, row = workspace.cluster.kubectl("get", "trun").splitlines()
    run.complete()
    _, end = workspace.cluster.kubectl("get", "trainingruns").splitlines()

    assert header.split() == ["NAME", "PHASE", "PROGRESS", "SHARDS", "RATE", "ETA", "AGE"]
    assert row.split()[:2] == ["shown", "Running"]
    assert end.split()[1:4] == ["Complete", "100", "4"]


def test_a_run_tells_its_story_in_events_and_its_children_go_with_it(workspace: Workspace) -> None:
    run = workspace.submit("story", samples=20)
    status = run.complete()

    # Events are told beside the status, which waits for none of them.
    story = {"Accepted", "Started", "Completed"}
    eventually(lambda: story <= {event["reason"] for event in run.events()}, seconds=20, what="its story is told")
    assert status.is_true(ConditionType.ACCEPTED)

    workspace.cluster.kubectl("delete", "trun", "story", "--cascade=foreground", "--timeout=60s")
    # The run itself waits for no child; the garbage collector takes them right after it.
    eventually(lambda: not _children(workspace, "story"), seconds=60, what="its children are gone")


def _children(workspace: Workspace, name: str) -> list[str]:
    found = workspace.cluster.get("jobs,configmaps,serviceaccounts,networkpolicies,pods")["items"]
    return [item["metadata"]["name"] for item in found if item["metadata"]["name"].startswith(name)]


TRY = """
import ssl, urllib.request, urllib.error
token = open("/var/run/secrets/shardwise/token").read()
for path in ("api/v1/namespaces/{0}/pods", "api/v1/namespaces/{0}/secrets", "apis/shardwise.dev/v1alpha1/trainingruns"):
    for headers in ({{}}, {{"Authorization": f"Bearer {{token}}"}}):
        request = urllib.request.Request("https://kubernetes.default/" + path, headers=headers)
        try:
            urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=10)
            print("answered")
        except urllib.error.HTTPError as error:
            print(error.code)
"""


def test_workers_can_ask_the_api_server_for_nothing(workspace: Workspace) -> None:
    run = workspace.submit("rightless", samples=PYDOCS)
    run.until(lambda status: status.items.done > 0, what="it works")
    pod = next(p for p in run.pods("shardwise.dev/step=work") if p["status"]["phase"] == "Running")

    mounts = {mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    tried = TRY.format(workspace.namespace)
    codes = workspace.cluster.kubectl("exec", pod["metadata"]["name"], "--", "python", "-c", tried).split()

    # Without a login nothing is allowed, and the token is for the operator's ears only.
    assert codes == ["403", "401"] * 3
    assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounts
    account = f"system:serviceaccount:{workspace.namespace}:rightless"
    allowed = workspace.cluster.kubectl("auth", "can-i", "--list", f"--as={account}", "--no-headers")
    assert not [word for word in ("pods", "secrets", "shardwise.dev") if word in allowed]
