"""The documents say what the code does: links, reasons, fields, commands, rights and manifests are held against it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import IngestRun, Run, TrainingRun, TrainingRunSpec
from shardwise_api.status import ConditionType, Phase
from shardwise_api.wire import ExitCode
from shardwise_cli.cluster.cluster_checks import warnings
from shardwise_cli.main import cli
from shardwise_jobs.engines.difflogic.cli import difflogic
from shardwise_jobs.engines.scripts.cli import suite
from shardwise_jobs.services.ingest.cli import ingest
from shardwise_jobs.services.kato.cli import kato
from shardwise_operator.children.pod import USER, reserved_environment
from shardwise_operator.core.cluster_rules import cluster_problems
from shardwise_operator.core.events import EventReason, RunEvent
from shardwise_operator.observe.blockers import _HINTS
from tests.support.said_reasons import REPOSITORY, SOURCES, reasons_in, words_in

DOCS = REPOSITORY / "docs"
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((REPOSITORY / "charts").rglob("*.md")),
    *sorted((REPOSITORY / "examples").rglob("*.md")),
]
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]

SET = {reason for source in SOURCES for reason in reasons_in(source.read_text(encoding="utf-8"))}
"""All reasons that the operator, a worker or the local runner can set."""
UNSEEN = {"Stopped"}
"""A local Job's word for having been stopped when the run had failed already."""
IN_PROSE = {"Unknown", "Temporary"}
"""Told beside the tables: no condition's own."""
ROUTINE = {"Valid", "AllRunning", "Suspended", "Finished", "NotSuspended", "Working", "Finalized"}
"""They trouble nobody."""
READ = {"DisruptionTarget", "PodScheduled", "ContainerCreating", "PodInitializing", "ErrImagePull", "OOMKilled"}
"""Words of Kubernetes that the code reads."""


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next of its rank."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    return re.split(rf"^#{{1,{level}}} ", rest, flags=re.M)[0]


def first_cells(text: str) -> list[str]:
    """The code words of the first column of every table."""
    return re.findall(r"^\| `([^`]+)` \|", text, flags=re.M)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


@cache
def anchors(page: Path) -> frozenset[str]:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings)
    return frozenset([*slugs, *re.findall(r'<a id="([^"]+)">', text)])


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = REPOSITORY / name
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name}: {target}"
        assert not anchor or anchor in anchors(there), f"{name}: {target}"


def test_the_index_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)", read("docs/README.md")))
    decisions = set(re.findall(r"\]\(([^)#]+)", read("docs/adr/README.md")))

    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= linked
    assert {page.name for page in (DOCS / "adr").glob("0*.md")} == decisions


# Reasons


def test_the_reader_of_sources_sees_reasons_wherever_they_are_set() -> None:
    source = """
INVALID_SPEC = "InvalidSpec"
PATTERNS = ((re.compile("x"), "Matched"),)
class Lost(Exception):
    reason = "OfAClass"
def why():
    return "Returned" if late else None
def say(job):
    reason = None if done else why()
    ready, reason, message = False, "InATuple" if ended else "InAnElse", ""
    tell(reason=job.reason or "AfterAnOr", message="NoReason")
    return find(otherwise=str(given or "Otherwise"))
"""
    assert reasons_in(source) == {
        "InvalidSpec", "Matched", "OfAClass", "Returned", "InATuple", "InAnElse", "AfterAnOr", "Otherwise",
    }  # fmt: skip


def test_every_reason_that_can_be_set_is_told_and_none_besides() -> None:
    told = set(first_cells(section(read("docs/lifecycle.md"), "## Conditions and their reasons")))

    assert told == SET - UNSEEN - IN_PROSE
    for word in IN_PROSE:
        assert f"`{word}`" in read("docs/lifecycle.md")


def test_every_reason_that_troubles_somebody_has_a_way_out_and_none_besides() -> None:
    page = read("docs/troubleshooting.md")
    kubernetes = section(page, "### Words of Kubernetes")
    told = set(first_cells(page.replace(kubernetes, "").partition("\n## The operator itself")[0]))

    assert told == SET - UNSEEN - ROUTINE - {"Unknown"}
    assert "`Unknown`" in page


def test_words_of_kubernetes_are_told_apart_from_our_own() -> None:
    words = set(first_cells(section(read("docs/troubleshooting.md"), "### Words of Kubernetes")))

    assert not words & SET
    # What the operator has a hint for, or stands for another word.
    assert set(_HINTS) - SET - {"ErrImagePull"} <= words


