"""Kueue itself beside the operator: runs wait, are preempted, paused and resized in its queues, and nobody fights.

The scenarios are begun side by side, each in a namespace with a queue of its own: most of their time is waiting.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import pytest

from shardwise_api.scripts import PodOverride
from tests.cluster import kueue as kueue_cluster
from tests.e2e.conftest import manage
from tests.e2e.installed import Installed
from tests.support.expected import digest_of
from tests.support.kube import Cluster, eventually
from tests.support.queues import (
    HIGH,
    LOW,
    PRIORITY,
    QUEUE,
    Queue,
    Queued,
    cluster_objects,
    flavor_object,
    reader_of_runs,
)
from tests.support.trainings import alone
from tests.support.workspace import DATA, workspace

pytestmark = [pytest.mark.e2e, pytest.mark.queues, pytest.mark.timeout(3600)]


AT_ONCE = 4
SMALL = {"preset": "GameOfLifeSmall", "steps": 300, "seed": 1}
LONG = {"preset": "GameOfLife", "steps": 2500, "seed": 1}
SLEEPER = "import time\nprint('hello')\ntime.sleep(2)\n"

Scenario = Callable[[Queue], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(tell: Scenario) -> Scenario:
    """Have a scenario begun with the others, and be a test."""
    SCENARIOS[tell.__name__] = tell
    return tell


@cache
def digest(samples: int) -> str:
    """Return what one process makes of the corpus."""
    return digest_of(samples)


@scenario
def a_run_waits_for_quota_and_may_be_deleted_before_it_comes(queue: Queue) -> None:
    with queue.taken():
        first = queue.run(queue.kato("first"))
        second = queue.run(queue.kato("second"))
        first.waits("queue q", "insufficient unused quota for cpu")
        second.waits("insufficient")
        second.delete()
        queue.until(lambda: not queue.jobs("second") and not queue.workloads("second"), what="second is gone")
        assert not first.pods
    assert first.complete() == digest(100)


@scenario
def the_queue_and_priority_of_the_run_itself_are_heeded(queue: Queue) -> None:
    with queue.taken():
        manifest = queue.kato("own", labels={}, ttlSecondsAfterFinished=10)
        manifest["metadata"]["labels"] = {QUEUE: "nosuch"}
        run = queue.run(manifest)
        run.waits("queue nosuch", "LocalQueue nosuch doesn't exist")
        run.run.cluster.kubectl("label", "trun", "own", "--overwrite", f"{QUEUE}=q", f"{PRIORITY}={HIGH}")
        queue.until(
            lambda: [one["spec"].get("priority") for one in queue.workloads("own")] == [1000], what="a high priority"
        )
        # Of the lowest priority is who has it now.
        assert run.complete() == digest(100)
        queue.until(lambda: not queue.jobs("own") and not queue.workloads("own"), what="nothing left after its TTL")


@scenario
def a_preempted_run_goes_on_where_it_was(queue: Queue) -> None:
    run = queue.run(queue.kato("preempted", samples=400, slow=True, labels={QUEUE: "q", PRIORITY: LOW}))
    run.works(items=20)
    with queue.taken(name="urgent", priority=HIGH):
        run.waits()
        queue.until(lambda: not run.pods, what="its pods are gone")
    assert run.complete() == digest(400)


@scenario
def preempted_ranks_train_on(queue: Queue) -> None:
    run = queue.run(queue.training("ranks", ranks=2, difflogic=LONG, labels={QUEUE: "q", PRIORITY: LOW}))
    run.works()
    with queue.taken(pods=1, name="urgent", priority=HIGH):
        run.waits()
    assert run.complete() == alone(LONG)


@scenario
def a_deactivated_run_waits_and_a_paused_one_gives_its_quota_back(queue: Queue) -> None:
    run = queue.run(queue.kato("paused", samples=400, slow=True))
    run.works(items=20)
    queue.set_active("paused", active=False)
    run.waits("deactivated")
    queue.set_active("paused", active=True)
    run.works(items=20)
    run.run.patch({"suspend": True})
    run.waits(reason="SuspendRequested")
    # Whose turn it is has the whole quota; the paused run stays where it is.
    with queue.taken():
        # Told to end, they finish their block first.
        queue.until(lambda: not run.pods, what="its pods are gone")
        before = run.run.status.items.done
    run.waits(reason="SuspendRequested")
    assert run.run.status.items.done == before
    run.run.patch({"suspend": False})
    assert run.complete() == digest(400)


@scenario
def a_run_that_is_paused_while_it_waits_does_not_begin_when_quota_comes(queue: Queue) -> None:
    with queue.taken():
        run = queue.run(queue.kato("waiting"))
        run.waits("insufficient")
        run.run.patch({"suspend": True})
        run.waits(reason="SuspendRequested")
    with queue.taken(name="next"):
        run.waits(reason="SuspendRequested")
        assert not run.pods
    run.is_quiet()
    run.run.patch({"suspend": False})
    assert run.complete() == digest(100)


@scenario
def a_run_too_big_for_its_quota_says_so_and_may_be_made_smaller(queue: Queue) -> None:
    run = queue.run(queue.kato("big", sharding={"parallelism": 4}))
    run.waits("queue q")
    run.run.patch({"sharding": {"parallelism": 2}})
    run.works()
    run.run.patch({"sharding": {"parallelism": 1}})
    assert run.complete() == digest(100)


@scenario
def a_part_of_the_quota_is_enough_where_annotations_say_so(queue: Queue) -> None:
    annotations = {"kueue.x-k8s.io/job-min-parallelism": "1"}
    run = queue.run(queue.kato("part", sharding={"parallelism": 4}, worker={"annotations": annotations}))
    assert run.complete() == digest(100)
    assert queue.job("part")["spec"]["parallelism"] == 2


def have(run: Queued, ranks: int) -> bool:
    """Say whether a training has this many pods."""
    return len(run.pods) == ranks


@scenario
def ranks_change_in_number_while_they_wait_and_while_they_train(queue: Queue) -> None:
    queue.set_quota("100m")
    run = queue.run(queue.training("few", ranks=2, difflogic=SMALL))
    run.waits("queue q")
    run.run.patch({"sharding": {"shards": 1}})
    assert run.complete() == alone(SMALL)
    queue.set_quota("200m")
    run = queue.run(queue.training("elastic", ranks=2, difflogic=LONG))
    run.works()
    for ranks in (1, 2):
        run.run.patch({"sharding": {"shards": ranks}})
        queue.until(partial(have, run, ranks), what=f"{ranks} ranks")
        run.works()
    assert run.complete() == alone(LONG)


@scenario
def scripts_with_pods_of_their_own_are_queued_each(queue: Queue) -> None:
    tree = queue.workspace.folder / "tree"
    tree.mkdir()
    for name in ("a", "b", "c"):
        (tree / f"train_{name}.py").write_text(SLEEPER)
    manifest = queue.kato("suite")
    del manifest["spec"]["sharding"], manifest["spec"]["blockSize"]
    overrides = [PodOverride(ids=["train_b"], resources={"requests": {"cpu": "150m"}})]
    manifest["spec"]["engine"] = {
        "scripts": {
            "source": f"{DATA}/tree",
            "maxWorkers": 3,
            "podOverrides": [one.model_dump(by_alias=True, exclude_none=True) for one in overrides],
        }
    }
    run = queue.run(manifest)
    assert run.complete().startswith("sha256:")
    assert len(queue.workloads("suite")) >= 2


@scenario
def a_run_that_fails_gives_its_quota_back(queue: Queue) -> None:
    tree = queue.workspace.folder / "bad"
    tree.mkdir()
    (tree / "train_x.py").write_text("raise SystemExit(3)\n")
    manifest = queue.kato("bad")
    del manifest["spec"]["sharding"], manifest["spec"]["blockSize"]
    manifest["spec"]["engine"] = {"scripts": {"source": f"{DATA}/bad", "maxWorkers": 1, "retries": 0}}
    run = queue.run(manifest)
    assert run.run.finish().suite is not None
    with queue.taken():
        pass


@scenario
def a_namespace_whose_queue_is_the_default_queues_every_step(queue: Queue) -> None:
    queue.add_local("default")
    with queue.taken():
        run = queue.run(queue.kato("unlabelled", labels={}))
        run.waits("queue default")
        run.is_quiet()
    assert run.complete() == digest(100)


@scenario
def nodes_of_a_flavor_reach_the_pods_and_contradictions_are_told(queue: Queue) -> None:
    flavor = f"second-{queue.name}"
    queue.workspace.cluster.apply(flavor_object(flavor, labels={"kubernetes.io/hostname": "node1"}))
    queue.set_quota("200m", flavor=flavor)
    other = queue.run(queue.kato("other-node", worker={"nodeSelector": {"kubernetes.io/hostname": "node0"}}))
    other.waits("doesn't match node affinity")
    other.delete()
    run = queue.run(queue.kato("node"))
    assert run.complete() == digest(100)
    assert queue.job("node")["spec"]["template"]["spec"]["nodeSelector"]["kubernetes.io/hostname"] == "node1"


@scenario
def annotations_of_a_topology_reach_the_queue(queue: Queue) -> None:
    annotations = {"kueue.x-k8s.io/podset-preferred-topology": "kubernetes.io/hostname"}
    run = queue.run(queue.kato("topology", worker={"annotations": annotations}))
    # No flavor here has a topology, and that is what Kueue says.
    run.waits("opology")


@dataclass(kw_only=True)
class Begun:
    """The scenarios that were begun, by name."""

    futures: dict[str, Future[None]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def corner(cluster: Cluster, shardwise: Installed) -> Callable[[ExitStack, str], Queue]:
    """Make namespaces with a queue `q` and a quota for two workers."""
    manage("kueue", "--deploy")
    cluster.apply(*cluster_objects())

    def make(stack: ExitStack, name: str) -> Queue:
        root = cluster.kubeconfig.parents[1] / "data"
        made = stack.enter_context(
            workspace(cluster=cluster, name=name, root=root, mongo=shardwise.mongo, kato=shardwise.kato)
        )
        queue = Queue(workspace=made)
        queue.set_quota("200m")
        stack.callback(cluster.kubectl, "delete", "clusterqueue", queue.name, "--wait=false")
        queue.add_local("q")
        cluster.kubectl("label", "namespace", made.namespace, f"{kueue_cluster.LABEL}=yes")
        return queue

    return make


@pytest.fixture(scope="module")
def begun(corner: Callable[[ExitStack, str], Queue], request: pytest.FixtureRequest) -> Iterator[Begun]:
    """Begin all scenarios that are asked for, a few at once."""
    wanted = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}

    def tell(name: str) -> None:
        with ExitStack() as stack:
            SCENARIOS[name](corner(stack, "queue"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = Begun(futures={name: pool.submit(tell, name) for name in SCENARIOS if name in wanted})
        try:
            yield begun
        finally:
            for future in begun.futures.values():
                future.cancel()


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_a_queue(begun: Begun, name: str) -> None:
    begun.futures[name].result()


@contextmanager
def configured(cluster: Cluster, **changes: Any) -> Iterator[None]:
    """Have Kueue run with another configuration meanwhile."""
    kueue = Cluster(kubeconfig=cluster.kubeconfig, own=cluster.own, namespace=kueue_cluster.NAMESPACE)

    def restart(text: str) -> None:
        patch = json.dumps({"data": {kueue_cluster.CONFIGURATION_KEY: text}})
        kueue.kubectl("patch", "configmap", kueue_cluster.CONFIGURATION, "--type=merge", f"--patch={patch}")
        kueue.kubectl("rollout", "restart", f"deployment/{kueue_cluster.DEPLOYMENT}")
        kueue.kubectl("rollout", "status", f"deployment/{kueue_cluster.DEPLOYMENT}", "--timeout=90s")

    before = kueue.get("configmap", kueue_cluster.CONFIGURATION)["data"][kueue_cluster.CONFIGURATION_KEY]
    try:
        restart(kueue_cluster.configured(before, changes))
        yield
    finally:
        restart(before)


def test_a_kueue_that_takes_jobs_without_a_queue_is_not_fought(
    begun: Begun, cluster: Cluster, corner: Callable[[ExitStack, str], Queue]
) -> None:
    for future in begun.futures.values():
        future.exception()
    with ExitStack() as stack:
        queue = corner(stack, "manage-all")
        selector = {"matchLabels": {"kubernetes.io/metadata.name": queue.name}}
        # One that also gives up on pods that don't come.
        patience = {"timeout": "15s", "requeuingStrategy": {"backoffLimitCount": 1, "backoffBaseSeconds": 5}}
        changes = {"manageJobsWithoutQueueName": True, "managedJobsNamespaceSelector": selector}
        stack.enter_context(configured(cluster, waitForPodsReady=patience, **changes))
        run = queue.run(queue.kato("all", labels={}))
        nowhere = queue.training("nowhere", ranks=2, difflogic=SMALL, nodeSelector={"no": "such"})
        never = queue.run(nowhere)
        run.waits(QUEUE)
        run.is_quiet()
        never.waits("deactivated")
        never.is_quiet()
        never.delete()
        run.run.cluster.kubectl("label", "trun", "all", f"{QUEUE}=q")
        assert run.complete() == digest(100)


def test_a_kueue_that_knows_runs_as_a_framework_queues_their_jobs_all_the_same(
    begun: Begun, cluster: Cluster, corner: Callable[[ExitStack, str], Queue]
) -> None:
    for future in begun.futures.values():
        future.exception()
    with ExitStack() as stack:
        queue = corner(stack, "external")
        cluster.apply(*reader_of_runs(kueue_cluster.DEPLOYMENT, namespace=kueue_cluster.NAMESPACE))
        kinds = {"frameworks": ["batch/job"], "externalFrameworks": ["TrainingRun.v1alpha1.shardwise.dev"]}
        stack.enter_context(configured(cluster, integrations=kinds))
        run = queue.run(queue.kato("mine"))
        assert run.complete() == digest(100)
        # The label is the Job's: nobody is there who would queue the run as a whole.
        assert [workload["spec"]["queueName"] for workload in queue.workloads("mine")] == ["q"]
        run.is_quiet()


def test_a_kueue_that_is_away_is_waited_for(
    begun: Begun, cluster: Cluster, corner: Callable[[ExitStack, str], Queue]
) -> None:
    for future in begun.futures.values():
        future.exception()
    away = Cluster(kubeconfig=cluster.kubeconfig, own=cluster.own, namespace=kueue_cluster.NAMESPACE)
    with ExitStack() as stack:
        queue = corner(stack, "away")
        try:
            away.kubectl("scale", f"deployment/{kueue_cluster.DEPLOYMENT}", "--replicas=0")
            eventually(lambda: not away.get("pods")["items"], seconds=60, what="Kueue is away")
            run: Queued = queue.run(queue.kato("patient"))
            eventually(lambda: run.run.events(), seconds=60, what="an Event about the refusal")
        finally:
            away.kubectl("scale", f"deployment/{kueue_cluster.DEPLOYMENT}", "--replicas=1")
            away.kubectl("rollout", "status", f"deployment/{kueue_cluster.DEPLOYMENT}", "--timeout=90s")
        assert run.complete() == digest(100)
