"""The chart's roles grant to the letter what the operator calls, and people what their roles say."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.support import helm
from tests.support.helm import Object, every_way, one, operator_environment

# Building Helm for the first time takes minutes.
pytestmark = pytest.mark.timeout(1800)

RUN_RIGHTS = {
    **{("shardwise.dev", kind): {"get", "list", "watch", "delete"} for kind in ("trainingruns", "ingestruns")},
    **{("shardwise.dev", f"{kind}/status"): {"update"} for kind in ("trainingruns", "ingestruns")},
    ("batch", "jobs"): {"get", "list", "watch", "create", "patch", "delete"},
    ("", "pods"): {"list", "watch"},
    ("", "configmaps"): {"get", "create", "patch"},
    ("", "serviceaccounts"): {"get", "create", "patch"},
    ("", "services"): {"get", "create", "patch"},
    ("networking.k8s.io", "networkpolicies"): {"get", "create", "patch"},
    ("events.k8s.io", "events"): {"create"},
    ("", "events"): {"list"},
}
"""What the operator calls in the namespaces whose runs it looks after."""
TOKEN_RIGHTS = {("authentication.k8s.io", "tokenreviews"): {"create"}}


@pytest.fixture(scope="module")
def program() -> Path:
    return helm.find()


def rights(role: Object) -> dict[tuple[str, str], set[str]]:
    """What a role grants, by group and resource."""
    granted: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group, resource in itertools.product(rule["apiGroups"], rule["resources"]):
            granted.setdefault((group, resource), set()).update(rule["verbs"])
    return granted


def bindings_of(objects: list[Object], account: str) -> list[Object]:
    return [found for found in objects if any(who["name"] == account for who in found.get("subjects", ()))]


def test_for_all_namespaces_the_operator_may_do_what_it_calls_and_nothing_else(program: Path) -> None:
    objects = helm.render(program, namespace="here")
    bound = {found["roleRef"]["name"]: found for found in bindings_of(objects, "shardwise-operator")}

    assert {name: found["kind"] for name, found in bound.items()} == {
        "here:shardwise": "ClusterRoleBinding",
        "here:shardwise:tokens": "ClusterRoleBinding",
        "shardwise-operator-lease": "RoleBinding",
    }
    assert rights(one(objects, "ClusterRole", "here:shardwise")) == RUN_RIGHTS
    assert rights(one(objects, "ClusterRole", ":tokens")) == TOKEN_RIGHTS


def test_for_listed_namespaces_it_may_do_so_there_and_in_the_cluster_check_tokens_only(program: Path) -> None:
    objects = helm.render(program, "watchNamespaces: [team-a, team-b]", namespace="here")
    bindings = bindings_of(objects, "shardwise-operator")
    roles = [found for found in objects if found["kind"] == "Role" and found["metadata"]["namespace"] != "here"]

    assert [found["roleRef"]["name"] for found in bindings if found["kind"] == "ClusterRoleBinding"] == [
        "here:shardwise:tokens"
    ]
    assert [role["metadata"]["namespace"] for role in roles] == ["team-a", "team-b"]
    for role in roles:
        assert rights(role) == RUN_RIGHTS
        (binding,) = (
            found for found in bindings if found["metadata"].get("namespace") == role["metadata"]["namespace"]
        )
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": role["metadata"]["name"],
        }


@pytest.mark.parametrize("where", ["", "watchNamespaces: [team-a]"])
def test_with_kueue_it_may_read_why_a_job_waits(program: Path, where: str) -> None:
    objects = helm.render(program, f"kueue: {{enabled: true}}\n{where}", namespace="here")
    kind = "Role" if where else "ClusterRole"
    (role,) = (found for found in objects if found["kind"] == kind and found["metadata"]["name"] == "here:shardwise")
    assert rights(role) == {**RUN_RIGHTS, ("kueue.x-k8s.io", "workloads"): {"list"}}


@every_way
def test_its_rights_to_leases_end_at_its_own_namespace_and_name(program: Path, values: str) -> None:
    objects = helm.render(program, values, namespace="here")
    role = one(objects, "Role", "-lease")
    own, new = role["rules"]

    assert role["metadata"]["namespace"] == "here"
    assert own["resourceNames"] == [operator_environment(objects)["SHARDWISE_LEASE"]] == ["shardwise-operator"]
    assert (own["resources"], own["verbs"]) == (["leases"], ["get", "update"])
    assert (new["resources"], new["verbs"]) == (["leases"], ["create"])


@every_way
def test_every_binding_is_to_the_operators_own_account(program: Path, values: str) -> None:
    objects = helm.render(program, values, namespace="here")
    account = one(objects, "Deployment", "-operator")["spec"]["template"]["spec"]["serviceAccountName"]

    subjects = [who for found in objects for who in found.get("subjects", ())]
    assert subjects
    assert all(who == {"kind": "ServiceAccount", "name": account, "namespace": "here"} for who in subjects)


def test_people_get_runs_with_the_roles_they_have(program: Path) -> None:
    objects = helm.render(program)
    view, edit = one(objects, "ClusterRole", "shardwise-view"), one(objects, "ClusterRole", "shardwise-edit")

    assert {verb for verbs in rights(view).values() for verb in verbs} == {"get", "list", "watch"}
    assert rights(edit).keys() == {("shardwise.dev", "trainingruns"), ("shardwise.dev", "ingestruns")}
    aggregate = "rbac.authorization.k8s.io/aggregate-to-"
    assert f"{aggregate}view" in view["metadata"]["labels"]
    assert f"{aggregate}view" not in edit["metadata"]["labels"]
    assert f"{aggregate}edit" in edit["metadata"]["labels"]


def test_two_releases_in_a_cluster_share_nothing(program: Path) -> None:
    second = "{crds: {install: false}, rbac: {aggregatedRoles: false}, watchNamespaces: [team-b]}"
    one_release = helm.render(program, "watchNamespaces: [team-a]", namespace="here")
    other = helm.render(program, second, namespace="there")

    def keys(objects: list[Object]) -> set[tuple[str, str, str]]:
        return {(found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]) for found in objects}

    assert keys(one_release) & keys(other) == set()
