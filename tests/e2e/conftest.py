"""A real cluster for the tests that need one: the one KUBECONFIG names, or our own, brought up and removed again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.beside import BESIDE, Beside, is_beside
from tests.e2e.image_fixtures import built_images, images
from tests.e2e.installed import Installed, installed
from tests.support import helm
from tests.support.kube import Cluster
from tests.support.leash import leashed
from tests.support.require import missing
from tests.support.workspace import Workspace
from tests.support.workspace import workspace as new_workspace

__all__ = ["built_images", "images"]

_HOW_TO_GET = "Run the tests as root on Debian by `make test-e2e`, or set KUBECONFIG, for example to `make kind-up`'s."


_LAST = ("queues", "beside", "after_runs", "loses_node", "breaks_cluster")
"""Markers of tests that come behind all others, in this order, whatever their files are called."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that look back at what others did, and those that break the cluster, where they belong."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    return max((_LAST.index(marker.name) + 1 for marker in item.iter_markers() if marker.name in _LAST), default=0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Ask a test that was begun long ago how it ended."""
    if not is_beside(pyfuncitem):
        return None
    pyfuncitem.config.stash[BESIDE].result(pyfuncitem)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what has crashed in our own cluster, which is often the whole explanation."""
    report = yield
    if (
        report.failed
        and report.when != "teardown"
        and "cluster" in getattr(item, "fixturenames", ())
        and "KUBECONFIG" not in os.environ
    ):
        status = manage("status", check=False)
        if status.returncode != 0:
            report.sections.append(("The cluster is not well", status.stdout))
    return report


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster under test. An own one that was up before is used, and removed all the same."""
    if given := os.environ.get("KUBECONFIG"):
        yield Cluster(kubeconfig=Path(given), own=False)
        return
    if os.geteuid() != 0 or sys.platform != "linux":
        missing("a cluster", _HOW_TO_GET)
    manage("up")
    # Built beside the tests that come before those that need it.
    queues = subprocess.Popen(
        leashed(sys.executable, "-m", "tests.cluster", "kueue"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield Cluster(kubeconfig=Path(manage("kubeconfig").stdout.strip()), own=True)
    finally:
        queues.kill()
        queues.wait()
        # For whoever writes tests: the next run starts at once.
        if not os.environ.get("SHARDWISE_KEEP_CLUSTER"):
            manage("down")


@pytest.fixture
def own_cluster(cluster: Cluster) -> Cluster:
    """A cluster that may be looked at from below, and broken."""
    if not cluster.own:
        missing(
            "a cluster of our own (KUBECONFIG names another)", "Unset KUBECONFIG and run the tests as root on Debian."
        )
    return cluster


@pytest.fixture(scope="session")
def shardwise(cluster: Cluster, images: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Installed]:
    """The operator with a MongoDB and a KATO server, installed by Helm."""
    with installed(cluster=cluster, images=images, helm=str(helm.find())) as this:
        long = [item for item in request.session.items if is_beside(item) and cluster.own]
        beside = Beside(long, corner=partial(_corner, cluster, this, name="beside"))
        request.config.stash[BESIDE] = beside
        yield this
        beside.stop()


@pytest.fixture
def workspace(own_cluster: Cluster, shardwise: Installed, request: pytest.FixtureRequest) -> Iterator[Workspace | None]:
    """A namespace for runs, with a volume that holds the example corpus."""
    if is_beside(request.node):
        # It has one already.
        yield None
        return
    with _corner(own_cluster, shardwise, name="runs") as this:
        yield this


@pytest.fixture
def cluster_corner(own_cluster: Cluster, shardwise: Installed) -> Iterator[Workspace]:
    """Another such namespace."""
    with _corner(own_cluster, shardwise, name="others") as this:
        yield this


def _corner(cluster: Cluster, shardwise: Installed, *, name: str) -> AbstractContextManager[Workspace]:
    # Below the cluster's folder: what a killed test leaves there goes with the cluster.
    root = cluster.kubeconfig.parents[1] / "data"
    return new_workspace(cluster=cluster, name=name, root=root, mongo=shardwise.mongo, kato=shardwise.kato)


def manage(command: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.cluster` as a person would."""
    words = [sys.executable, "-m", "tests.cluster", command, *map(str, arguments)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result
