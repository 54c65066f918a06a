"""The page on engines tells the truth: its word count is run as it stands there, by the contract and as processes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from shardwise_api.wire import Environment, ExitCode, RunDocument, Step
from tests.support import word_count
from tests.support.cli import SHARDWISE
from tests.support.word_count import ENGINE, MANIFEST, TEST, counted

MOST_LINES = 25
LINES = 400
KILLS = 20


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the page's package, as pip would."""
    return word_count.package(tmp_path_factory.mktemp("package"))


@pytest.fixture
def environment(package: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(package)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's manifest, and a text."""
    dice = random.Random(7)
    text = "\n".join(" ".join(dice.choices("abcdefgh", k=5)) for _ in range(LINES)) + "\n"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    (tmp_path / "words.yaml").write_text(MANIFEST, encoding="utf-8")
    return tmp_path


def text_of(folder: Path) -> str:
    return (folder / "text.txt").read_text(encoding="utf-8")


def test_the_word_count_is_short() -> None:
    assert len(ENGINE.splitlines()) <= MOST_LINES


def test_the_word_count_passes_the_pages_own_test(package: Path, tmp_path: Path) -> None:
    (tmp_path / "test_wordcount.py").write_text(TEST, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\n2\d passed", done.stdout), done.stdout


def run(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SHARDWISE, *arguments],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_manifest_runs_and_goes_on_with_another_number_of_shards(folder: Path, environment: dict[str, str]) -> None:
    manifest = str(folder / "words.yaml")
    digests = set()
    for shards, blocks in ((1, 10), (4, 10)):
        arguments = [
            "run",
            manifest,
            "-o",
            "json",
            "--set",
            f"blockSize={blocks}",
            "--set",
            f"sharding.shards={shards}",
        ]
        name = f"words-{shards}"
        done = run(folder, environment, *arguments, "--set", f"metadata.name={name}")
        assert done.returncode == 0, done.stderr
        digests.add(json.loads(done.stdout)["status"]["result"]["digest"])
        assert (folder / ".shardwise" / name / "output" / "words.tsv").read_text() == counted(
            (folder / "text.txt").read_text()
        )
        ledger = folder / ".shardwise" / name / "output" / "blocks"
        for number, left in ((2, 30), (7, 10)):
            # As killed workers would have left it.
            records = sorted(ledger.glob("*/ledger/*.json"))
            for record in random.Random(number).sample(records, left):
                record.unlink()
            resumed = run(folder, environment, *arguments, "--resume", "--set", f"sharding.shards={number}")
            assert resumed.returncode == 0, resumed.stderr
            digests.add(json.loads(resumed.stdout)["status"]["result"]["digest"])
    assert len(digests) == 1


def test_a_plan_shows_blocks_that_are_dealt_as_a_whole(folder: Path, environment: dict[str, str]) -> None:
    told = run(folder, environment, "plan", str(folder / "words.yaml"), "--set", "blockSize=150")
    assert told.returncode == 0, told.stderr
    assert "wordcount (plugin)" in told.stdout
    rows = [re.findall(r"[\w,-]+", line) for line in told.stdout.splitlines() if re.match(r"^│\s+\d", line)]
    assert rows == [
        ["0", "150", "1", "0", "149"],
        ["1", "150", "1", "150", "299"],
        ["2", "100", "1", "300", "399"],
        ["3", "0", "0", "-", "-"],
    ]


def test_a_person_sees_what_came_out(folder: Path, environment: dict[str, str]) -> None:
    done = run(folder, environment, "run", str(folder / "words.yaml"), "--set", "blockSize=200")
    assert done.returncode == 0, done.stderr
    assert f"{LINES}/{LINES}" in done.stderr
    assert " items/s" in done.stderr
    assert "words.tsv" in done.stdout
    assert re.search(rf"words\s*│\s*{5 * LINES:,}", done.stdout), done.stdout


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("engine.plugin.name=wordcuont", r"plugin\.name: .* no engine 'wordcuont'; did you mean wordcount\?"),
        ("engine.plugin.name=kato", r"spec\.engine\.plugin\.name: kato is no plugin: write it as spec\.engine\.kato"),
        ("engine.plugin.spec.files=text.txt", r"spec\.engine\.plugin\.spec\.files: must be a list, got 'text\.txt'"),
        ("engine.plugin.spec.file=[a]", r"spec\.engine\.plugin\.spec\.file: unknown field; did you mean files\?"),
        ("engine.plugin.spec.files=[ftp://h/a]", r"spec\.engine\.plugin\.spec\.files\[0\]: scheme ftp:// is not"),
        ("engine.plugin.spec.files=[no.txt]", r"spec\.engine\.plugin\.spec\.files: .*/no\.txt: No such file"),
    ],
)  # fmt: skip
def test_what_can_not_work_is_told_with_its_field(
    change: str, told: str, folder: Path, environment: dict[str, str]
) -> None:
    for command in (["plan"], ["run"]):
        done = run(folder, environment, *command, str(folder / "words.yaml"), "--set", change)
        assert done.returncode == 2
        assert re.search(rf"InvalidSpec.*{told}", done.stderr, flags=re.S), done.stderr