def test_no_word_in_the_code_looks_like_a_reason_and_is_not_accounted_for() -> None:
    words = set(first_cells(read("docs/troubleshooting.md")))
    operators = [source for source in SOURCES if "shardwise_operator" in source.parts]
    found = {word for source in operators for word in words_in(source.read_text(encoding="utf-8"))}

    assert found - SET - words - READ - set(EventReason) == set()


@pytest.mark.parametrize(
    ("heading", "words"),
    [("## Phases", set(Phase)), ("## Events", set(EventReason))],
    ids=["phases", "events"],
)
def test_every_word_of_a_list_is_told_and_none_besides(heading: str, words: set[str]) -> None:
    assert set(first_cells(section(read("docs/lifecycle.md"), heading))) == {str(word) for word in words}


def test_every_condition_is_told_and_none_besides() -> None:
    reasons = section(read("docs/lifecycle.md"), "## Conditions and their reasons")

    assert re.findall(r"^### `(\w+)`$", reasons, flags=re.M) == [str(condition) for condition in ConditionType]


def test_an_event_is_told_with_its_type() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section(read("docs/lifecycle.md"), "## Events"), flags=re.M))

    assert told == {str(reason): RunEvent(reason=reason, message="").type for reason in EventReason}


def test_every_exit_code_of_a_worker_is_told() -> None:
    told = re.findall(r"^\| (\d+) \|", section(read("docs/lifecycle.md"), "## How a worker ends"), flags=re.M)

    assert [int(code) for code in told] == sorted(ExitCode)


# Fields


def test_the_effect_of_every_field_is_told() -> None:
    told = first_cells(section(read("docs/lifecycle.md"), "## What a field does to a living run"))

    assert sorted(told) == sorted(field.alias or name for name, field in TrainingRunSpec.model_fields.items())


# Rights


