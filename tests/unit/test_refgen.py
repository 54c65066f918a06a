"""The API reference holds everything that the definitions hold, and links that lead somewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardwise_api import crdgen, refgen
from shardwise_api.runs import KINDS

REPOSITORY = Path(__file__).parents[2]
TEXT = refgen.text()


def schema_of(kind: str) -> dict[str, Any]:
    (version,) = crdgen.definition(KINDS[kind])["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def parts(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with fields of its own, by its path."""
    if "items" in schema:
        yield from parts(f"{path}[]", schema["items"])
    if "properties" in schema:
        yield path, schema
        for name, inner in schema["properties"].items():
            yield from parts(f"{path}.{name}", inner)


def parts_of(kind: str) -> list[tuple[str, dict[str, Any]]]:
    properties = schema_of(kind)["properties"]
    return [found for top in ("spec", "status") for found in parts(top, properties[top])]


def section(path: str, *, kinds: tuple[str, ...]) -> str:
    """What is told of a part: by the kind itself, or by the one before it when both have it."""
    for kind in kinds:
        _, found, rest = TEXT.partition(f"### {kind}: `{path}`\n")
        if found:
            return re.split(r'\n<a id="', rest)[0]
    raise AssertionError(f"no section tells of {path}")


PARTS = [(kind, path) for kind in KINDS for path, _ in parts_of(kind)]


@pytest.mark.parametrize(("kind", "path"), PARTS, ids=[" ".join(part) for part in PARTS])
def test_a_part_is_told_with_every_field_and_rule(kind: str, path: str) -> None:
    schema = dict(parts_of(kind))[path]
    told = section(path, kinds=(kind, "TrainingRun"))

    rows = re.findall(r"^\| `(\w+)` \|", told, flags=re.M)
    assert rows == list(schema["properties"])
    for name, field in schema["properties"].items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", told, flags=re.M)
        # Of a status nothing is asked: the operator writes it.
        assert ("**required**" in row) == (path.startswith("spec") and name in schema.get("required", []))
        if "default" in field and name not in schema.get("required", []):
            assert f"`{json.dumps(field['default'])}`".replace("|", r"\|") in row
        for bound in ("minimum", "maximum", "maxLength", "maxItems"):
            assert f"{field.get(bound, 0):g}" in row or bound not in field
        for value in field.get("enum", ()):
            assert f"`{value}`" in row
        assert " ".join(field.get("description", "").split()).replace("|", r"\|") in row
    for rule in schema.get("x-kubernetes-validations", ()):
        field = rule.get("fieldPath", "").removeprefix(".")
        assert f"`{rule['rule']}`" in told or f"`{rule['rule']}`".replace(f".{field}", ".FIELD") in told
        assert rule["message"] in told or rule["message"].replace(field, "FIELD") in told
        assert f"`{field}`" in told or not field


def test_what_both_kinds_have_is_told_once() -> None:
    assert TEXT.count(": `spec.sharding`\n") == 1
    assert TEXT.count(": `status`\n") == 1
    assert TEXT.count(": `spec`\n") == 2


def test_every_link_leads_to_a_place_on_the_page() -> None:
    places = re.findall(r'<a id="([^"]+)">', TEXT)
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)

    assert len(places) == len(set(places))
    assert set(links) <= set(places)
    # A section that nothing leads to is found by nobody.
    assert set(places) - set(links) == {"trainingrun", "ingestrun"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_of_kubectl_are_told(kind: str) -> None:
    (version,) = crdgen.definition(KINDS[kind])["spec"]["versions"]

    for column in version["additionalPrinterColumns"]:
        assert f"| {column['name']} | `{column['jsonPath']}` | {column['description']} |" in TEXT


def test_no_cell_breaks_its_table() -> None:
    tables = re.findall(r"(?:^\|.*\n)+", TEXT, flags=re.M)
    assert len(tables) > len(PARTS) / 2
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table


def test_the_file_is_what_the_models_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert refgen.main(["--check", "--file", str(REPOSITORY / refgen.FILE)]) == 0, capsys.readouterr().out


def test_a_stale_file_is_named_with_the_way_to_renew_it_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "docs" / "api.md"
    assert refgen.main(["--file", str(file)]) == 0
    file.write_text(stale := file.read_text(encoding="utf-8").replace("1 to 10000 ", "1 to 20000 ", 1))
    capsys.readouterr()

    assert refgen.main(["--check", "--file", str(file)]) == 1

    told = capsys.readouterr().out
    assert f"{file} is stale: run `make generate`" in told
    assert "1 to 20000" in told
    assert len(told.splitlines()) < 30
    assert file.read_text(encoding="utf-8") == stale


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refgen.main(["--check", "--file", str(tmp_path / "api.md")]) == 1
    assert "api.md is missing" in capsys.readouterr().out


def test_a_second_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "api.md"
    refgen.main(["--file", str(file)])
    capsys.readouterr()

    assert refgen.main(["--file", str(file)]) == 0
    assert capsys.readouterr().out == ""