class Workers:
    """Workers of the page's run, as the Job controller starts them: begun again for as long as they are killed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._spec = {
            **yaml.safe_load((folder / "words.yaml").read_text())["spec"],
            "blockSize": 2,
        }
        self._prepared: dict[str, object] | None = None

    def start(self, step: Step, *, shard: int = 0, shards: int) -> subprocess.Popen[bytes]:
        spec = {**self._spec, "sharding": {"shards": shards}}
        document = RunDocument.model_validate(
            {"uid": "u", "name": "words", "kind": "TrainingRun", "spec": spec, "prepared": self._prepared}
        )
        path = self._folder / f"{step}-{shard}-of-{shards}.json"
        path.write_text(document.model_dump_json(by_alias=True, exclude_none=True))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "shardwise_jobs"],
            stderr=subprocess.DEVNULL,
            env={
                **self._environment,
                Environment.RUN: str(path),
                Environment.STEP: str(step),
                Environment.SHARD: str(shard),
                Environment.OUTPUT: str(self._folder / "output"),
                Environment.FOLDER: str(self._folder),
                Environment.TERMINATION_LOG: str(self._folder / "message.json"),
            },
        )

    def done(self, step: Step, *, shard: int = 0, shards: int) -> dict[str, object]:
        assert self.start(step, shard=shard, shards=shards).wait() == ExitCode.DONE
        message: dict[str, object] = json.loads((self._folder / "message.json").read_bytes())
        if step is Step.PREPARE:
            self._prepared = message
        return message

    def records(self) -> int:
        return len(list((self._folder / "output").glob("blocks/u/ledger/*.json")))


def _kill_points(dice: random.Random) -> Iterator[tuple[int, int, int]]:
    """Yield (shards, shard, how many more blocks there are when it is killed)."""
    for _ in range(KILLS):
        shards = dice.choice([1, 2, 4, 7])
        yield shards, dice.randrange(shards), dice.randint(0, 8)


def test_workers_that_are_killed_again_and_again_count_every_word_once(
    folder: Path, environment: dict[str, str]
) -> None:
    workers = Workers(folder, environment)
    workers.done(Step.PREPARE, shards=1)
    killed = 0
    for shards, shard, more in _kill_points(random.Random(11)):
        before = workers.records()
        process = workers.start(Step.WORK, shard=shard, shards=shards)
        while process.poll() is None and workers.records() < before + more:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= KILLS // 2
    for shard in range(3):
        workers.done(Step.WORK, shard=shard, shards=3)
    result = workers.done(Step.FINALIZE, shards=3)
    assert (folder / "output" / "words.tsv").read_text() == counted(text_of(folder))
    assert result["items"] == {"done": LINES, "failed": 0, "skipped": 0}
