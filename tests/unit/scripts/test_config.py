"""A file of jobs: what may be left out, and what is said of each mistake in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from shardwise_jobs.engines.scripts.discovery.config import parse_config, read_config
from shardwise_jobs.engines.scripts.model.job import MAX_ID_LENGTH, SuiteJob
from shardwise_jobs.engines.scripts.model.validation_errors import InvalidSuite


def job(text: str) -> SuiteJob:
    """Return the one job of a file with these lines in it, beside name, script and output."""
    given = {line.partition(":")[0] for line in text.splitlines()}
    rest = [
        f"{key}: {value}" for key, value in (("name", "A"), ("script", "a.py"), ("output", "o")) if key not in given
    ]
    lines = "\n    ".join([*rest, *text.splitlines()])
    [entry] = parse_config(f"jobs:\n  - \n    {lines}\n", name="jobs.yaml").jobs
    return entry.job()


def complaint(text: str) -> str:
    with pytest.raises(InvalidSuite) as caught:
        job(text)
    return str(caught.value)


def test_name_script_and_output_are_enough() -> None:
    assert job("name: Parkinson's (new)") == SuiteJob(
        id="parkinsons_new",
        name="Parkinson's (new)",
        script="a.py",
        output="o",
        args={},
        optional=False,
        use_output_dir=True,
        supports_epochs=True,
        supports_folds=True,
        supports_sample=True,
        supports_batch=True,
        detect_method="config",
    )


@pytest.mark.parametrize(
    "flag",
    ["optional", "use_output_dir", "supports_epochs", "supports_folds", "supports_sample", "supports_batch"],
)
def test_each_switch_is_read_in_either_spelling(flag: str) -> None:
    words = flag.split("_")
    camel = words[0] + "".join(word.title() for word in words[1:])
    for spelling in (flag, camel):
        assert getattr(job(f"{spelling}: true"), flag) is True
        assert getattr(job(f"{spelling}: false"), flag) is False


def test_args_keep_their_kinds() -> None:
    text = "args: {rate: 0.5, layers: 3, name: x y, quick: true, slow: false, ratio: 1:30, version: '3'}"
    assert job(text).args == {
        "rate": 0.5,
        "layers": 3,
        "name": "x y",
        "quick": True,
        "slow": False,
        "ratio": "1:30",
        "version": "3",
    }
    assert [type(value) for value in job(text).args.values()] == [float, int, str, bool, bool, str, str]


def test_args_without_anything_behind_are_none() -> None:
    assert job("args:").args == {}


def test_paths_are_kept_in_their_shortest_form() -> None:
    assert job("script: ./src//a.py").script == "src/a.py"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("supports_epoch: true", "jobs[0].supports_epoch is not known; did you mean supports_epochs?"),
        ("env: {}", "jobs[0].env is not known"),
        ("name: ''", "jobs[0].name must not be empty"),
        ("name: 3", "jobs[0].name must be text"),
        ("script: /bin/a.py", "jobs[0].script must be relative, got '/bin/a.py'"),
        ("script: ../a.py", "jobs[0].script must not lead out of its folder by '..', got '../a.py'"),
        ("output: a/../../b", "jobs[0].output must not lead out of its folder by '..', got 'a/../../b'"),
        ("output: .", "jobs[0].output must name a file or folder, got '.'"),
        ("output:", "jobs[0].output must be text"),
        ("optional: maybe", "jobs[0].optional must be true or false"),
        ("args: [1]", "jobs[0].args must be a map of names to values"),
        ("args: {x: [1, 2]}", "jobs[0].args.x must be text, a number or true/false, got a list"),
        ("args: {x: }", "jobs[0].args.x must be text, a number or true/false, got nothing"),
        (
            "args: {--x: 1}",
            "jobs[0].args[--x] must be an option's name without its leading dashes, got '--x'",
        ),
        (
            "args: {x=y: 1}",
            "jobs[0].args[x=y] must be an option's name without its leading dashes, got 'x=y'",
        ),
        ("args: {epochs: true}", "jobs[0].args have true or false for epochs, which takes a number"),
        (
            "args: {batch: 1, batch-size: 2}",
            "jobs[0].args give the batch size 2 times, as batch and batch-size; leave one of them",
        ),
        (
            "id: a/b",
            "jobs[0].id names a folder of logs (no '/', no line break, no blank at either end), got 'a/b'",
        ),
        (
            "id: '..'",
            "jobs[0].id names a folder of logs (no '/', no line break, no blank at either end), got '..'",
        ),
        ("id: ''", "jobs[0].id must have 1 to 200 characters, got 0"),
        (f"id: {'x' * (MAX_ID_LENGTH + 1)}", "jobs[0].id must have 1 to 200 characters, got 201"),
        (
            "name: ()",
            "jobs[0] has a name that makes no id: an id must have 1 to 200 characters, got 0; give it an id",
        ),
    ],
)
def test_a_mistake_in_a_job_is_said_with_its_place(text: str, message: str) -> None:
    assert complaint(text) == f"jobs.yaml: {message}"


@pytest.mark.parametrize("key", ["name", "script", "output"])
def test_what_is_needed_is_missed(key: str) -> None:
    entry = {"name": "A", "script": "a.py", "output": "o"}
    del entry[key]
    with pytest.raises(InvalidSuite, match=rf"^jobs\.yaml: jobs\[0\]\.{key} is missing$"):
        parse_config(yaml.safe_dump({"jobs": [entry]}), name="jobs.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs:\n  - name: [A\n    script: a.py\n", "jobs.yaml, line 3, column 11: not valid YAML: "),
        (
            "jobs:\n  - name: A\n    name: B\n",
            "jobs.yaml, line 3, column 5: duplicate key 'name', first given in line 2",
        ),
        ("", "jobs.yaml: holds no document"),
        ("jobs: []\n---\njobs: []\n", "jobs.yaml: holds 2 documents"),
        ("- a\n", "jobs.yaml: must be a map with the key 'jobs', a list of jobs"),
        ("job: []\n", "jobs.yaml: jobs is missing"),
        ("jobs:\n", "jobs.yaml: jobs must be a list"),
        ("jobs: {a: 1}\n", "jobs.yaml: jobs must be a list"),
        ("jobs:\n  - {args: {x: .nan}}\n", "jobs.yaml: jobs[0].args.x: must be a finite number"),
        ("jobs:\n  - {args: {3: x}}\n", "jobs.yaml: jobs[0].args: the key 3 is not a string: put it in quotes"),
        ("jobs: !!python/object:os.system []\n", "jobs.yaml, line 1, column 7: not valid YAML: "),
    ],
)
def test_a_broken_file_is_an_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidSuite) as caught:
        parse_config(text, name="jobs.yaml")
    assert str(caught.value).startswith(message)


def test_other_keys_at_the_top_are_passed_over_with_a_warning() -> None:
    text = "common: &common {output: o}\nabout: us\njobs:\n  - {name: A, script: a.py, <<: *common}\n"
    config = parse_config(text, name="jobs.yaml")
    assert [entry.output for entry in config.jobs] == ["o"]
    assert config.warnings == ("jobs.yaml: about, common: passed over, only 'jobs' is read",)


class TestFile:
    def test_one_with_a_byte_order_mark_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "jobs.yaml"
        path.write_text("jobs: [{name: Für, script: a.py, output: o}]", encoding="utf-8-sig")
        assert [entry.name for entry in read_config(path).jobs] == ["Für"]

    def test_one_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSuite, match=r"^config: .*nowhere\.yaml: No such file or directory$"):
            read_config(tmp_path / "nowhere.yaml")

    def test_a_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSuite, match=r"^config: .*: Is a directory$"):
            read_config(tmp_path)

    def test_one_in_another_encoding_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "jobs.yaml"
        path.write_bytes(b"jobs: [{name: caf\xe9}]")
        with pytest.raises(InvalidSuite, match=r"^config: .*jobs\.yaml: is not UTF-8 text \(byte 17\)$"):
            read_config(path)

    def test_a_mistake_names_the_file_once(self, tmp_path: Path) -> None:
        path = tmp_path / "jobs.yaml"
        path.write_text("jobs: [")
        with pytest.raises(InvalidSuite) as caught:
            read_config(path)
        assert str(caught.value).startswith(f"config: {path}, line 1, column 8: not valid YAML")
