"""Inputs over HTTP and S3, artefacts on S3: the digest is that of files, and whatever is wrong is said clearly."""

from __future__ import annotations

import copy
import gzip
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardwise_api.wire import ExitCode, Step
from tests.support.cli import BASE, Folder
from tests.support.expected import CORPUS, digest_of
from tests.support.flaky_proxy import Fault, flaky_proxy
from tests.support.kato_server import kato_server
from tests.support.s3 import KEYS, S3Server, s3_server
from tests.support.web import serving_files
from tests.support.worker import Pods

SAMPLES = 60
LINES = b"".join(CORPUS.read_bytes().splitlines(keepends=True)[:SAMPLES])
PNG_END = b"IEND\xaeB`\x82"
OUTPUT = "spec.output.uri"
URIS = "spec.engine.kato.dataset.files.uris"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own with the samples in it."""
    name = s3.bucket(f"b-{abs(hash(request.node.nodeid)):x}")
    s3.client.put_object(Bucket=name, Key="in/samples.jsonl", Body=LINES)
    s3.client.put_object(Bucket=name, Key="in/packed.jsonl.gz", Body=gzip.compress(LINES))
    return name


@pytest.fixture
def pods(s3: S3Server, bucket: str, tmp_path: Path) -> Pods:
    """A run that reads from the bucket and writes into it."""
    manifest: dict[str, Any] = copy.deepcopy(BASE)
    manifest["spec"]["sharding"] = {"shards": 2}
    manifest["spec"]["output"] = {"uri": f"s3://{bucket}/out/run", "secretRef": {"name": "keys"}}
    kato = manifest["spec"]["engine"]["kato"]
    kato["store"] = {"uri": f"sqlite:///{tmp_path}/patterns.db"}
    kato["dataset"]["files"]["uris"] = [f"s3://{bucket}/in/samples.jsonl"]
    return Pods(folder=tmp_path, manifest=manifest, environment=dict(s3.environment))


def files_of(pods: Pods) -> dict[str, Any]:
    found: dict[str, Any] = pods.manifest["spec"]["engine"]["kato"]["dataset"]["files"]
    return found


def refused(pods: Pods, *says: str, code: ExitCode) -> None:
    ended = pods.prepare()
    assert ended.code == code, ended.log
    assert "Traceback" not in ended.log
    for words in says:
        assert words in ended.failure.message
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in ended.log + ended.message


def test_a_run_from_s3_to_s3_has_the_digest_of_files_and_whole_artefacts(s3: S3Server, bucket: str, pods: Pods) -> None:
    result = pods.result()
    assert result.digest == digest_of(SAMPLES)
    assert result.uri == f"s3://{bucket}/out/run/summary.json"
    objects = s3.objects(bucket)
    assert sorted(key for key in objects if key.startswith("out/")) == ["out/run/patterns.png", "out/run/summary.json"]
    assert json.loads(objects["out/run/summary.json"])["digest"] == result.digest
    assert objects["out/run/patterns.png"].endswith(PNG_END)


def test_packed_files_on_s3_are_the_same_samples(bucket: str, pods: Pods) -> None:
    files_of(pods)["uris"] = [f"s3://{bucket}/in/packed.jsonl.gz"]
    assert pods.result().digest == digest_of(SAMPLES)


@pytest.mark.parametrize("name", ["samples.jsonl", "packed.jsonl.gz"])
def test_files_of_a_web_server_are_the_same_samples(pods: Pods, tmp_path: Path, name: str) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / name).write_bytes(gzip.compress(LINES) if name.endswith(".gz") else LINES)
    with serving_files(tmp_path / "web") as url:
        files_of(pods)["uris"] = [f"{url}/{name}"]
        assert pods.result().digest == digest_of(SAMPLES)


def test_parquet_on_s3_is_read_where_it_lies(s3: S3Server, bucket: str, pods: Pods, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    texts = [json.loads(line)["text"] for line in LINES.splitlines()]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "samples.parquet")
    s3.client.upload_file(str(tmp_path / "samples.parquet"), bucket, "in/samples.parquet")
    files_of(pods).update(uris=[f"s3://{bucket}/in/samples.parquet"], format="parquet")
    assert pods.result().digest == digest_of(SAMPLES)


def test_the_local_runner_reads_and_writes_s3_too(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    folder = Folder(path=tmp_path, samples=0, environment=s3.environment)
    folder.manifest["spec"]["output"] = {"uri": f"s3://{bucket}/out"}
    folder.kato["dataset"]["files"]["uris"] = [f"s3://{bucket}/in/samples.jsonl"]
    done = folder.run()
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == digest_of(SAMPLES)
    assert "out/summary.json" in s3.objects(bucket)


def test_a_rest_run_keeps_its_ledger_on_s3_and_goes_on_from_it(
    s3: S3Server, bucket: str, pods: Pods, tmp_path: Path
) -> None:
    kato = pods.manifest["spec"]["engine"]["kato"]
    del kato["store"]
    with kato_server(store_uri=f"sqlite:///{tmp_path}/server.db") as server:
        kato.update(transport="Rest", server={"url": server.url})
        assert pods.result().digest == digest_of(SAMPLES)
        assert {f"out/run/ledger/{pods.uid}/shard-{shard}.jsonl" for shard in (0, 1)} <= s3.objects(bucket).keys()
        assert pods.prepare().code == 0
        assert pods.prepared is not None
        assert pods.prepared.already_complete


@pytest.mark.parametrize(("fault", "left"), [(Fault.CUT_BEFORE, []), (Fault.CUT_AFTER, ["out/run/patterns.png"])])
def test_a_finalize_that_is_killed_while_it_writes_leaves_whole_files_or_none(
    s3: S3Server, bucket: str, pods: Pods, fault: Fault, left: list[str]
) -> None:
    assert pods.prepare().code == 0
    for shard in (0, 1):
        assert pods.run(Step.WORK, shard=shard).code == 0
    with flaky_proxy(s3.url) as proxy:
        pods.environment = {**s3.environment, "AWS_ENDPOINT_URL": proxy.url}
        process = pods.start(Step.FINALIZE)
        proxy.lose("patterns.png", fault, then=process.kill)
        assert pods.end(process).code == -9
        assert proxy.pending == 0
    there = {key: content for key, content in s3.objects(bucket).items() if key.startswith("out/")}
    assert list(there) == left
    assert all(content.endswith(PNG_END) for content in there.values())
    pods.environment = s3.environment
    ended = pods.run(Step.FINALIZE)
    assert ended.code == 0, ended.log
    assert digest_of(SAMPLES) in ended.message


def test_a_request_that_gets_lost_is_sent_again(s3: S3Server, pods: Pods) -> None:
    with flaky_proxy(s3.url) as proxy:
        pods.environment = {**s3.environment, "AWS_ENDPOINT_URL": proxy.url}
        for name in ("samples.jsonl", "patterns.png"):
            proxy.lose(name, Fault.CUT_BEFORE)
        assert pods.result().digest == digest_of(SAMPLES)
        assert proxy.pending == 0


# -- what can be wrong


def test_a_missing_bucket_is_named_before_any_work(pods: Pods) -> None:
    pods.manifest["spec"]["output"]["uri"] = "s3://there-is-none/out"
    refused(pods, OUTPUT, "s3://there-is-none/out", "no such bucket", code=ExitCode.BAD_CONFIGURATION)


def test_a_missing_object_is_named(bucket: str, pods: Pods) -> None:
    files_of(pods)["uris"] = [f"s3://{bucket}/in/other.jsonl"]
    refused(pods, URIS, f"s3://{bucket}/in/other.jsonl", "no such", code=ExitCode.BAD_CONFIGURATION)


def test_wrong_keys_are_a_matter_of_the_secret(s3: S3Server, pods: Pods) -> None:
    with s3.checking_keys():
        refused(pods, OUTPUT, "access refused", "spec.output.secretRef", code=ExitCode.BAD_CONFIGURATION)


def test_no_keys_at_all_are_a_matter_of_the_secret(s3: S3Server, pods: Pods, tmp_path: Path) -> None:
    pods.environment = {
        **{name: value for name, value in s3.environment.items() if name not in KEYS},
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(tmp_path),
    }
    with s3.checking_keys():
        refused(pods, OUTPUT, "access refused", "spec.output.secretRef", code=ExitCode.BAD_CONFIGURATION)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


def test_an_endpoint_that_is_not_there_may_come_back(s3: S3Server, pods: Pods, closed_port: int) -> None:
    pods.environment = {**s3.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed_port}"}
    refused(pods, OUTPUT, f"127.0.0.1:{closed_port}", "can't be reached", code=ExitCode.FAILED)


def test_parquet_on_an_endpoint_that_is_not_there_may_come_back(
    s3: S3Server, pods: Pods, tmp_path: Path, closed_port: int
) -> None:
    pods.manifest["spec"]["output"] = {"uri": str(tmp_path / "out")}
    files_of(pods).update(uris=["s3://bucket/samples.parquet"], format="parquet")
    pods.environment = {**s3.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed_port}"}
    refused(pods, URIS, f"127.0.0.1:{closed_port}", "can't be reached", code=ExitCode.FAILED)


def test_a_web_server_that_is_not_there_may_come_back(pods: Pods, closed_port: int) -> None:
    files_of(pods)["uris"] = [f"http://127.0.0.1:{closed_port}/x.jsonl?signature=hidden"]
    pods.environment = {
        **pods.environment, "SHARDWISE_URL_CREDENTIALS": f"http://user:secret@127.0.0.1:{closed_port}",
    }  # fmt: skip
    refused(pods, URIS, f"127.0.0.1:{closed_port}/x.jsonl", "can't be reached", code=ExitCode.FAILED)


def test_what_a_web_server_has_not_is_named_without_its_signature(pods: Pods, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    with serving_files(tmp_path / "web") as url:
        files_of(pods)["uris"] = [f"{url}/x.jsonl?signature=hidden"]
        refused(pods, URIS, f"{url}/x.jsonl", "answered 404", code=ExitCode.BAD_CONFIGURATION)
        assert "hidden" not in pods.prepare().log


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("http", "aiohttp", "kato")])
def test_a_missing_package_names_its_extra(
    pods: Pods, tmp_path: Path, missing_package: Callable[[str], Path], scheme: str, package: str, extra: str
) -> None:
    pods.manifest["spec"]["output"] = {"uri": str(tmp_path / "out")}
    files_of(pods)["uris"] = [f"{scheme}://bucket/x.jsonl"]
    pods.environment = {**pods.environment, "PYTHONPATH": str(missing_package(package))}
    refused(pods, URIS, f"shardwise[{extra}]", code=ExitCode.BAD_CONFIGURATION)


@pytest.fixture
def missing_package(tmp_path: Path) -> Callable[[str], Path]:
    """Make a folder that, first on the path, makes a package as good as absent."""

    def made(package: str) -> Path:
        folder = tmp_path / "path"
        folder.mkdir()
        (folder / f"{package}.py").write_text(f"raise ImportError('No module named {package}')\n", encoding="utf-8")
        return folder

    return made
