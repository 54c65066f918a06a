"""No secret that a process knows leaves it: not in a log, an error, a termination message or a report."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from shardwise.engine.errors import BadConfiguration, WorkError
from shardwise.engine.progress import ProgressSender
from shardwise.engine.secrets import known, struck
from shardwise_api.uris import secrets_of
from shardwise_api.wire import ItemCounts, Step
from shardwise_jobs.engines.ingest.stores import open_store as open_rows
from shardwise_jobs.engines.ingest.tmd.ollama_wire import OllamaWire
from shardwise_jobs.engines.kato.http import HttpClient
from shardwise_jobs.engines.kato.stores import open_store as open_patterns
from tests.support.cli import BASE
from tests.support.worker import Pods
from tests.unit.test_uris import AMBIGUOUS, SECRET


@pytest.mark.parametrize("uri", AMBIGUOUS)
def test_whatever_a_driver_cuts_out_of_a_uri_is_struck(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDWISE_STORE_URI", uri)
    if secrets_of(uri):
        assert SECRET not in str(WorkError(f'could not translate host name "{SECRET}@h" to address; {uri}'))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", SECRET),
        ("AZURE_STORAGE_ACCOUNT_KEY", SECRET),
        ("HF_TOKEN", SECRET),
        ("PGPASSWORD", SECRET),
        ("HTTPS_PROXY", f"http://u:{SECRET}@proxy:1"),
        ("PG_DSN", f"host=h user=u password='{SECRET}'"),
    ],
)
def test_secrets_of_the_environment_are_known(name: str, value: str) -> None:
    assert SECRET in known({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", "AKIA1234"),
        ("SHARDWISE_PROGRESS_TOKEN_FILE", "/var/run/token"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("MAX_TOKENS", "1000"),
        ("SHARDWISE_STORE_URI", "sqlite:////data/patterns.db"),
        ("SHARDWISE_STORE_URI", "mongodb://host:27017/db"),
        ("DB_PASSWORD", "abc"),
    ],
)
def test_other_variables_are_no_secrets(name: str, value: str) -> None:
    assert known({name: value}) <= known({})


def test_a_secret_is_struck_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a/b'c\\d")
    for form in ("a/b'c\\d", "a%2Fb%27c%5Cd", repr("a/b'c\\d")):
        assert "b" not in struck(f"< {form} >")


def test_a_report_has_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    sender = ProgressSender(target=tmp_path.as_uri(), run="r", shard=0)
    sender.send(ItemCounts(done=1), message=f"waits for {SECRET}", last=True)
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["message"] == "waits for ***"


SECRET_URIS = [
    f"mongodb://u:{SECRET}@127.0.0.1:abc/db",
    f"mongodb://u:{SECRET}/x@127.0.0.1:1/db",
    f"mongodb://u:s[{SECRET}@127.0.0.1:1/",
    f"mongodb://u:50%{SECRET}@127.0.0.1:1/",
    f"mysql://u:{SECRET}@127.0.0.1:1/db",
]


@pytest.mark.parametrize("uri", SECRET_URIS)
def test_a_pattern_stores_uri_that_is_none_is_refused_without_its_secret(uri: str) -> None:
    with pytest.raises(BadConfiguration, match=r"store\.uri") as caught:
        open_patterns(uri)
    assert SECRET not in str(caught.value)
    if "[" in uri or "%" in uri:
        assert "percent-encoded" in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"postgresql://u:p@{SECRET}@127.0.0.1:1/db",
        f"postgresql://u:1/{SECRET}@127.0.0.1:1/db",
        f"postgresql://u:{SECRET}@127.0.0.1:port{SECRET}/db",
        f"postgresql://u:{SECRET}@127.0.0.1:1/db?nope={SECRET}",
        f"postgresql://u:{SECRET}@127.0.0.1:1/db?sslmode={SECRET}",
    ],
)
def test_a_row_stores_uri_that_is_none_is_told_without_its_secret(uri: str) -> None:
    with pytest.raises(WorkError) as caught:
        open_rows(uri, attempts=1).check()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None or isinstance(caught.value, WorkError)


def test_an_honest_password_of_a_store_is_no_mistake() -> None:
    open_rows("postgresql://u:a%40b:c[d]@127.0.0.1:1/db").close()


def test_urls_of_servers_are_shown_without_their_secrets() -> None:
    url = f"http://u:{SECRET}@127.0.0.1:1/base?key={SECRET}"
    wire = HttpClient(base_url=url)
    assert wire.shown_url == "http://127.0.0.1:1/base"
    wire.close()
    assert OllamaWire(endpoint=url, timeout_seconds=1, connections=1).shown_url == "http://127.0.0.1:1/base"


def test_nothing_that_a_worker_leaves_has_a_secret_of_it(tmp_path: Path) -> None:
    manifest: dict[str, Any] = json.loads(json.dumps(BASE))
    manifest["spec"]["output"] = {"uri": str(tmp_path / "output")}
    kato = manifest["spec"]["engine"]["kato"]
    kato["store"] = {"secretRef": {"name": "a", "key": "b"}}
    kato["dataset"]["files"]["uris"] = [f"/{SECRET}/samples.jsonl"]
    pods = Pods(
        folder=tmp_path, manifest=manifest,
        environment={"SHARDWISE_STORE_URI": f"mongodb://u:{SECRET}@127.0.0.1:1/db?serverSelectionTimeoutMS=100"},
    )  # fmt: skip
    ended = pods.run(Step.PREPARE)
    assert ended.failure.reason == "InvalidSpec"
    assert "/***/samples.jsonl" in ended.failure.message
    assert SECRET not in ended.message + ended.log


def test_a_traceback_and_a_print_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from shardwise.engine.secrets import StruckStream

    monkeypatch.setenv("HF_TOKEN", SECRET)
    with (tmp_path / "log").open("w") as file:
        handler = logging.StreamHandler(StruckStream(file))
        log = logging.Logger("own")
        log.addHandler(handler)
        try:
            raise ValueError(SECRET)
        except ValueError:
            log.exception("unexpected %s", SECRET)
        print(SECRET, file=StruckStream(file))
    assert SECRET not in (tmp_path / "log").read_text()
