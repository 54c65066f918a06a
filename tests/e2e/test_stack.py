"""A real API server takes the trial stack and admits its pods as restricted; its script makes Secrets of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.dry_run import apply_definitions, as_pods, ask, in_namespace, restricted_namespace
from tests.support.helm import Object
from tests.support.kube import Cluster
from tests.support.trial_stack import STACK, make_secrets

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> Iterator[Cluster]:
    with restricted_namespace(cluster) as corner:
        yield corner


@pytest.fixture(scope="module")
def with_definitions(cluster: Cluster) -> None:
    apply_definitions(cluster)


@pytest.fixture(scope="module")
def stack(cluster: Cluster) -> list[Object]:
    """What `kubectl apply --kustomize` would apply."""
    return list(yaml.safe_load_all(cluster.kubectl("kustomize", STACK)))


def test_the_api_server_takes_the_trial_stack(restricted: Cluster, stack: list[Object]) -> None:
    result = ask(restricted, in_namespace(stack, restricted.namespace))

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(stack)


def test_a_restricted_namespace_admits_the_stacks_pods(restricted: Cluster, stack: list[Object]) -> None:
    pods = as_pods(stack, restricted.namespace)
    for pod in pods:
        # What a StatefulSet's controller adds for its claims.
        for container in pod["spec"]["containers"]:
            known = {volume["name"] for volume in pod["spec"]["volumes"]}
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            pod["spec"]["volumes"] += [{"name": name, "emptyDir": {}} for name in sorted(mounts - known)]

    result = ask(restricted, pods)

    assert result.returncode == 0, result.stderr
    assert len(pods) == 3


def test_the_stacks_first_run_is_accepted(restricted: Cluster, with_definitions: None) -> None:
    run = yaml.safe_load((STACK / "run.yaml").read_text(encoding="utf-8"))

    result = ask(restricted, [run])

    assert result.returncode == 0, result.stderr


def test_the_stacks_secrets_are_made_once_with_passwords_of_their_own(cluster: Cluster) -> None:
    with cluster.own_namespace("stack") as corner:
        first, second = (make_secrets(corner) for _ in range(2))

    assert first == second
    passwords = {secret["password"] for secret in first.values()}
    assert len(passwords) == len(first) == 2
    assert all(len(password) >= 32 for password in passwords)
    for name, secret in first.items():
        assert urlsplit(secret["uri"]).password == secret["password"]
        assert urlsplit(secret["uri"]).hostname == f"{name}.{corner.namespace}.svc"
