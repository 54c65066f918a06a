"""Compiling ahead: code is made for levels of processors, kept, found again, and not made anew in a pod."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.pod import cache_home, is_ours
from shardwise_jobs.engines.difflogic.model import compiled, cpu
from shardwise_jobs.engines.ingest.embed import onnx_model

TRAIN = """
import numba
from numba.core import event
seen = []
class Listener(event.Listener):
    def on_start(self, event):
        seen.append(event.data["dispatcher"].__name__)
    def on_end(self, event):
        pass
with event.install_listener("numba:compile", Listener()):
    from tests.unit.difflogic.test_same_bits import results
    results()
    def nothing_else():
        return 1
    numba.njit(nothing_else)()
print(*seen)
"""


def run(*arguments: str, folder: Path) -> str:
    chosen = {"NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, *arguments],
        # As in a pod: nobody has chosen a level yet.
        env={**{name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}, **chosen},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_was_compiled_ahead_is_all_that_a_training_needs(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    told = run("-m", "shardwise_jobs.engines.difflogic.model.compile", "--level", "own", folder=folder)
    assert told == "compiled for own\n"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert before
    folder.chmod(0o555)
    # What the script compiles at its end shows that compiling would be seen.
    assert run("-c", TRAIN, folder=folder).split() == ["nothing_else"]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_code_is_of_its_sources_whatever_their_age_and_place() -> None:
    stamp = compiled._stamp()
    assert len(stamp) == 64
    imported = {"llvm_kernels.py", "jit_kernels.py", "logits.py"}
    assert imported <= set(compiled._SOURCES)


@pytest.mark.parametrize(
    ("missing", "level"),
    [((), "x86-64-v4"), (("avx512vl",), "x86-64-v3"), (("avx2",), "x86-64-v2"), (("popcnt",), "x86-64")],
)
def test_a_processor_has_the_highest_level_all_of_whose_flags_it_has(missing: tuple[str, ...], level: str) -> None:
    every = cpu.LEVELS["x86-64-v4"] | {"fpu", "sse2"}
    assert cpu.level_of(every - set(missing)) == level


def test_whoever_names_a_processor_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cpu.NAME, "generic")
    monkeypatch.delenv(cpu.FEATURES, raising=False)
    cpu.choose()
    assert os.environ[cpu.NAME] == "generic"
    assert cpu.FEATURES not in os.environ


SQUARE = """
from shardwise_jobs.engines.difflogic.model.compiled import compiled, folder
def square(x: int) -> int:
    return x * x
made = compiled(square)
print(made(7), folder(), sum(made.stats.cache_hits.values()))
"""


@pytest.mark.parametrize(("suffix", "left"), [(".nbi", b""), (".nbc", b"\x80\x04half")])
def test_a_damaged_cache_is_compiled_anew(tmp_path: Path, suffix: str, left: bytes) -> None:
    assert run("-c", SQUARE, folder=tmp_path).split() == ["49", str(tmp_path), "0"]
    (damaged,) = tmp_path.glob(f"*{suffix}")
    damaged.write_bytes(left)
    assert run("-c", SQUARE, folder=tmp_path).split()[0] == "49"
    # And is whole for the next.
    assert run("-c", SQUARE, folder=tmp_path).split() == ["49", str(tmp_path), "1"]


def test_code_is_taken_from_no_folder_of_somebody_else(tmp_path: Path) -> None:
    home = tmp_path / "shardwise"
    assert is_ours(home)
    home.mkdir()
    assert is_ours(home)
    if os.geteuid() == 0:
        os.chown(home, 54321, -1)
        assert not is_ours(home)


def test_a_user_without_a_home_has_no_place_for_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    assert cache_home({}) is None
    assert cache_home({"HOME": "/h"}) == Path("/h/.cache/shardwise")
    assert cache_home({"HOME": "/h", "XDG_CACHE_HOME": "/c"}) == Path("/c/shardwise")
    with pytest.raises(BadConfiguration, match="SHARDWISE_MODEL"):
        onnx_model.default_folder({})
