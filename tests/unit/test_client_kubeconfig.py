"""Which cluster is meant: as kubectl would have it, and in words when none can be found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shardwise_cli.cluster.errors import ClientError
from shardwise_cli.cluster.kubeconfig import ClusterOptions, locate


def _write(path: Path, *contexts: str, current: str = "", namespace: str = "") -> str:
    context: dict[str, Any] = {"cluster": "here", "user": "me"}
    document = {
        "clusters": [{"name": "here", "cluster": {"server": "https://10.0.0.1:6443"}}],
        "contexts": [
            {"name": name, "context": context | ({"namespace": f"{name}-{namespace}"} if namespace else {})}
            for name in contexts
        ],
        "current-context": current,
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


def _complaint(options: ClusterOptions, **environment: str) -> str:
    with pytest.raises(ClientError) as caught:
        locate(options, environment=environment, service_account=Path("/nowhere"))
    return str(caught.value)


def test_the_current_context_and_its_namespace_are_taken(tmp_path: Path) -> None:
    path = _write(tmp_path / "a", "east", "west", current="west", namespace="ns")

    target = locate(ClusterOptions(), environment={"KUBECONFIG": path})

    assert (target.context, target.namespace, target.server) == ("west", "west-ns", "https://10.0.0.1:6443")


def test_another_context_brings_its_own_namespace_unless_one_is_said(tmp_path: Path) -> None:
    path = _write(tmp_path / "a", "east", "west", current="west", namespace="ns")

    assert locate(ClusterOptions(context="east"), environment={"KUBECONFIG": path}).namespace == "east-ns"
    assert locate(ClusterOptions(context="east", namespace="x"), environment={"KUBECONFIG": path}).namespace == "x"


def test_of_several_files_the_first_that_says_something_has_its_way(tmp_path: Path) -> None:
    paths = [
        str(tmp_path / "missing"),
        _write(tmp_path / "a", "east"),
        _write(tmp_path / "b", "east", "west", current="west", namespace="ns"),
    ]

    target = locate(ClusterOptions(), environment={"KUBECONFIG": ":".join(paths)})

    assert (target.context, target.namespace) == ("west", "west-ns")
    assert locate(ClusterOptions(context="east"), environment={"KUBECONFIG": ":".join(paths)}).namespace == "default"


def test_a_file_on_the_command_line_comes_before_the_environment(tmp_path: Path) -> None:
    here, there = _write(tmp_path / "a", "east", current="east"), _write(tmp_path / "b", "west", current="west")

    assert locate(ClusterOptions(kubeconfig=there), environment={"KUBECONFIG": here}).context == "west"


def test_in_a_pod_its_own_service_account_and_namespace_are_taken(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("team\n")
    environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBECONFIG": str(tmp_path / "missing")}

    target = locate(ClusterOptions(), environment=environment, service_account=tmp_path)

    assert (target.kubeconfig, target.namespace, target.server) == (None, "team", "https://10.96.0.1:443")


def test_a_missing_file_is_named_with_where_its_name_came_from(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    assert f"there is no {missing} (KUBECONFIG)" in _complaint(ClusterOptions(), KUBECONFIG=missing)
    assert f"there is no {missing} (--kubeconfig)" in _complaint(ClusterOptions(kubeconfig=missing))


def test_a_wrong_context_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    path = _write(tmp_path / "a", "east", "west", current="west")

    assert (
        _complaint(ClusterOptions(context="nord"), KUBECONFIG=path)
        == f"{path} has no context 'nord': known are east, west"
    )


def test_no_current_context_asks_for_one(tmp_path: Path) -> None:
    path = _write(tmp_path / "a", "east", "west")

    assert "choose one with --context (known are east, west)" in _complaint(ClusterOptions(), KUBECONFIG=path)


@pytest.mark.parametrize("text", ["just text", "[1, 2]", "a: [", "\x00"])
def test_what_is_no_kubeconfig_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a"
    path.write_text(text)

    assert str(path) in _complaint(ClusterOptions(), KUBECONFIG=str(path))


def test_a_context_without_a_server_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(
        yaml.safe_dump({"contexts": [{"name": "x", "context": {"cluster": "gone"}}], "current-context": "x"})
    )

    assert "names cluster 'gone', which has no server" in _complaint(ClusterOptions(), KUBECONFIG=str(path))
