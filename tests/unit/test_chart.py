"""The chart's own files agree with the models, the servers and each other; Helm's part is in integration."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardwise_api import crdgen
from shardwise_jobs.services.kato.settings import Settings
from tests.cluster.helm import new_enough
from tests.support.helm import CHART, REPOSITORY

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DASHBOARD: dict[str, Any] = json.loads((CHART / "files/dashboards/shardwise.json").read_text(encoding="utf-8"))
METRICS = {
    "shardwise_runs": {"kind", "phase"},
    "shardwise_run_items": {"namespace", "kind", "name", "state"},
    "shardwise_run_progress_percent": {"namespace", "kind", "name"},
    "shardwise_run_items_per_second": {"namespace", "kind", "name"},
    "shardwise_shards": {"namespace", "kind", "name", "state"},
    "shardwise_reconcile_seconds_bucket": {"le"},
    "shardwise_reconcile_errors_total": {"reason"},
    "shardwise_status_updates_total": set(),
    "shardwise_progress_reports_total": {"outcome"},
    "shardwise_leader": set(),
    "shardwise_watch_stale_seconds": {"kind"},
}
"""What the operator measures, with its labels."""


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return dict(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    return schema


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field that the schema knows by name, with its schema."""
    for name, part in schema.get("properties", {}).items():
        part = resolved(part)
        yield f"{path}{name}", part
        yield from fields(part, f"{path}{name}.")


def value_at(path: str) -> Any:
    value: Any = VALUES
    for name in path.split("."):
        value = value[name]
    return value


FIELDS = dict(fields(SCHEMA))
# What only a user gives: quantities and parts of the core API are free within.
DEFAULTED = {path for path in FIELDS if path != "global" and ".resources." not in path}


def test_the_charts_definitions_are_what_the_models_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert crdgen.main(["--check", "--directory", str(CHART / "files/crds")]) == 0, capsys.readouterr().out


def test_generating_writes_the_charts_copies_too_and_the_check_sees_a_stale_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert crdgen.main([]) == 0
    copy = Path("charts/shardwise/files/crds/shardwise.dev_trainingruns.yaml")
    assert copy.read_bytes() == Path("crds/shardwise.dev_trainingruns.yaml").read_bytes()
    copy.write_text(copy.read_text(encoding="utf-8").replace("trun", "tr"), encoding="utf-8")
    capsys.readouterr()

    assert crdgen.main(["--check"]) == 1
    assert f"{copy} is stale" in capsys.readouterr().out


def test_the_images_tag_is_the_projects_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))

    assert chart["appVersion"] == project["version"]


def test_the_schema_knows_every_value_and_no_other() -> None:
    known = {path for path in DEFAULTED if "properties" not in FIELDS[path]}
    leaves = {path for path in DEFAULTED if path in known or path.endswith(".resources")}

    def given(values: dict[str, Any], path: str = "") -> Iterator[str]:
        for name, value in values.items():
            if f"{path}{name}" in leaves or not isinstance(value, dict):
                yield f"{path}{name}"
            else:
                yield from given(value, f"{path}{name}.")

    assert set(given(VALUES)) == leaves


@pytest.mark.parametrize("path", ["", *(path for path, part in FIELDS.items() if "properties" in part)])
def test_the_schema_takes_no_field_that_it_does_not_know(path: str) -> None:
    assert (FIELDS[path] if path else SCHEMA)["additionalProperties"] is False


@pytest.mark.parametrize("path", sorted(path for path in DEFAULTED if "properties" not in FIELDS[path]))
def test_the_readme_tells_each_value_with_its_default(path: str) -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]*)` \| .+ \|$", (CHART / "README.md").read_text("utf-8"), flags=re.M)

    assert json.loads(dict(rows)[path]) == value_at(path)


def test_the_kato_servers_settings_and_their_defaults_are_all_there() -> None:
    assert VALUES["katoServer"]["settings"] == Settings().effective()


@pytest.mark.parametrize("setting", Settings().effective())
def test_a_kato_servers_setting_has_the_servers_own_bounds(setting: str) -> None:
    own = Settings.model_json_schema(by_alias=True)["properties"][setting]
    here = FIELDS[f"katoServer.settings.{setting}"]

    for bound in ("minimum", "maximum", "pattern", "enum"):
        assert here.get(bound) == own.get(bound), bound


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

    assert {name for text in expressions for name in re.findall(r"shardwise_\w+", text)} == set(METRICS)


@pytest.mark.parametrize(
    ("title", "expression"),
    [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]],
)
def test_a_panel_uses_labels_that_its_metric_has(title: str, expression: str) -> None:
    (name,) = re.findall(r"shardwise_\w+", expression)
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}
    selected = set(re.findall(r"(\w+)=~", expression))

    assert grouped | selected <= METRICS[name], title


def test_the_dashboards_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize(
    ("told", "expected"),
    [("v3.14.0", True), ("v3.22.0", True), ("v4.0.1", True), ("v3.13.3", False), ("v2.17.0", False), ("", False)],
)
def test_a_machines_own_helm_is_taken_when_it_is_new_enough(told: str, expected: bool) -> None:
    assert new_enough(told) is expected
