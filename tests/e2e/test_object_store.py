"""Texts and results in an object store: no volume, keys from a Secret, the same digest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.settings import MACHINE_ADDRESS
from tests.support import expected, s3
from tests.support.kube import Cluster
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SAMPLES = 200


@pytest.fixture
def store(own_cluster: Cluster) -> Iterator[s3.S3Server]:
    """An S3-compatible server where pods reach it."""
    with s3.s3_server(address=MACHINE_ADDRESS) as server:
        yield server


def test_a_run_from_an_object_store_into_an_object_store_has_the_digest_of_one_process(
    workspace: Workspace, store: s3.S3Server
) -> None:
    store.bucket("texts")
    store.bucket("results")
    store.client.upload_file(str(expected.CORPUS), "texts", "pydocs.jsonl")
    keys = [f"--from-literal={name}={value}" for name, value in store.environment.items()]
    workspace.cluster.kubectl("create", "secret", "generic", "keys", *keys)
    output = {"uri": "s3://results/run", "secretRef": {"name": "keys"}}
    manifest = workspace.manifest("s3", samples=SAMPLES, output=output)
    manifest["spec"]["engine"]["kato"]["dataset"]["files"] = {"uris": ["s3://texts/pydocs.jsonl"]}
    del manifest["spec"]["worker"]
    run = workspace.apply(manifest)

    status = run.complete()

    assert status.result is not None
    assert status.result.digest == expected.digest_of(SAMPLES)
    assert status.result.uri == "s3://results/run/summary.json"
    written = store.objects("results")
    assert status.result.digest.encode() in written["run/summary.json"]
    assert written["run/patterns.png"].startswith(b"\x89PNG")
    assert s3.KEYS["AWS_SECRET_ACCESS_KEY"] not in str(run.body)
