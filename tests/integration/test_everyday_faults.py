"""What goes wrong on people's machines: closed terminals, full disks, files of their own in the way, no home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import SHARDWISE, Folder
from tests.support.expected import digest_of
from tests.support.kube import eventually
from tests.support.leash import leashed
from tests.support.terminals import on_terminal

SAMPLES = 20
STATUS = Path(".shardwise/pydocs/status.json")
# What Python has not written yet it tries to write at its end, and then the exit status is 120.
BUFFERED = ("env", "-u", "PYTHONUNBUFFERED")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(path=tmp_path, samples=SAMPLES)
    made.manifest["spec"]["sharding"] = {"shards": 1}
    made.write()
    return made


def through_shell(folder: Folder, redirection: str) -> subprocess.CompletedProcess[str]:
    """Run the manifest with its streams as a shell's redirection says."""
    words = [*BUFFERED, "sh", "-c", f'exec "$@" {redirection}', "sh", str(SHARDWISE), "run", "run.yaml"]
    return subprocess.run(
        leashed(*words), cwd=folder.path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def phase(folder: Folder) -> str:
    status = json.loads((folder.path / STATUS).read_text(encoding="utf-8"))
    return str(status["phase"])


class TestNobodyLooksOn:
    def test_a_run_outlives_those_who_read_of_it(self, folder: Folder) -> None:
        words = leashed(*BUFFERED, str(SHARDWISE), "run", "run.yaml")
        process = subprocess.Popen(
            words, cwd=folder.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        assert process.wait(120) == 0
        assert phase(folder) == "Complete"

    @pytest.mark.parametrize("redirection", ["2>/dev/full", ">&- 2>&-"])
    def test_a_run_needs_no_standard_error(self, folder: Folder, redirection: str) -> None:
        assert through_shell(folder, redirection).returncode == 0
        assert phase(folder) == "Complete"

    def test_a_result_that_finds_no_room_is_told_and_is_no_success(self, folder: Folder) -> None:
        done = through_shell(folder, ">/dev/full")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == "error: standard output: No space left on device"
        assert phase(folder) == "Complete"

    def test_a_terminal_that_is_closed_is_an_interrupt_and_resume_goes_on(self, tmp_path: Path) -> None:
        folder = Folder(path=tmp_path, samples=1000)
        folder.manifest["spec"]["blockSize"] = 1
        folder.write()
        with on_terminal(*BUFFERED, str(SHARDWISE), "run", "run.yaml", cwd=folder.path) as terminal:
            eventually(lambda: (folder.path / ".shardwise/pydocs/progress/shard-0.json").exists(), what="work")
            terminal.close()
            assert terminal.finish() == 130
        assert phase(folder) not in ("Complete", "Failed")
        done = folder.run("--resume")
        assert done.status["result"]["digest"] == digest_of(1000)

    def test_under_nohup_a_closed_terminal_changes_nothing(self, folder: Folder) -> None:
        process = subprocess.Popen(
            leashed("nohup", str(SHARDWISE), "run", "run.yaml"),
            cwd=folder.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(lambda: (folder.path / STATUS).exists(), what="a run that has begun")
        process.send_signal(signal.SIGHUP)
        assert process.wait(120) == 0
        assert phase(folder) == "Complete"


def test_a_file_of_the_current_folder_never_stands_in_for_a_module(folder: Folder) -> None:
    for name in ("random", "json", "pydantic", "shardwise_jobs", "numpy"):
        (folder.path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')\n")
    assert folder.command("plan", "run.yaml").code == 0
    done = folder.run()
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == digest_of(SAMPLES)


def test_the_product_starts_no_module_with_the_current_folder_in_its_path() -> None:
    root = Path(__file__).parents[2]
    starts = [
        f"{path.relative_to(root)}: {line.strip()}"
        for folder in ("crds", "operator", "jobs", "images", "charts")
        for path in sorted((root / folder).rglob("*"))
        if path.suffix in (".py", ".Dockerfile", ".yaml", ".tpl")
        for line in path.read_text(encoding="utf-8").splitlines()
        if '"-m"' in line
        and "tests.cluster" not in line
        and ("sys.executable" in line or '"python"' in line)
        and '"-P"' not in line
    ]
    # pip's own name can't be taken from it, and it is asked for only where a model is made.
    assert [start for start in starts if '"pip"' not in start] == []


def test_a_damaged_status_costs_nothing(folder: Folder) -> None:
    assert folder.run().code == 0
    (folder.path / STATUS).write_bytes(b"")
    refused = folder.run()
    assert refused.code == 1
    assert refused.err.splitlines() == [
        f"{folder.path / STATUS} is damaged: go on with --resume, or remove that folder"
    ]
    done = folder.run("--resume")
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == digest_of(SAMPLES)
    assert "is damaged: going on from what was committed" in done.err


NOBODY = """
import pwd, sys
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
from shardwise_cli.main import main
sys.argv = ["shardwise", *sys.argv[1:]]
main()
"""
"""The command for a user who is only a number."""


@pytest.mark.parametrize(
    ("words", "code"),
    [(("run", "run.yaml"), 0), (("ingest", "search", "--index", ".", "text"), 2), (("difflogic", "--help"), 0)],
    ids=lambda words: " ".join(words[:2]) if isinstance(words, tuple) else "",
)
def test_a_user_without_a_home_is_told_what_needs_one(folder: Folder, words: tuple[str, ...], code: int) -> None:
    kept = {"PATH": os.environ["PATH"]}
    command = leashed(sys.executable, "-c", NOBODY, *words)
    done = subprocess.run(command, cwd=folder.path, env=kept, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
