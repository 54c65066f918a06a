"""What an image's name says, what goes into it, and what of the building machine never does."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from images import debian, machine
from images.builders import Order
from images.errors import ImageError
from images.load import is_among
from images.requirements import requirements
from images.shell import follow, step_of
from images.sources import NAMES, PACKAGES, REPOSITORY, Image, files, image

_BASE = "base:1"
_PYPROJECT = """
[project]
dependencies = ["pydantic>=2"]
[project.optional-dependencies]
kato = ["httpx", "pydantic>=2"]
dev = ["pytest"]
"""
_DOCKERFILES = [REPOSITORY / "images" / f"{name}.Dockerfile" for name in NAMES]
# By any of these, a setting of the building machine would stay in an image's configuration.
_SETTINGS = re.compile(r"index|proxy|cert|_ca_|trusted", re.IGNORECASE)


@pytest.fixture
def sample(tmp_path: Path) -> Image:
    """An image of two files."""
    for name in ("Dockerfile", "one.py", "two.py"):
        (tmp_path / name).write_text(f"{name}\n")
    context = {"one.py": tmp_path / "one.py", "two.py": tmp_path / "two.py"}
    return Image(
        name="sample", repository="shardwise/sample", dockerfile=tmp_path / "Dockerfile", context=context, version="1.0"
    )


def test_an_unchanged_image_keeps_its_name(sample: Image) -> None:
    assert sample.ref(base=_BASE) == sample.ref(base=_BASE)
    assert re.fullmatch(r"shardwise/sample:1\.0-[0-9a-f]{12}", sample.ref(base=_BASE))


@pytest.mark.parametrize("name", ["Dockerfile", "one.py", "two.py"])
def test_a_changed_file_changes_the_tag(sample: Image, tmp_path: Path, name: str) -> None:
    before = sample.tag(base=_BASE)

    (tmp_path / name).write_text("changed\n")

    assert sample.tag(base=_BASE) != before


def test_a_file_of_another_name_changes_the_tag(sample: Image, tmp_path: Path) -> None:
    renamed = replace(sample, context={"one.py": tmp_path / "one.py", "three.py": tmp_path / "two.py"})

    assert renamed.tag(base=_BASE) != sample.tag(base=_BASE)


def test_another_base_changes_the_tag(sample: Image) -> None:
    assert sample.tag(base="base:2") != sample.tag(base=_BASE)


def test_another_argument_changes_the_tag(sample: Image) -> None:
    assert replace(sample, arguments={"EXTRAS": "kato"}).tag(base=_BASE) != sample.tag(base=_BASE)


def test_text_that_moves_from_one_file_to_the_next_changes_the_tag(sample: Image, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("ab")
    (tmp_path / "two.py").write_text("c")
    before = sample.tag(base=_BASE)

    (tmp_path / "one.py").write_text("a")
    (tmp_path / "two.py").write_text("bc")

    assert sample.tag(base=_BASE) != before


def test_a_version_with_a_plus_sign_makes_a_tag_that_registries_take(sample: Image) -> None:
    assert replace(sample, version="1.0+local").tag(base=_BASE).startswith("1.0-local-")


def test_what_is_built_does_not_change_when_the_working_tree_does(sample: Image, tmp_path: Path) -> None:
    frozen = sample.frozen(tmp_path / "frozen")
    before = frozen.ref(base=_BASE)
    assert before == sample.ref(base=_BASE)

    (tmp_path / "one.py").write_text("changed\n")

    assert frozen.ref(base=_BASE) == before
    assert (tmp_path / "frozen" / "one.py").read_text() == "one.py\n"


def test_what_python_compiled_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "package" / "__pycache__").mkdir(parents=True)
    (tmp_path / "package" / "__pycache__" / "module.cpython-313.pyc").touch()
    (tmp_path / "package" / "module.py").touch()

    assert list(files(tmp_path, ["package"])) == ["package/module.py"]


@pytest.mark.parametrize(
    ("name", "its_own", "foreign"),
    [
        ("operator", "operator/shardwise_operator", ("jobs", "operator/shardwise_cli", "tests")),
        ("worker", "jobs/shardwise_jobs", ("operator", "tests")),
        ("kato-server", "jobs/shardwise_jobs", ("operator", "tests")),
    ],
)
def test_an_image_sees_the_contract_and_its_own_package_only(name: str, its_own: str, foreign: tuple[str, ...]) -> None:
    context = list(image(name).context)

    assert any(path.startswith(f"{its_own}/") for path in context)
    assert any(path.startswith("crds/shardwise_api/") for path in context)
    assert [path for path in context if path.startswith(tuple(f"{folder}/" for folder in foreign))] == []


def test_a_misspelt_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ImageError, match="no image is named wroker; there are operator, worker, kato-server"):
        image("wroker")


def test_requirements_are_the_projects_and_its_extras_without_repeats() -> None:
    assert requirements(_PYPROJECT, ["kato"]) == ["httpx", "pydantic>=2"]


def test_an_unknown_extra_ends_the_build_instead_of_installing_less() -> None:
    with pytest.raises(SystemExit, match="no extra named kaot"):
        requirements(_PYPROJECT, ["kaot"])


@pytest.mark.parametrize("dockerfile", _DOCKERFILES, ids=NAMES)
def test_the_extras_of_a_dockerfile_exist_and_leave_out_what_is_for_development(dockerfile: Path) -> None:
    extras = re.findall(r'^ARG EXTRAS="(.*)"$', dockerfile.read_text(), re.MULTILINE)[0].split()

    assert requirements((REPOSITORY / "pyproject.toml").read_text(), extras)
    assert "dev" not in extras


@pytest.mark.parametrize("dockerfile", _DOCKERFILES, ids=NAMES)
def test_settings_reach_a_dockerfile_as_secrets_only(dockerfile: Path) -> None:
    instructions = _instructions(dockerfile)

    # pip and uv go to an index unless told not to.
    installing = [text for word, text in instructions if word == "RUN" and " install " in text]
    fetching = [text for text in installing if "--offline" not in text]
    assert len(fetching) >= 2
    assert all("type=secret,id=settings" in text and "type=secret,id=certificates" in text for text in fetching)
    assert [text for word, text in instructions if word in ("ARG", "ENV", "LABEL") and _SETTINGS.search(text)] == []


@pytest.mark.parametrize("dockerfile", _DOCKERFILES, ids=NAMES)
def test_a_final_stage_runs_nothing_and_needs_no_shell_and_no_root(dockerfile: Path) -> None:
    instructions = _instructions(dockerfile)
    last = max(number for number, (word, _) in enumerate(instructions) if word == "FROM")
    final = instructions[last:]

    assert [text for word, text in final if word == "RUN"] == []
    assert dict(final)["USER"] == "65532:65532"
    assert dict(final)["ENTRYPOINT"].startswith('["python", "-P", "-m", ')


def test_pips_own_file_reaches_pip_and_uv(tmp_path: Path) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        "[global]\nindex-url = https://one.invalid/simple\nextra-index-url =\n  https://two.invalid/simple\n"
        "  https://three.invalid/simple\nfind-links = /opt/wheels\n"
    )

    found = machine.index_settings({"PIP_CONFIG_FILE": str(configuration), "HOME": str(tmp_path)})

    assert found["PIP_INDEX_URL"] == found["UV_DEFAULT_INDEX"] == "https://one.invalid/simple"
    assert (
        found["PIP_EXTRA_INDEX_URL"] == found["UV_INDEX"] == "https://two.invalid/simple https://three.invalid/simple"
    )
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    # A folder of this machine means nothing inside a build.
    assert "/opt/wheels" not in found.values()


def test_the_environment_counts_more_than_pips_file(tmp_path: Path) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nindex-url = https://file.invalid/simple\n")
    environment = {
        "PIP_CONFIG_FILE": str(configuration),
        "PIP_INDEX_URL": "https://environment.invalid/simple",
        "UV_DEFAULT_INDEX": "https://uv.invalid/simple",
        "https_proxy": "http://proxy.invalid:3128",
    }

    found = machine.index_settings(environment)

    assert found["PIP_INDEX_URL"] == "https://environment.invalid/simple"
    assert found["UV_DEFAULT_INDEX"] == "https://uv.invalid/simple"
    assert found["https_proxy"] == "http://proxy.invalid:3128"


def test_a_shell_reads_the_secret_as_it_was_meant(tmp_path: Path) -> None:
    nasty = """https://user:p'a"s$s w`o`rd@index.invalid/simple"""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("a certificate\n")
    folder = tmp_path / "secrets"
    folder.mkdir()

    secrets = machine.write_secrets(folder, environment={"UV_DEFAULT_INDEX": nasty, "SSL_CERT_FILE": str(bundle)})

    script = f'. {secrets["settings"]}; printf \'%s\\n%s\' "$UV_DEFAULT_INDEX" "$PIP_CERT"'
    read = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    assert read == f"{nasty}\n/run/secrets/certificates"
    assert secrets["certificates"].read_text() == "a certificate\n"
    assert folder.stat().st_mode & 0o077 == 0


