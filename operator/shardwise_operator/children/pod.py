"""A worker pod: restricted in the sense of the pod security standards, without rights at the API server.

Secrets reach it by reference only, so that no manifest, status or log holds one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shardwise_api.common import Worker
from shardwise_api.runs import Run
from shardwise_api.wire import Environment, Step

from ..core.policies import policy_of
from .job_groups import JobGroup
from .names import CONTAINER, child_name
from .rank_network import rendezvous

USER = 65532
DOCUMENT_FOLDER = "/etc/shardwise"
TOKEN_FOLDER = "/var/run/secrets/shardwise"  # noqa: S105 - a folder
TOKEN_AUDIENCE = "shardwise-progress"  # noqa: S105 - an audience
TOKEN_SECONDS = 3600
LOST_NODE_SECONDS = 15
"""How long a pod stays bound to a node that is not heard of. Its replacement waits for its end in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSettings:
    """What the cluster's administrator decides about workers, as the chart hands it to the operator."""

    worker_image: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    progress_url: str | None = None
    """Where workers report; None: nobody listens."""
    uri_schemes: str = ""
    """Schemes of inputs and outputs beside the usual ones, with commas between."""
    egress: tuple[dict[str, Any], ...] | None = None
    """Where workers may go, as a NetworkPolicy's rules; None: only the namespace's own policies say."""


def pod_spec(run: Run, *, step: Step, group: JobGroup, job_name: str, settings: ChildSettings) -> dict[str, Any]:
    """Return the pod of a step; `worker` of the run's spec shapes it, and what is said of a part in its place."""
    worker = _shaped(run.spec.worker, group)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": worker.service_account_name or run.metadata.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [*_lost_node_tolerations(), *worker.tolerations],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"batch.kubernetes.io/job-name": job_name}},
            }
        ],
        "containers": [_container(run, worker, step=step, group=group, settings=settings)],
        "volumes": [
            {
                "name": "shardwise-run",
                "configMap": {"name": child_name(run=run.metadata.name, step=step)},
            },
            {
                "name": "shardwise-token",
                "projected": {
                    "sources": [
                        {
                            "serviceAccountToken": {
                                "audience": TOKEN_AUDIENCE,
                                "expirationSeconds": TOKEN_SECONDS,
                                "path": "token",
                            }
                        }
                    ]
                },
            },
            {"name": "shardwise-tmp", "emptyDir": {}},
            *worker.volumes,
        ],
    }
    policy = policy_of(run)
    if policy.peers_talk and step is Step.WORK:
        # With it an Indexed Job's pods have host names.
        spec["subdomain"] = run.metadata.name
    if worker.termination_grace_period_seconds is not None:
        spec["terminationGracePeriodSeconds"] = worker.termination_grace_period_seconds
    elif policy.termination_seconds is not None and step is Step.WORK:
        spec["terminationGracePeriodSeconds"] = policy.termination_seconds
    if worker.node_selector:
        spec["nodeSelector"] = dict(worker.node_selector)
    if worker.priority_class_name:
        spec["priorityClassName"] = worker.priority_class_name
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return spec


def _shaped(worker: Worker, group: JobGroup) -> Worker:
    if group.override is None:
        return worker
    given = ("resources", "node_selector", "tolerations")
    told = {name: value for name in given if (value := getattr(group.override, name)) is not None}
    return worker.model_copy(update=told)


def _container(run: Run, worker: Worker, *, step: Step, group: JobGroup, settings: ChildSettings) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": worker.image or settings.worker_image,
        "imagePullPolicy": settings.image_pull_policy,
        "env": [*worker.env, *_secret_environment(run), *_environment(run, step=step, group=group, settings=settings)],
        "envFrom": [*worker.env_from, *_secret_sources(run)],
        "volumeMounts": [
            {"name": "shardwise-run", "mountPath": DOCUMENT_FOLDER, "readOnly": True},
            {"name": "shardwise-token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "shardwise-tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            *worker.volume_mounts,
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if worker.resources:
        container["resources"] = worker.resources
    return container


def single_threaded(run: Run) -> dict[str, str]:
    """Return what keeps a worker's libraries to one thread: the shards are the parallelism.

    Of a suite they are not ours but the scripts', which see to it themselves.
    """
    return {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} if policy_of(run).limits_threads else {}


def _secret_environment(run: Run) -> list[dict[str, Any]]:
    """Return variables that hold one key of a Secret each."""
    reference = policy_of(run).store_secret
    if reference is None:
        return []
    source = {"secretKeyRef": {"name": reference.name, "key": reference.key}}
    return [{"name": Environment.STORE_URI.value, "valueFrom": source}]


def _secret_sources(run: Run) -> list[dict[str, Any]]:
    """Return Secrets whose keys become variables."""
    output = run.spec.output
    if output is None or output.secret_ref is None:
        return []
    return [{"secretRef": {"name": output.secret_ref.name}}]


def reserved_environment() -> frozenset[str]:
    """Return the names of variables that a manifest can't set, because the operator does."""
    return frozenset({*map(str, Environment), "POD_NAME", "POD_UID"})


def _environment(run: Run, *, step: Step, group: JobGroup, settings: ChildSettings) -> list[dict[str, Any]]:
    policy = policy_of(run)
    values: dict[str, str] = {
        Environment.RUN.value: f"{DOCUMENT_FOLDER}/run.json",
        Environment.STEP.value: step.value,
    }
    if group.shards is not None:
        values[Environment.SHARDS.value] = group.shards
    if run.spec.output is not None:
        values[Environment.OUTPUT.value] = run.spec.output.uri
    if policy.peers_talk and step is Step.WORK:
        values[Environment.RENDEZVOUS.value] = rendezvous(run)
    if settings.progress_url is not None and step is Step.WORK:
        values[Environment.PROGRESS.value] = settings.progress_url
        values[Environment.PROGRESS_TOKEN_FILE.value] = f"{TOKEN_FOLDER}/token"
    if settings.uri_schemes:
        values[Environment.URI_SCHEMES.value] = settings.uri_schemes
    given = {entry.get("name") for entry in run.spec.worker.env}
    for name, value in (*single_threaded(run).items(), ("HOME", "/tmp")):  # noqa: S108
        if name not in given:
            values[name] = value
    node = [{"name": Environment.NODE.value, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    return [
        *({"name": name, "value": value} for name, value in values.items()),
        *(node if policy.records_node else []),
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    ]


def _lost_node_tolerations() -> list[dict[str, Any]]:
    return [
        {
            "key": f"node.kubernetes.io/{key}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": LOST_NODE_SECONDS,
        }
        for key in ("not-ready", "unreachable")
    ]
