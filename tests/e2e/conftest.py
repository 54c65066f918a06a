"""A real cluster for the tests that need one: the one KUBECONFIG names, or our own, brought up and removed again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.support.kube import Cluster
from tests.support.require import missing

_HOW_TO_GET = "Run the tests as root on Debian by `make test-e2e`, or set KUBECONFIG, for example to `make kind-up`'s."


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that break and remove the cluster behind all others, whatever their files are called."""
    items.sort(key=lambda item: item.get_closest_marker("breaks_cluster") is not None)


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
    try:
        yield Cluster(kubeconfig=Path(manage("kubeconfig").stdout.strip()), own=True)
    finally:
        manage("down")


@pytest.fixture
def own_cluster(cluster: Cluster) -> Cluster:
    """A cluster that may be looked at from below, and broken."""
    if not cluster.own:
        pytest.skip("about our own cluster, and KUBECONFIG names another")
    return cluster


def manage(command: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.cluster` as a person would."""
    words = [sys.executable, "-m", "tests.cluster", command, *map(str, arguments)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result
