"""What the client commands say when there is no cluster, no Shardwise in it, or no client library."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.support import manifests
from tests.support.cli import SHARDWISE, Finished
from tests.support.client import PORTABLE


def _shardwise(*words: str, **environment: str) -> Finished:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [SHARDWISE, *words],
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Finished(code=done.returncode, out=done.stdout, err=done.stderr)


def _kubeconfig(path: Path, server: str) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "test", "context": {"cluster": "here", "user": "me"}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


def _manifest(path: Path, *changes: str) -> str:
    path.write_text(manifests.changed(PORTABLE, *changes), encoding="utf-8")
    return str(path)


class _WithoutShardwise(BaseHTTPRequestHandler):
    """An API server as far as `/version` goes, which knows none of our kinds; it is busy at first."""

    busy = 0

    def do_GET(self) -> None:
        if self.path.startswith("/version"):
            self._answer(200, json.dumps({"gitVersion": "v1.34.4"}))
        elif type(self).busy:
            type(self).busy -= 1
            self._answer(429, json.dumps({"kind": "Status", "message": "too many"}), retry="0")
        else:
            self._answer(404, "404 page not found\n")

    def _answer(self, code: int, text: str, *, retry: str | None = None) -> None:
        self.send_response(code)
        if retry is not None:
            self.send_header("Retry-After", retry)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing among the tests' own words."""


@contextmanager
def _server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("command", ["get", "watch", "result words", "logs words", "suspend words", "delete words"])
def test_without_a_kubeconfig_every_command_says_where_it_looked(command: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "none")

    done = _shardwise(*command.split(), KUBECONFIG=missing)

    assert done.code == 1
    assert done.err == (
        f"no kubeconfig: there is no {missing} (KUBECONFIG). Point KUBECONFIG or --kubeconfig at one, as for kubectl\n"
    )


def test_a_cluster_that_does_not_answer_is_named_with_what_to_look_at(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    done = _shardwise("get", KUBECONFIG=_kubeconfig(tmp_path / "k", f"https://127.0.0.1:{port}"))

    assert done.code == 1
    assert f"no connection to https://127.0.0.1:{port} (context test)" in done.err
    assert "kubectl cluster-info" in done.err


def test_a_cluster_without_shardwise_is_told_apart_from_a_run_that_is_missing(tmp_path: Path) -> None:
    with _server(_WithoutShardwise) as url:
        kubeconfig = _kubeconfig(tmp_path / "k", url)
        asked = [
            _shardwise(*words.split(), KUBECONFIG=kubeconfig)
            for words in ("get", "get words", "watch", f"submit {_manifest(tmp_path / 'run.yaml')}")
        ]

    for done in asked:
        assert done.code == 1
        assert "this cluster doesn't know shardwise.dev: Shardwise is not installed there" in done.err


def test_a_busy_api_server_is_asked_again(tmp_path: Path) -> None:
    class Busy(_WithoutShardwise):
        busy = 2

    with _server(Busy) as url:
        done = _shardwise("get", KUBECONFIG=_kubeconfig(tmp_path / "k", url))

    assert "is not installed there" in done.err
    assert Busy.busy == 0


def test_without_the_client_library_the_way_to_get_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "kr8s.py").write_text("raise ModuleNotFoundError(\"No module named 'kr8s'\", name='kr8s')")

    done = _shardwise("get", KUBECONFIG=_kubeconfig(tmp_path / "k", "https://127.0.0.1:1"), PYTHONPATH=str(tmp_path))

    assert done.code == 1
    assert done.err == "the commands for a cluster need the package kr8s: pip install 'shardwise[client]'\n"


def test_submit_judges_a_manifest_before_it_looks_for_a_cluster(tmp_path: Path) -> None:
    path = _manifest(tmp_path / "run.yaml", "sharding.shards=0", "engine.kato.chunks=3")

    done = _shardwise("submit", path, KUBECONFIG=str(tmp_path / "none"))

    assert done.code == 2
    assert "spec.sharding.shards: must be at least 1, got 0" in done.err
    assert "spec.engine.kato.chunks: unknown field" in done.err


def test_submit_refuses_paths_that_only_a_laptop_could_resolve(tmp_path: Path) -> None:
    path = _manifest(tmp_path / "run.yaml", "engine.kato.store.uri=sqlite:///p.db")

    done = _shardwise("submit", path, KUBECONFIG=str(tmp_path / "none"))

    assert done.code == 2
    assert (
        "spec.engine.kato.store.uri: 'sqlite:///p.db' is relative, and a pod has no folder of the manifest" in done.err
    )


def test_submit_refuses_a_generated_name(tmp_path: Path) -> None:
    path = _manifest(tmp_path / "run.yaml", "metadata.generateName=words-")

    done = _shardwise("submit", path, KUBECONFIG=str(tmp_path / "none"))

    assert done.code == 2
    assert "metadata.generateName: is not supported" in done.err


def test_a_dry_run_by_the_client_needs_no_cluster_and_prints_what_would_be_sent(tmp_path: Path) -> None:
    path = _manifest(tmp_path / "run.yaml")

    done = _shardwise(
        "submit", path, "--dry-run=client", "--set", "sharding.shards=9", KUBECONFIG=str(tmp_path / "none")
    )

    assert done.code == 0
    assert yaml.safe_load(done.out)["spec"]["sharding"] == {"shards": 9, "parallelism": 2}


def test_render_needs_no_cluster_and_prints_documents_that_a_program_can_read(tmp_path: Path) -> None:
    path = _manifest(tmp_path / "run.yaml")

    done = _shardwise("render", path, "--worker-image", "w:1", "-n", "team", KUBECONFIG=str(tmp_path / "none"))

    children = list(yaml.safe_load_all(done.out))
    assert done.code == 0
    assert {child["metadata"]["namespace"] for child in children} == {"team"}
    assert [child["kind"] for child in children].count("Job") == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("get words -A", "-A shows all namespaces"),
        ("get pod/words", "'pod' is not a kind of run; write trun/words or irun/words"),
        ("logs words -f --previous", "--previous is over"),
        ("logs words --step prepare --shard 1", "step prepare has no shards"),
        ("logs words --shard one", "write 3, or 0-4,7"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_2(words: str, told: str, tmp_path: Path) -> None:
    with _server(_WithoutShardwise) as url:
        done = _shardwise(*words.split(), KUBECONFIG=_kubeconfig(tmp_path / "k", url))

    assert done.code == 2
    assert told in done.err
