"""The operator's role grants what it uses, and nothing besides: held against what the API server wrote down.

Runs after the other tests that use the operator: they are the use.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.settings import Folders
from tests.e2e.installed import NAMESPACE, Installed

pytestmark = [pytest.mark.e2e, pytest.mark.after_runs]

Right = tuple[str, str, str]
"""Verb, API group, resource with its subresource."""

RARE = {
    # A replica that finds its Lease expired, or that hands it on, and one that is there first.
    ("create", "coordination.k8s.io", "leases"),
}


def test_every_right_of_the_operator_was_used_and_none_was_missing(own_cluster: Any, shardwise: Installed) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:{_account(shardwise)}"
    entries = [
        entry
        for line in Folders().audit_log.read_text().splitlines()
        if (entry := json.loads(line))["user"]["username"] == account and entry["stage"] == "ResponseComplete"
    ]
    used = {right for entry in entries for right in _rights(entry)}
    granted = _granted(shardwise, account)

    assert len(entries) > 100, "the audit log has too little of the operator to say anything"
    assert sorted(granted - used - RARE) == [], "granted and never used"


def _rights(entry: dict[str, Any]) -> set[Right]:
    about = entry.get("objectRef", {})
    resource = about.get("resource", "")
    if about.get("subresource"):
        resource = f"{resource}/{about['subresource']}"
    verbs = {entry["verb"]}
    if entry["verb"] == "patch" and entry.get("responseStatus", {}).get("code") == 201:
        # A patch that applies what was not there also needs the right to create.
        verbs.add("create")
    return {(verb, about.get("apiGroup", ""), resource) for verb in verbs}


def _granted(shardwise: Installed, account: str) -> set[Right]:
    granted: set[Right] = set()
    for binding_kind, role_kind in (("clusterrolebindings", "clusterrole"), ("rolebindings", "role")):
        for binding in shardwise.cluster.get(binding_kind)["items"]:
            subjects = [
                f"system:serviceaccount:{s.get('namespace', NAMESPACE)}:{s['name']}"
                for s in binding.get("subjects") or ()
                if s["kind"] == "ServiceAccount"
            ]
            if account in subjects:
                rules = shardwise.cluster.get(role_kind, binding["roleRef"]["name"])["rules"]
                granted |= {
                    (verb, group, resource)
                    for rule in rules
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                }
    assert granted
    assert not any("*" in right for right in granted)
    return granted


def _account(shardwise: Installed) -> str:
    return str(shardwise.operator_pods()[0]["spec"]["serviceAccountName"])
