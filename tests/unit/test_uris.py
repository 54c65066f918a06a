"""Paths are paths whatever is in their names; URIs say what they mean, once, and are shown without their secrets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.engine import remote
from shardwise.engine.errors import BadConfiguration
from shardwise.engine.files import OutputFolder, local_path, open_input
from shardwise_api import uris
from shardwise_api.manifest import InvalidManifest, resolve_paths
from shardwise_jobs.engines.ingest import stores as row_stores
from shardwise_jobs.engines.kato import stores as pattern_stores
from tests.support.manifests import INGEST, KATO, REST, complaints, parse

ODD_NAMES = [
    "exp#1",
    "what?",
    "100%41 data",
    "a*b[c]{d}",
    "zip::http:",
    "~",
    "~root",
    "a\nb",
    "naïve\udce9",
    "%00",
    "x:/y",
]
SECRET = "S3cr3tPw"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folders_name_is_the_same_in_every_uri_that_is_made_of_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "file"
    assert uris.local_path(str(path)) == path
    assert uris.local_path(uris.file_uri(path)) == path
    assert uris.local_path(path.as_uri()) == path
    assert uris.sqlite_path(uris.sqlite_uri(path)) == path
    assert row_stores.sqlite_path(uris.sqlite_uri(path)) == pattern_stores.sqlite_path(uris.sqlite_uri(path)) == path


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_every_name_survives_the_way_to_a_uri_and_back(name: str) -> None:
    assert uris.local_path(uris.file_uri(f"/{name}")) == Path(f"/{name}")
    assert uris.sqlite_path(uris.sqlite_uri(f"/{name}")) == Path(f"/{name}")


@pytest.mark.parametrize("name", ["exp#1", "what?", "100%41 data", "~", "[a]*", "a::b"])
def test_all_files_of_a_manifest_are_beside_it(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    run = resolve_paths(
        parse(
            KATO, "output.uri=file://out", "engine.kato.dataset.files.uris=[d.jsonl, 'file://e.jsonl', '~/f', 'a::b']"
        ),
        base=folder,
    )
    spec = run.spec_document()
    kato = spec["engine"]["kato"]
    assert pattern_stores.sqlite_path(kato["store"]["uri"]) == folder / "patterns.db"
    assert [local_path(uri) for uri in kato["dataset"]["files"]["uris"]] == [
        folder / "d.jsonl", folder / "e.jsonl", folder / "~" / "f", folder / "a::b",
    ]  # fmt: skip
    assert local_path(OutputFolder(spec["output"]["uri"]).uri_of("summary.json")) == folder / "out" / "summary.json"
    assert resolve_paths(run, base=tmp_path / "elsewhere") == run

    rows = resolve_paths(parse(INGEST), base=folder).spec_document()["store"]["uri"]
    assert row_stores.sqlite_path(rows) == folder / "chunks.db"


@pytest.mark.parametrize("name", ["exp#1", "what?", "100%41 data", "[a]*", "a::b", "~x"])
@pytest.mark.parametrize("packed", [False, True])
def test_inputs_and_artefacts_are_found_by_their_names(name: str, packed: bool, tmp_path: Path) -> None:
    folder = OutputFolder((tmp_path / name).as_uri())
    content = gzip.compress(b"text") if packed else b"text"
    written = folder.child(f"below {name}").write_bytes(f"{name}{'.gz' if packed else ''}", content)
    for uri in (written, str(uris.local_path(written))):
        with open_input(uri, field="spec.input") as stream:
            assert stream.read() == b"text"
    assert (tmp_path / name / f"below {name}").is_dir()


def test_a_relative_name_that_looks_like_a_home_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("~").mkdir()
    Path("~/x.gz").write_bytes(gzip.compress(b"text"))
    with open_input("~/x.gz", field="spec.input") as stream:
        assert stream.read() == b"text"


@pytest.mark.parametrize("uri", ["file:///a?b", "file:///a#b", "sqlite:///a?b", "sqlite:///a#b"])
def test_options_of_a_file_are_refused_and_not_cut_off(uri: str) -> None:
    kind = "store" if uri.startswith("sqlite") else "output"
    changes = {"store": f"engine.kato.store.uri={uri}", "output": f"output.uri={uri}"}
    (line,) = complaints(KATO, changes[kind])
    assert line.startswith("spec.")
    assert "a file takes no options; in its name write %3F for a question mark, %23 for #" in line


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ('engine.kato.store.uri="sqlite:///a\\0b"', "spec.engine.kato.store.uri"),
        ('engine.kato.store.uri="sqlite:///a%00b"', "spec.engine.kato.store.uri"),
        ('output.uri="a\\0b"', "spec.output.uri"),
        ('engine.kato.dataset.files.uris=["file:///a%00"]', "spec.engine.kato.dataset.files.uris[0]"),
        ('engine.kato.tokenizer={file: "a\\0"}', "spec.engine.kato.tokenizer.file"),
        ('engine.kato.dataset={hub: {path: "./a\\0"}}', "spec.engine.kato.dataset.hub.path"),
    ],
)
def test_a_nul_is_no_part_of_a_name(override: str, field: str) -> None:
    assert complaints(KATO, override) == [f"{field}: has a NUL character, which no name can have"]


def test_a_nul_outside_of_manifests_is_bad_configuration_too() -> None:
    for use in (
        lambda: OutputFolder("a\0b"),
        lambda: pattern_stores.open_store("sqlite:///a%00b"),
        lambda: row_stores.open_store("sqlite:///a\0b"),
    ):
        with pytest.raises(BadConfiguration, match="NUL"):
            use()


@pytest.mark.parametrize(
    ("folder", "name", "uri"),
    [
        ("/a b", "c#d", "/a b/c#d"),
        ("file:///a%20b", "c#d/e", "file:///a%20b/c%23d/e"),
        ("file:///", "c", "file:///c"),
        ("s3://bucket", "c#d", "s3://bucket/c#d"),
    ],
)
def test_a_file_in_a_folder_has_the_folders_kind_of_uri(folder: str, name: str, uri: str) -> None:
    assert uris.joined(folder, name) == uri


@pytest.mark.parametrize(
    "uri",
    ["ftp://h/x", "github://org:repo@main/x", "zip://a.jsonl::https://h/x.zip", "simplecache::s3://b/x", "data:,x"],
)
def test_only_known_schemes_are_opened(uri: str, tmp_path: Path) -> None:
    run = parse(KATO, f"engine.kato.dataset.files.uris={json.dumps([uri])}")
    if not uris.is_uri(uri):
        assert resolve_paths(run, base=tmp_path) != run
        return
    with pytest.raises(InvalidManifest, match=r"uris\[0\]: scheme .*:// is not allowed; .*SHARDWISE_URI_SCHEMES"):
        resolve_paths(run, base=tmp_path)
    with pytest.raises(BadConfiguration, match=r"spec\.input: .*not allowed"), open_input(uri, field="spec.input"):
        pass


def test_an_administrator_may_allow_more(memory_uris: None) -> None:
    remote.write("memory://here/x::y", b"text", field="spec.output.uri")
    assert remote.read("memory://here/x::y", field="spec.output.uri") == b"text"


AMBIGUOUS = [
    f"postgresql://u:{SECRET}@h:1/db",
    f"postgresql://u:p@{SECRET}@h:1/db",
    f"postgresql://u:1/{SECRET}@h:1/db",
    f"postgresql://u:a:{SECRET}@h:1/db",
    f"postgresql://u:a?{SECRET}@h:1/db",
    f"postgresql://u:a#{SECRET}@h:1/db",
    f"postgresql://h:port{SECRET}/db",
    f"postgresql://h/db?user=u&password={SECRET}",
    f"mongodb://u:s[{SECRET}@h:1/",
    f"zip://a.jsonl::http://u:{SECRET}@h:1/x.zip?sig={SECRET}",
    f"simplecache::http://u:{SECRET}@h:1/x.jsonl?sig={SECRET}",
    f"http://u:a::{SECRET}@h/x",
    f"s3://KEY:{SECRET}@bucket/x.jsonl",
    f"ftp://u:{SECRET}@h:1/x.jsonl",
    f"http://h:1/?key={SECRET}",
    f"https://h/x#{SECRET}",
]


@pytest.mark.parametrize("uri", AMBIGUOUS)
def test_nothing_of_a_secret_is_shown(uri: str) -> None:
    assert SECRET not in uris.redacted(uri)
    assert uris.scheme_of(uris.redacted(uri)) == uris.scheme_of(uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/a:b@c?d#e", "/a:b@c?d#e"),
        ("file:///a%23b", "file:///a%23b"),
        ("s3://bucket/a@b/c.jsonl", "s3://bucket/a@b/c.jsonl"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x"),
        ("mongodb://h1:27017,h2:27017/db", "mongodb://h1:27017,h2:27017/db"),
        ("https://u:p@host/a?x=1", "https://***@host/a?…"),
    ],
)
def test_what_is_no_secret_is_shown(uri: str, shown: str) -> None:
    assert uris.redacted(uri) == shown


@pytest.mark.parametrize(
    ("text", "field", "uri"),
    [
        (INGEST, "store.uri", f"postgresql://h/db?user=u&password={SECRET}"),
        (INGEST, "store.uri", f"postgresql://h/db?user=u&PassWord={SECRET}"),
        (INGEST, "store.uri", f"postgresql://h/db?user=u&pass%77ord={SECRET}"),
        (INGEST, "store.uri", f"postgresql://u:1/{SECRET}@h/db"),
        (INGEST, "store.uri", f"postgresql://h/db?sslpassword={SECRET}"),
        (KATO, "engine.kato.store.uri", f"mongodb://h/?tlsCertificateKeyFilePassword={SECRET}"),
        (KATO, "engine.kato.store.uri", f"mongodb://u:a@{SECRET}@h/"),
        (KATO, "output.uri", f"s3://KEY:{SECRET}@bucket/x"),
        (KATO, "engine.kato.dataset.files.uris", f"[https://h/x, 's3://KEY:{SECRET}@bucket/x']"),
        (INGEST, "store.uri", f"postgresql://h/db?api_key={SECRET}"),
    ],
)
def test_a_password_in_a_manifest_is_refused_with_its_field(text: str, field: str, uri: str) -> None:
    (line,) = complaints(text, f"{field}={uri}")
    assert line.startswith(f"spec.{field}")
    assert "a password does not belong in a manifest" in line
    assert SECRET not in line


WEB_FIELDS = [
    (KATO, "output.uri", "{}", ""),
    (KATO, "engine.kato.dataset.files.uris", "['{}']", "[0]"),
    (INGEST, "source.files.uris", "[a.jsonl, '{}']", "[1]"),
    (REST, "engine.kato.server.url", "{}", ""),
    (INGEST, "tmd", "{{backend: ollama, model: m, url: '{}'}}", ".url"),
]
HIDING = [
    f"https://u:{SECRET}@h/x",
    f"http://u:a/{SECRET}@h/x",
    f"https://h/x?a=1&token={SECRET}",
    f"https://h/x?api_key={SECRET}",
    f"https://h/x?Access%54oken={SECRET}",
    f"https://h/x?authorization={SECRET}",
]
SIGNED = [
    f"https://b.s3.amazonaws.com/x?X-Amz-Credential=a%2Fb&X-Amz-Security-Token=t&X-Amz-Signature={SECRET}",
    f"https://a.blob.core.windows.net/c/x?sv=2025&sr=b&sig={SECRET}",
    f"https://storage.googleapis.com/b/x?GoogleAccessId=a&Expires=1&Signature={SECRET}",
]
CHAINED = "zip://a.jsonl::"


def _web_complaints(field: tuple[str, str, str, str], uri: str) -> list[str]:
    text, name, form, _ = field
    return complaints(text, f"{name}={form.format(uri)}")


@pytest.mark.parametrize("uri", [*HIDING, *(f"{CHAINED}{uri}" for uri in HIDING)])
@pytest.mark.parametrize("field", WEB_FIELDS, ids=lambda field: field[1])
def test_no_field_that_names_a_web_server_holds_a_secret(field: tuple[str, str, str, str], uri: str) -> None:
    (line,) = _web_complaints(field, uri)
    assert line.startswith(f"spec.{field[1]}{field[3]}: ")
    assert SECRET not in line
    if uri.startswith("http"):
        assert "does not belong in a manifest" in line
        assert "SHARDWISE_URL_CREDENTIALS" in line
        assert "spec.worker.env or envFrom" in line


@pytest.mark.parametrize("uri", SIGNED)
@pytest.mark.parametrize("field", WEB_FIELDS, ids=lambda field: field[1])
def test_a_presigned_url_is_an_input_and_nothing_else(field: tuple[str, str, str, str], uri: str) -> None:
    if field[1].endswith("files.uris"):
        text, name, form, _ = field
        parse(text, f"{name}={form.format(uri)}")
        parse(text, f"{name}={form.format(CHAINED + uri)}")
        (line,) = _web_complaints(field, f"{uri}&token=x")
        assert "option token does not belong" in line
    else:
        (line,) = _web_complaints(field, uri)
        assert "does not belong in a manifest" in line


@pytest.mark.parametrize(
    "uri",
    [
        "https://user@h/x",
        "https://h:8443/package@1.0/x",
        "https://h/a:b@c",
        "https://h/x?page=1&tokenizer=t&author=a",
        "s3://b/x?token=1",
    ],
)
def test_what_holds_no_secret_is_a_source(uri: str) -> None:
    parse(KATO, f"engine.kato.dataset.files.uris=['{uri}']")