def test_the_table_of_rights_is_the_charts() -> None:
    template = read("charts/shardwise/templates/rbac.yaml")
    rules = yaml.safe_load(re.split(r"{{-? ?(?:define|end)[^}]*}}", template)[1])
    granted = {
        (group or "core", resource): set(rule["verbs"])
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    table = section(read("docs/security.md"), "## The operator")
    rows = re.findall(r"^\| (`[^|]+`|core) \| ([^|]+) \| ([^|]+) \|", table, flags=re.M)

    assert granted == {
        (group.strip("`"), resource): set(re.findall(r"`([^`]+)`", verbs))
        for group, resources, verbs in rows
        for resource in re.findall(r"`([^`]+)`", resources)
    }


# Commands


def commands(name: str) -> Iterator[str]:
    """Every command of a page's console blocks, on one line."""
    for block in re.findall(r"^```console\n(.*?)^```", read(name), flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                yield line.removeprefix("$ ")


def asked_of_shardwise(name: str) -> Iterator[list[str]]:
    for line in commands(name):
        for found in re.findall(r"(?:^|[|;&(] ?)shardwise ([^|;&)]*)", line):
            yield shlex.split(found, comments=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_shardwise_is_there_with_its_options(name: str) -> None:
    for words in asked_of_shardwise(name):
        command: click.Command = {
            **cli.commands,
            "kato": kato,
            "difflogic": difflogic,
            "ingest": ingest,
            "suite": suite,
        }[words[0]]
        if isinstance(command, click.Group):
            command = command.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= known, f"{name}: shardwise {' '.join(words)}"


def test_the_pages_show_commands_at_all() -> None:
    assert len(list(asked_of_shardwise("docs/client.md"))) > 8
    assert len(list(asked_of_shardwise("docs/install.md"))) > 2


@pytest.mark.parametrize("name", NAMES)
def test_every_target_of_make_is_there(name: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", read("Makefile"), flags=re.M))
    shown = [
        word
        for line in commands(name)
        for word in re.findall(r"\bmake (?:-s )?([a-z][a-z0-9-]*)", line.partition("#")[0])
    ]
    named = re.findall(r"`make (?:-s )?([a-z][a-z0-9-]*)`", read(name))

    assert {*shown, *named} <= targets


def test_every_value_that_helm_is_given_is_the_charts() -> None:
    values = yaml.safe_load(read("charts/shardwise/values.yaml"))
    paths = [path for line in commands("docs/install.md") for path in re.findall(r"--set '?([\w.]+)=", line)]

    assert len(paths) > 5
    for path in paths:
        value: Any = values
        for part in path.split("."):
            assert part in value, path
            value = value[part]


# Manifests


def manifests(name: str) -> list[str]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", read(name), flags=re.M | re.S)
    return [block for block in blocks if re.search("kind: (Training|Ingest)Run", block)]


def unfit(run: Run) -> list[str]:
    """What the operator would reject a run for, and what the client would warn of."""
    problems = cluster_problems(run, reserved=reserved_environment())
    return [*problems, *(str(problem) for problem in warnings(run))]


@pytest.mark.parametrize("name", [name for name in NAMES if manifests(name)])
def test_a_manifest_on_a_page_is_valid(name: str) -> None:
    for text in manifests(name):
        parse_manifest(text, name=name)


def test_the_manifest_of_the_cluster_page_runs_on_a_cluster() -> None:
    (text,) = manifests("docs/install.md")

    assert unfit(parse_manifest(text, name="install.md")) == []


EXAMPLE = "examples/cluster-pydocs.yaml"


def example() -> tuple[dict[str, Any], dict[str, Any], TrainingRun]:
    claim, loader, manifest = yaml.safe_load_all(read(EXAMPLE))
    run = parse_manifest(yaml.safe_dump(manifest), name=EXAMPLE)
    assert isinstance(run, TrainingRun)
    return claim, loader, run


def test_the_clusters_example_runs_on_a_cluster_and_waits_for_its_text() -> None:
    _, _, run = example()

    assert unfit(run) == []
    assert run.spec.suspend


def test_the_clusters_ingestion_runs_beside_the_stack_and_comes_to_the_rows_of_the_local_one() -> None:
    claim, loader, manifest = yaml.safe_load_all(read("examples/cluster-ingest.yaml"))
    run = parse_manifest(yaml.safe_dump(manifest), name="cluster-ingest")
    local = parse_manifest(read("examples/ingest-pydocs.yaml"), name="ingest-pydocs")
    assert isinstance(run, IngestRun)
    assert isinstance(local, IngestRun)

    assert unfit(run) == []
    assert run.spec.suspend
    assert (run.spec.dataset_source, run.spec.dedup, run.spec.embedding, run.spec.source.files.format) == (
        local.spec.dataset_source, local.spec.dedup, local.spec.embedding, local.spec.source.files.format,
    )  # fmt: skip
    volumes = [*loader["spec"]["volumes"], *manifest["spec"]["worker"]["volumes"]]
    assert {volume["persistentVolumeClaim"]["claimName"] for volume in volumes} == {claim["metadata"]["name"]}


def test_the_clusters_example_learns_what_the_demo_learns() -> None:
    _, _, run = example()
    demo = parse_manifest(read("examples/kato-pydocs.yaml"), name="demo")
    assert isinstance(demo, TrainingRun)
    here, there = run.spec.engine.kato, demo.spec.engine.kato
    assert here is not None
    assert there is not None

    assert (here.nodes, here.tokenizer, here.dataset.max_samples) == (
        there.nodes,
        there.tokenizer,
        there.dataset.max_samples,
    )


def test_the_clusters_example_is_of_one_piece() -> None:
    claim, loader, run = example()
    kato_engine = run.spec.engine.kato
    assert kato_engine is not None
    assert kato_engine.dataset.files is not None
    claimed = [volume["persistentVolumeClaim"]["claimName"] for volume in run.spec.worker.volumes]
    loading = [volume["persistentVolumeClaim"]["claimName"] for volume in loader["spec"]["volumes"]]

    assert claimed == loading == [claim["metadata"]["name"]]
    assert loader["spec"]["containers"][0]["volumeMounts"] == run.spec.worker.volume_mounts
    assert loader["spec"]["securityContext"]["fsGroup"] == USER
    # The page's commands are about these.
    page = read("docs/install.md")
    assert f"tee {kato_engine.dataset.files.uris[0]} " in page
    assert f"exec --stdin {loader['metadata']['name']} " in page
    assert f"s|{loader['spec']['containers'][0]['image']}|" in page
    assert kato_engine.server is not None
    assert kato_engine.server.url == "http://shardwise-kato.shardwise.svc:8000"


def test_the_clusters_suite_runs_on_a_cluster_and_is_the_one_that_runs_here() -> None:
    claim, manifest = yaml.safe_load_all(read("examples/scripts-cluster.yaml"))
    run = parse_manifest(yaml.safe_dump(manifest), name="scripts-cluster.yaml")
    here = yaml.safe_load(read("examples/scripts-suite.yaml"))["spec"]["engine"]["scripts"]
    there = manifest["spec"]["engine"]["scripts"]

    assert unfit(run) == []
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in run.spec.worker.volumes[1:]] == [
        claim["metadata"]["name"]
    ]
    assert {**here, "source": there["source"]}.items() <= there.items()
