"""How ranks of a training find and reach each other: by a name of rank 0, and past a policy that lets nobody else in.

Workers of every other run serve nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardwise_api.runs import Run
from shardwise_api.wire import Step

from ..core.policies import policy_of
from .names import Labels, owner, run_labels

PORT = 29400


def rendezvous(run: Run) -> str:
    """Return where the ranks of a run meet: its first pod, by the host name that an Indexed Job gives it."""
    name = run.metadata.name
    return f"tcp://{name}-0.{name}.{run.metadata.namespace}.svc:{PORT}"


def headless_service(run: Run) -> dict[str, Any]:
    """Return the Service that gives the ranks' pods names; one that waits for its peers is not ready, and has one."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": run.metadata.name,
            "namespace": run.metadata.namespace,
            "labels": run_labels(run),
            "ownerReferences": [owner(run)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {Labels.RUN_UID.value: run.metadata.uid or "", Labels.STEP.value: Step.WORK.value},
            "ports": [{"name": "rendezvous", "port": PORT, "protocol": "TCP"}],
        },
    }


def network_policy_spec(run: Run, egress: Sequence[dict[str, Any]] | None) -> dict[str, Any]:
    """Return the spec of the NetworkPolicy of a run's pods, with what the administrator lets them reach.

    Ranks reach each other at every port: MPI takes any that is free.
    """
    own = {"matchLabels": {Labels.RUN_UID.value: run.metadata.uid or ""}}
    ranks = [{"podSelector": own}] if policy_of(run).peers_talk else []
    policy = {"podSelector": own, "policyTypes": ["Ingress"], "ingress": [{"from": ranks}] if ranks else []}
    if egress is None:
        return policy
    return {
        **policy,
        "policyTypes": ["Ingress", "Egress"],
        "egress": [*([{"to": ranks}] if ranks else []), *egress],
    }