def test_a_builders_command_line_names_secrets_and_never_holds_them(tmp_path: Path) -> None:
    secrets = machine.write_secrets(tmp_path, environment={"UV_DEFAULT_INDEX": "https://index.invalid/simple"})
    order = Order(
        dockerfile=tmp_path / "Dockerfile",
        context=tmp_path,
        ref="shardwise/sample:1",
        arguments={"BASE_IMAGE": _BASE},
        secrets=secrets,
    )

    assert f"--secret=id=settings,src={tmp_path / 'settings'}" in order.words()
    assert "index.invalid" not in " ".join(order.words())


@pytest.mark.parametrize("there", ["registry.invalid/shardwise/worker:1", "shardwise/worker:1"])
def test_an_image_is_found_under_the_name_that_a_runtime_gives_it(there: str) -> None:
    assert is_among("shardwise/worker:1", {there})
    assert not is_among("shardwise/worker:2", {there})
    assert not is_among("worker:1", {"shardwise/other-worker:1"})


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("[1/5] STEP 2/2: RUN --mount=type=secret,id=settings     echo   done\n", "[1/5] STEP 2/2: RUN echo done"),
        ("STEP 3/8: COPY jars /opt\n", "STEP 3/8: COPY jars /opt"),
        ("#7 [tools 2/2] RUN echo done\n", "#7 [tools 2/2] RUN echo done"),
        ("Resolved 50 packages in 411ms\n", None),
        ("#7 DONE 0.4s\n", None),
    ],
)
def test_steps_of_both_builders_are_known(line: str, step: str | None) -> None:
    assert step_of(line) == step


