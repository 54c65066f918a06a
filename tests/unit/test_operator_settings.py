"""The operator's settings come from the environment alone; what is missing is said, what is empty is not given."""

from __future__ import annotations

import pytest

from shardwise_operator.shell.settings import MissingSetting, Settings, settings_from

LEAST = {"SHARDWISE_WORKER_IMAGE": "registry.example/worker:1"}


def read(**more: str) -> Settings:
    return settings_from({**LEAST, **more})


@pytest.mark.parametrize("environment", [{}, {"SHARDWISE_WORKER_IMAGE": ""}])
def test_without_a_worker_image_it_says_what_to_set(environment: dict[str, str]) -> None:
    with pytest.raises(MissingSetting, match=r"SHARDWISE_WORKER_IMAGE is not set.*worker\.image"):
        settings_from(environment)


def test_little_is_needed() -> None:
    found = read()
    assert found.children.worker_image == "registry.example/worker:1"
    assert found.children.image_pull_policy == "IfNotPresent"
    assert found.children.progress_url is None
    assert (found.watched, found.lease, found.log_level) == ((), "shardwise-operator", "INFO")


def test_everything_can_be_set() -> None:
    found = read(
        SHARDWISE_NAMESPACE="own", SHARDWISE_WATCH_NAMESPACES="a, b,", SHARDWISE_IMAGE_PULL_POLICY="Never",
        SHARDWISE_IMAGE_PULL_SECRETS="s,t", SHARDWISE_PROGRESS_URL="http://p.example/v1", SHARDWISE_LEASE="mine",
        POD_NAME="operator-1", POD_IP="10.0.0.1", SHARDWISE_LOG_LEVEL="debug", SHARDWISE_URI_SCHEMES="sftp,zip",
    )  # fmt: skip
    assert (found.namespace, found.watched, found.lease) == ("own", ("a", "b"), "mine")
    assert found.children.image_pull_policy == "Never"
    assert found.children.image_pull_secrets == ("s", "t")
    assert found.children.progress_url == "http://p.example/v1"
    assert found.children.uri_schemes == "sftp,zip"
    assert (found.pod_name, found.pod_ip, found.log_level) == ("operator-1", "10.0.0.1", "DEBUG")


def test_workers_go_where_the_rules_say_and_to_nothing_where_there_are_none() -> None:
    assert read(SHARDWISE_WORKER_EGRESS='[{"ports": [{"port": 53}]}]').children.egress == ({"ports": [{"port": 53}]},)
    assert read(SHARDWISE_WORKER_EGRESS="[]").children.egress == ()
    assert read().children.egress is None


@pytest.mark.parametrize("text", ["to: anywhere", "{}", '["10.0.0.0/8"]'])
def test_rules_that_are_none_end_the_start_instead_of_letting_workers_go_anywhere(text: str) -> None:
    with pytest.raises(MissingSetting, match="SHARDWISE_WORKER_EGRESS"):
        read(SHARDWISE_WORKER_EGRESS=text)


def test_what_a_chart_leaves_empty_is_not_given() -> None:
    empty = dict.fromkeys(
        ("SHARDWISE_NAMESPACE", "SHARDWISE_WATCH_NAMESPACES", "SHARDWISE_IMAGE_PULL_POLICY", "SHARDWISE_LEASE",
         "SHARDWISE_IMAGE_PULL_SECRETS", "SHARDWISE_PROGRESS_URL", "SHARDWISE_LOG_LEVEL", "POD_IP"), ""
    )  # fmt: skip
    assert read(**empty) == read()
