"""What a run's children must have, whatever the run: restriction, ownership, labels, secrets by reference, retries."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
import yaml

from shardwise_api.common import MAX_NAME_LENGTH
from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import Run
from shardwise_api.wire import Step
from shardwise_operator.children import ChildSettings, children_of
from shardwise_operator.core.actions import EnsureJob
from shardwise_operator.core.plan import run_document
from tests.support import manifests
from tests.support.fake_cluster import ON_A_CLUSTER
from tests.support.plans import PREPARED

SETTINGS = ChildSettings(
    worker_image="registry.example/worker:1", image_pull_secrets=("pull",), progress_url="http://progress.example/v1"
)
REST_ON_A_CLUSTER = ("engine.kato.server={url: 'http://kato.example'}",)
RANKS = ('output={uri: "s3://b/p"}', "sharding.shards=3")
SEEDS = (*RANKS, "engine.difflogic.sweep={seeds: [7, 8, 9]}")
SCRIPTS = ('output={uri: "file:///data/out"}', "engine.scripts.retries=2", "engine.scripts.graceSeconds=40")
MAX_LABEL = 63
VOLUME_TYPES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
    "secret"}  # fmt: skip
"""What the restricted standard lets a pod mount."""


def run_of(*changes: str, text: str = manifests.KATO, name: str = "words") -> Run:
    run = parse_manifest(manifests.changed(text, *changes), name="test")
    run.metadata.name, run.metadata.namespace, run.metadata.uid = name, "team", "1234"
    return run


def children(run: Run, step: Step = Step.WORK, *, settings: ChildSettings = SETTINGS) -> dict[str, dict[str, Any]]:
    """Return the children of a step by kind."""
    count = run.spec.sharding.shards if step is Step.WORK else 1
    action = EnsureJob(step=step, completions=count, parallelism=count, document=run_document(run, prepared=PREPARED))
    return {child["kind"]: child for child in children_of(run=run, action=action, settings=settings)}


def job_of(run: Run, step: Step = Step.WORK, *, settings: ChildSettings = SETTINGS) -> dict[str, Any]:
    return children(run, step, settings=settings)["Job"]


def pod_of(run: Run, step: Step = Step.WORK, *, settings: ChildSettings = SETTINGS) -> dict[str, Any]:
    pod: dict[str, Any] = job_of(run, step, settings=settings)["spec"]["template"]["spec"]
    return pod


def container_of(run: Run, step: Step = Step.WORK, *, settings: ChildSettings = SETTINGS) -> dict[str, Any]:
    (container,) = pod_of(run, step, settings=settings)["containers"]
    found: dict[str, Any] = container
    return found


def environment(run: Run, step: Step = Step.WORK, *, settings: ChildSettings = SETTINGS) -> dict[str, Any]:
    entries = container_of(run, step, settings=settings)["env"]
    assert len({entry["name"] for entry in entries}) == len(entries), "an API server takes no name twice"
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


RUNS = {
    "kato": run_of(*ON_A_CLUSTER),
    "rest": run_of(*REST_ON_A_CLUSTER, text=manifests.REST),
    "ingest": run_of('output={uri: "s3://b/p"}', text=manifests.INGEST),
    "gang": run_of(*RANKS, text=manifests.DIFFLOGIC),
    "sweep": run_of(*SEEDS, text=manifests.DIFFLOGIC),
    "suite": run_of(*SCRIPTS, text=manifests.SCRIPTS),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("step", Step)
class TestEveryChild:
    def test_goes_with_its_run(self, run: Run, step: Step) -> None:
        for child in children(run, step).values():
            (owner,) = child["metadata"]["ownerReferences"]
            assert owner == {
                "apiVersion": "shardwise.dev/v1alpha1", "kind": run.kind, "name": "words", "uid": "1234",
                "controller": True, "blockOwnerDeletion": False,
            }  # fmt: skip
            assert child["metadata"]["namespace"] == "team"

    def test_has_the_labels_that_watches_and_people_select_by(self, run: Run, step: Step) -> None:
        found = children(run, step)
        shared = {
            "app.kubernetes.io/managed-by": "shardwise", "app.kubernetes.io/part-of": "shardwise",
            "shardwise.dev/run": "words", "shardwise.dev/run-uid": "1234", "shardwise.dev/kind": run.kind,
        }  # fmt: skip
        for child in found.values():
            assert child["metadata"]["labels"].items() >= shared.items()
        pod_labels = found["Job"]["spec"]["template"]["metadata"]["labels"]
        for labels in (pod_labels, found["Job"]["metadata"]["labels"], found["ConfigMap"]["metadata"]["labels"]):
            assert labels.items() >= {**shared, "shardwise.dev/step": step}.items()

    def test_is_a_plain_document(self, run: Run, step: Step) -> None:
        found = children(run, step)
        assert yaml.safe_load(yaml.safe_dump(found)) == found
        assert json.loads(json.dumps(found)) == found

    def test_is_the_same_when_it_is_made_again(self, run: Run, step: Step) -> None:
        assert children(run, step) == children(run, step)

    def test_rests_on_what_is_made_before_it(self, run: Run, step: Step) -> None:
        found = children(run, step)
        meeting = ["Service"] if run is RUNS["gang"] and step is Step.WORK else []
        assert list(found) == ["ServiceAccount", "NetworkPolicy", *meeting, "ConfigMap", "Job"]
        pod = found["Job"]["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"]
        (mounted,) = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
        assert mounted == found["ConfigMap"]["metadata"]["name"]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("step", Step)
class TestRestrictedPod:
    """Field by field, the restricted pod security standard."""

    def test_shares_nothing_with_its_host(self, run: Run, step: Step) -> None:
        pod, container = pod_of(run, step), container_of(run, step)
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & set(pod)
        assert "ports" not in container
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= VOLUME_TYPES

    def test_has_no_privilege(self, run: Run, step: Step) -> None:
        context = container_of(run, step)["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in context
        assert "procMount" not in context
        assert "seLinuxOptions" not in context

    def test_runs_as_nobody_and_is_confined(self, run: Run, step: Step) -> None:
        pod, container = pod_of(run, step), container_of(run, step)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "sysctls" not in pod["securityContext"]
        assert container["securityContext"]["runAsNonRoot"] is True
        assert {"runAsUser", "seccompProfile"} & set(container["securityContext"]) == set()

    def test_writes_to_its_own_folder_only(self, run: Run, step: Step) -> None:
        container = container_of(run, step)
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert writable == ["/tmp"]

    def test_has_no_rights_at_the_api_server(self, run: Run, step: Step) -> None:
        assert pod_of(run, step)["automountServiceAccountToken"] is False
        assert children(run, step)["ServiceAccount"]["automountServiceAccountToken"] is False

    def test_has_a_token_that_is_good_for_reports_alone(self, run: Run, step: Step) -> None:
        (volume,) = [volume for volume in pod_of(run, step)["volumes"] if "projected" in volume]
        (source,) = volume["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == "shardwise-progress"
        (mount,) = [m for m in container_of(run, step)["volumeMounts"] if m["name"] == volume["name"]]
        path = f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
        assert path == "/var/run/secrets/shardwise/token"
        assert environment(run, Step.WORK)["SHARDWISE_PROGRESS_TOKEN_FILE"] == path

    def test_nobody_may_speak_to_it_but_ranks_to_each_other(self, run: Run, step: Step) -> None:
        policy = children(run, step)["NetworkPolicy"]["spec"]
        own = {"matchLabels": {"shardwise.dev/run-uid": "1234"}}
        peers = [{"from": [{"podSelector": own}]}] if run is RUNS["gang"] else []
        assert policy == {"podSelector": own, "policyTypes": ["Ingress"], "ingress": peers}

    def test_goes_where_the_administrator_lets_it_and_to_other_ranks(self, run: Run, step: Step) -> None:
        rule = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
        settings = ChildSettings(worker_image="x:1", egress=(rule,))
        policy = children(run, step, settings=settings)["NetworkPolicy"]["spec"]
        own = {"matchLabels": {"shardwise.dev/run-uid": "1234"}}
        ranks = [{"to": [{"podSelector": own}]}] if run is RUNS["gang"] else []
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert policy["egress"] == [*ranks, rule]


class TestRanks:
    """Pods of one training, which have to find each other before any of them is ready."""

    def test_have_host_names_while_they_wait_for_each_other(self) -> None:
        service = children(RUNS["gang"])["Service"]
        assert service["metadata"]["name"] == pod_of(RUNS["gang"])["subdomain"] == "words"
        assert service["spec"] == {
            "clusterIP": "None", "publishNotReadyAddresses": True,
            "selector": {"shardwise.dev/run-uid": "1234", "shardwise.dev/step": "work"},
            "ports": [{"name": "rendezvous", "port": 29400, "protocol": "TCP"}],
        }  # fmt: skip
        labels = job_of(RUNS["gang"])["spec"]["template"]["metadata"]["labels"]
        assert labels.items() >= service["spec"]["selector"].items()

    def test_meet_at_the_first_one(self) -> None:
        assert environment(RUNS["gang"])["SHARDWISE_RENDEZVOUS"] == "tcp://words-0.words.team.svc:29400"

    @pytest.mark.parametrize(("name", "step"), [("gang", Step.PREPARE), ("gang", Step.FINALIZE), ("sweep", Step.WORK)])
    def test_alone_meet(self, name: str, step: Step) -> None:
        assert "SHARDWISE_RENDEZVOUS" not in environment(RUNS[name], step)
        assert "subdomain" not in pod_of(RUNS[name], step)
        assert "Service" not in children(RUNS[name], step)

    def test_have_a_job_whose_number_of_completions_may_change(self) -> None:
        spec = job_of(RUNS["gang"])["spec"]
        assert spec["completionMode"] == "Indexed"
        assert spec["completions"] == spec["parallelism"] == 3
        assert spec["maxFailedIndexes"] == 0

    def test_have_nothing_in_their_pods_that_depends_on_their_number(self) -> None:
        # A Job's template can't be changed.
        more = run_of(*RANKS, "sharding.shards=4", text=manifests.DIFFLOGIC)
        assert job_of(more)["spec"]["template"] == job_of(RUNS["gang"])["spec"]["template"]


class TestSeeds:
    def test_that_are_not_solved_are_not_tried_again_and_fail_nothing_else(self) -> None:
        spec = job_of(RUNS["sweep"])["spec"]
        assert spec["podFailurePolicy"]["rules"][0] == {
            "action": "FailIndex", "onExitCodes": {"containerName": "worker", "operator": "In", "values": [3]},
        }  # fmt: skip
        assert spec["maxFailedIndexes"] == spec["completions"] == 3

    def test_that_are_not_solved_end_no_run_whatever_its_codes(self) -> None:
        run = run_of(*SEEDS, "retry.nonRetriableExitCodes=[2, 3]", text=manifests.DIFFLOGIC)
        rules = job_of(run)["spec"]["podFailurePolicy"]["rules"]
        assert [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"] == [[2]]

    def test_end_with_the_first_that_is_solved_unless_all_are_wanted(self) -> None:
        all_of_them = run_of(*SEEDS, "engine.difflogic.sweep.stopOnFirst=false", text=manifests.DIFFLOGIC)
        assert job_of(RUNS["sweep"])["spec"]["successPolicy"] == {"rules": [{"succeededCount": 1}]}
        assert "successPolicy" not in job_of(all_of_them)["spec"]

    @pytest.mark.parametrize("step", [Step.PREPARE, Step.FINALIZE])
    def test_are_a_matter_of_the_work_step(self, step: Step) -> None:
        spec = job_of(RUNS["sweep"], step)["spec"]
        assert "successPolicy" not in spec
        assert "FailIndex" not in [rule["action"] for rule in spec["podFailurePolicy"]["rules"]]


class TestScripts:
    def test_that_fail_end_neither_the_run_nor_each_other_whatever_their_codes(self) -> None:
        action = EnsureJob(
            step=Step.WORK, completions=7, parallelism=4, document=run_document(RUNS["suite"], prepared=PREPARED)
        )
        spec = children_of(run=RUNS["suite"], action=action, settings=SETTINGS)[-1]["spec"]
        assert "FailJob" not in [rule["action"] for rule in spec["podFailurePolicy"]["rules"]]
        assert (spec["completions"], spec["parallelism"], spec["maxFailedIndexes"]) == (7, 4, 7)
        assert spec["backoffLimitPerIndex"] == 2

    def test_that_are_not_there_are_not_tried_again(self) -> None:
        assert job_of(RUNS["suite"])["spec"]["podFailurePolicy"]["rules"][0] == {
            "action": "FailIndex", "onExitCodes": {"containerName": "worker", "operator": "In", "values": [66]},
        }  # fmt: skip

    @pytest.mark.parametrize("step", [Step.PREPARE, Step.FINALIZE])
    def test_with_bad_settings_are_not_looked_for_again(self, step: Step) -> None:
        rules = job_of(RUNS["suite"], step)["spec"]["podFailurePolicy"]["rules"]
        assert [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"] == [[2]]

    def test_have_time_to_end_and_to_be_written_down(self) -> None:
        assert pod_of(RUNS["suite"])["terminationGracePeriodSeconds"] == 60
        longer = run_of(*SCRIPTS, "worker.terminationGracePeriodSeconds=90", text=manifests.SCRIPTS)
        assert pod_of(longer)["terminationGracePeriodSeconds"] == 90
        assert "terminationGracePeriodSeconds" not in pod_of(RUNS["suite"], Step.PREPARE)

    def test_are_told_nothing_about_threads_and_their_workers_where_they_are(self) -> None:
        found = environment(RUNS["suite"])
        assert found["SHARDWISE_NODE"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
        assert not {"OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM"} & set(found)

    @pytest.mark.parametrize("step", Step)
    def test_get_the_nodes_and_the_gpus_that_their_run_asks_for(self, step: Step) -> None:
        gpus = {"limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}}
        worker = {"nodeSelector": {"gpu": "h200"}, "resources": gpus, "tolerations": [{"key": "nvidia.com/gpu"}]}
        run = run_of(*SCRIPTS, f"worker={json.dumps(worker)}", text=manifests.SCRIPTS)
        assert pod_of(run, step)["nodeSelector"] == {"gpu": "h200"}
        assert {"key": "nvidia.com/gpu"} in pod_of(run, step)["tolerations"]
        assert container_of(run, step)["resources"] == gpus


class TestNames:
    @pytest.mark.parametrize("step", Step)
    def test_are_short_enough_for_host_names_of_the_longest_run(self, step: Step) -> None:
        run = run_of("sharding={shards: 10000}", *ON_A_CLUSTER, name="x" * MAX_NAME_LENGTH)
        for child in children(run, step).values():
            assert len(child["metadata"]["name"]) <= MAX_LABEL
            assert all(len(value) <= MAX_LABEL for value in child["metadata"]["labels"].values())
        last = run.spec.sharding.shards - 1 if step is Step.WORK else 0
        assert len(f"{job_of(run, step)['metadata']['name']}-{last}") <= MAX_LABEL

    def test_of_steps_differ(self) -> None:
        assert {job_of(RUNS["kato"], step)["metadata"]["name"] for step in Step} == {
            "words-prepare", "words", "words-finalize",
        }  # fmt: skip


class TestSecrets:
    def test_of_a_store_are_one_key_by_reference(self) -> None:
        assert environment(RUNS["rest"])["SHARDWISE_STORE_URI"] == {"secretKeyRef": {"name": "mongo", "key": "uri"}}

    def test_of_an_output_are_variables_by_reference(self) -> None:
        assert {"secretRef": {"name": "s3"}} in container_of(RUNS["rest"])["envFrom"]

    def test_are_in_no_child(self) -> None:
        for child in children(RUNS["rest"]).values():
            assert "mongodb://" not in json.dumps(child)
            assert child["kind"] != "Secret"

    def test_of_registries_are_named(self) -> None:
        assert pod_of(RUNS["kato"])["imagePullSecrets"] == [{"name": "pull"}]


class TestEnvironment:
    def test_tells_a_worker_where_everything_is(self) -> None:
        found = environment(RUNS["kato"])
        assert found["SHARDWISE_RUN"] == "/etc/shardwise/run.json"
        assert found["SHARDWISE_STEP"] == "work"
        assert found["SHARDWISE_OUTPUT"] == "s3://bucket/prefix"
        assert found["SHARDWISE_PROGRESS"] == "http://progress.example/v1"
        assert found["POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
        assert json.loads(children(RUNS["kato"])["ConfigMap"]["data"]["run.json"])["uid"] == "1234"

    def test_may_open_what_the_cluster_allows_and_no_more(self) -> None:
        assert "SHARDWISE_URI_SCHEMES" not in environment(RUNS["kato"])
        more = ChildSettings(worker_image="x:1", uri_schemes="sftp")
        assert environment(RUNS["kato"], settings=more)["SHARDWISE_URI_SCHEMES"] == "sftp"

    @pytest.mark.parametrize("step", [Step.PREPARE, Step.FINALIZE])
    def test_shards_alone_report(self, step: Step) -> None:
        assert "SHARDWISE_PROGRESS" not in environment(RUNS["kato"], step)

    def test_without_a_receiver_nobody_reports(self) -> None:
        assert "SHARDWISE_PROGRESS" not in environment(RUNS["kato"], settings=ChildSettings(worker_image="x:1"))

    def test_of_the_manifest_comes_before_what_is_only_a_default(self) -> None:
        run = run_of(*ON_A_CLUSTER, "worker.env=[{name: OMP_NUM_THREADS, value: '4'}, {name: HOME, value: /data}]")
        found = environment(run)
        assert (found["OMP_NUM_THREADS"], found["HOME"], found["TOKENIZERS_PARALLELISM"]) == ("4", "/data", "false")


class TestWorker:
    WORKER: ClassVar[dict[str, Any]] = {
        "image": "registry.example/mine:7",
        "resources": {"limits": {"cpu": "1", "example.com/fpga": 1}, "claims": [{"name": "c", "newer": True}]},
        "envFrom": [{"secretRef": {"name": "s", "optional": True, "newer": 1}}],
        "env": [{"name": "A", "valueFrom": {"newerRef": {"deep": [1, {"b": "c"}]}}}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c", "newer": {"x": [1]}}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "recursiveReadOnly": "Enabled"}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Newer", "value": "1"}],
        "priorityClassName": "low",
        "labels": {"team": "a"},
        "annotations": {"note": "b"},
        "serviceAccountName": "mine",
    }

    @pytest.mark.parametrize("step", Step)
    def test_is_handed_through_as_it_is_newer_fields_too(self, step: Step) -> None:
        run = run_of(*ON_A_CLUSTER, f"worker={json.dumps(self.WORKER)}")
        template, pod, container = job_of(run, step)["spec"]["template"], pod_of(run, step), container_of(run, step)
        assert container["image"] == self.WORKER["image"]
        assert container["resources"] == self.WORKER["resources"]
        for found, given in (
            (container["env"], "env"), (container["envFrom"], "envFrom"), (container["volumeMounts"], "volumeMounts"),
            (pod["volumes"], "volumes"), (pod["tolerations"], "tolerations"),
        ):  # fmt: skip
            assert [entry for entry in found if entry in self.WORKER[given]] == self.WORKER[given]
        assert pod["nodeSelector"] == self.WORKER["nodeSelector"]
        assert pod["priorityClassName"] == "low"
        assert template["metadata"]["annotations"] == {"note": "b"}
        assert template["metadata"]["labels"]["team"] == job_of(run, step)["metadata"]["labels"]["team"] == "a"

    def test_with_an_account_of_its_own_gets_no_other_and_still_no_token(self) -> None:
        run = run_of(*ON_A_CLUSTER, "worker.serviceAccountName=mine")
        assert "ServiceAccount" not in children(run)
        assert pod_of(run)["serviceAccountName"] == "mine"
        assert pod_of(run)["automountServiceAccountToken"] is False

    def test_labels_of_ours_cannot_be_taken(self) -> None:
        run = run_of(*ON_A_CLUSTER, 'worker={labels: {"shardwise.dev/run-uid": "other", "shardwise.dev/step": "x"}}')
        labels = job_of(run)["spec"]["template"]["metadata"]["labels"]
        assert (labels["shardwise.dev/run-uid"], labels["shardwise.dev/step"]) == ("1234", "work")

    def test_of_the_chart_is_used_when_the_manifest_names_none(self) -> None:
        assert container_of(RUNS["kato"])["image"] == "registry.example/worker:1"


class TestJob:
    def test_is_indexed_and_replaces_a_pod_only_when_it_has_ended(self) -> None:
        spec = job_of(RUNS["kato"])["spec"]
        assert (spec["completionMode"], spec["completions"]) == ("Indexed", 8)
        assert spec["podReplacementPolicy"] == "Failed"
        assert spec["template"]["spec"]["restartPolicy"] == "Never"

    def test_a_disruption_comes_before_any_exit_code(self) -> None:
        first = job_of(RUNS["kato"])["spec"]["podFailurePolicy"]["rules"][0]
        assert first == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}

    @pytest.mark.parametrize("step", Step)
    def test_exit_codes_count_as_the_contract_says(self, step: Step) -> None:
        assert self._actions(job_of(RUNS["kato"], step)) == {75: "Ignore", 143: "Ignore", 2: "FailJob"}

    def test_exit_codes_of_the_manifest_end_the_run_but_never_those_that_are_nobodys_fault(self) -> None:
        run = run_of(*ON_A_CLUSTER, "retry.nonRetriableExitCodes=[3, 4, 75, 143]")
        assert self._actions(job_of(run)) == {75: "Ignore", 143: "Ignore", 3: "FailJob", 4: "FailJob"}

    def test_without_such_codes_there_is_no_rule_for_them(self) -> None:
        run = run_of(*ON_A_CLUSTER, "retry.nonRetriableExitCodes=[]")
        assert self._actions(job_of(run)) == {75: "Ignore", 143: "Ignore"}

    def test_retries_are_the_manifests_for_shards_and_few_for_single_steps(self) -> None:
        run = run_of(*ON_A_CLUSTER, "retry={perShard: 5, maxFailedShards: 2}")
        work, prepare = job_of(run)["spec"], job_of(run, Step.PREPARE)["spec"]
        assert (work["backoffLimitPerIndex"], work["maxFailedIndexes"]) == (5, 2)
        assert (prepare["backoffLimitPerIndex"], prepare["maxFailedIndexes"]) == (1, 0)

    def test_tolerates_no_more_failures_than_an_api_server_takes(self) -> None:
        run = run_of(*ON_A_CLUSTER, "retry.maxFailedShards=100")
        assert job_of(run)["spec"]["maxFailedIndexes"] == 8

    def test_of_a_queue_is_made_suspended_and_only_the_shards(self) -> None:
        run = run_of(*ON_A_CLUSTER, 'worker={labels: {"kueue.x-k8s.io/queue-name": "q"}}')
        assert job_of(run)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"
        assert [job_of(run, step)["spec"]["suspend"] for step in Step] == [False, True, False]
        assert [job_of(RUNS["kato"], step)["spec"]["suspend"] for step in Step] == [False, False, False]

    @staticmethod
    def _actions(job: dict[str, Any]) -> dict[int, str]:
        found: dict[int, str] = {}
        for rule in job["spec"]["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes")
            if codes is not None:
                assert codes["containerName"] == "worker"
                assert codes["operator"] == "In"
                found.update(dict.fromkeys(codes["values"], rule["action"]))
        return found