def test_a_build_that_fails_shows_its_last_words() -> None:
    with pytest.raises(ImageError, match=r"(?s)ended with 3:.*no such package"):
        follow("sh", "-c", "echo 'STEP 1/1: RUN pip install'; echo 'no such package' >&2; exit 3")


def test_what_is_missing_is_named_where_it_cannot_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ImageError, match="start a Docker engine, or install buildah"):
        debian.ensure({"buildah": "buildah"})


def test_the_local_base_has_a_name_that_can_be_told_from_a_changed_one() -> None:
    assert re.fullmatch(r"localhost/shardwise-base:bookworm-[0-9a-f]{12}", debian.base_name())


def test_the_version_of_a_tag_is_the_projects() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]

    assert image("worker").tag(base=_BASE).startswith(f"{version}-")


def _instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions as word and text, each on one line."""
    lines = [line for line in dockerfile.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, text) for word, _, text in (line.partition(" ") for line in joined.splitlines())]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_the_packages_that_are_in_its_context(name: str) -> None:
    copied = [text for word, text in _instructions(REPOSITORY / "images" / f"{name}.Dockerfile") if word == "COPY"]
    assert {f"{package} /source/{package}" for package in (*PACKAGES[name], "crds/shardwise_api")} <= set(copied)


@pytest.mark.parametrize("stage", ["compiled", "model"])
def test_a_stage_that_runs_our_code_has_all_the_modules_that_it_imports(stage: str) -> None:
    text = (REPOSITORY / "images" / "worker.Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    (part,) = re.findall(rf"^FROM \S+ AS {stage}$(.*?)(?=^FROM |\Z)", text, flags=re.M | re.S)
    copied = [Path(word) for line in re.findall(r"^COPY (.*)$", part, flags=re.M) for word in line.split()[:-1]]
    there = {
        file
        for path in copied
        if not str(path).startswith("--")
        for file in ((REPOSITORY / path).rglob("*.py") if (REPOSITORY / path).is_dir() else [REPOSITORY / path])
    }
    roots = {
        "shardwise": REPOSITORY / "sdk",
        "shardwise_jobs": REPOSITORY / "jobs",
        "shardwise_api": REPOSITORY / "crds",
    }
    missing = {
        f"{file.relative_to(REPOSITORY)} imports {name}"
        for file in there
        if file.suffix == ".py"
        for name in _imported_at_once(file)
        if name.partition(".")[0] in roots
        for place in [roots[name.partition(".")[0]] / name.replace(".", "/")]
        if not {place.with_suffix(".py"), place / "__init__.py"} & there
    }
    assert there
    assert missing == set()


def _imported_at_once(file: Path) -> Iterator[str]:
    """Yield the names of the modules that importing a file imports."""
    package = ".".join(file.relative_to(REPOSITORY).parts[1:-1])
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            base = ".".join(filter(None, [above if node.level else "", node.module]))
            yield base
            # Of a package it may be a module that is named.
            place = REPOSITORY / file.relative_to(REPOSITORY).parts[0] / base.replace(".", "/")
            yield from (f"{base}.{alias.name}" for alias in node.names if (place / f"{alias.name}.py").exists())
