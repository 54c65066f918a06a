"""Builds the Go programs that no package offers, once: the name of a built program holds a digest of its sources."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError
from .settings import KUBERNETES_VERSION, SOURCES, cache_folder
from .shell import run, say

_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_KUBERNETES_FLAGS = (
    f"-X {_VERSION_PACKAGE}.gitVersion=v{KUBERNETES_VERSION} "
    f"-X {_VERSION_PACKAGE}.gitMajor={_MAJOR} -X {_VERSION_PACKAGE}.gitMinor={_MINOR}"
)
_REPORT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Program:
    """One Go module of ours around somebody's `main`."""

    name: str
    linker_flags: str = ""

    @property
    def sources(self) -> Path:
        """Its go.mod, go.sum and main.go."""
        return SOURCES / "go" / self.name

    @property
    def built(self) -> Path:
        """Where it lies once built: another place when its sources or flags change."""
        digest = hashlib.sha256(self.linker_flags.encode())
        for name in ("go.mod", "go.sum", "main.go"):
            digest.update((self.sources / name).read_bytes())
        return cache_folder() / f"{self.name}-{digest.hexdigest()[:12]}"


HYPERKUBE = Program(name="hyperkube", linker_flags=_KUBERNETES_FLAGS)
ETCD = Program(name="etcd")
COREDNS = Program(name="coredns")
PROGRAMS = (HYPERKUBE, ETCD, COREDNS)


def ensure() -> None:
    """Build what is not there yet, and say how it goes: the first time takes minutes."""
    missing = [program for program in PROGRAMS if not program.built.exists()]
    if not missing:
        return
    # Where the machine has no Go, `make` puts one beside the Python of the tests.
    go = shutil.which("go", path=os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)]))
    if go is None:
        raise ClusterError("Go is missing: start by `make cluster-up`, or install Go 1.24 or newer")
    say(f"first start: building {', '.join(program.name for program in missing)} from Go modules; this takes minutes")
    cache_folder().mkdir(parents=True, exist_ok=True)
    for program in missing:
        _build(go, program)


def _build(go: str, program: Program) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    started = time.monotonic()
    say(f"  {program.name}: looking for its modules")
    packages = run(go, "list", "-deps", ".", environment=environment, folder=program.sources, timeout=1800)
    total = packages.count("\n")
    unfinished = program.built.with_suffix(".part")
    flags = ["-trimpath", "-v", "-ldflags", f"-s -w {program.linker_flags}".strip()]
    with subprocess.Popen(
        ["nice", "-n", "19", go, "build", *flags, "-o", unfinished, "."],
        cwd=program.sources,
        env=environment,
        stderr=subprocess.PIPE,
    ) as process:
        words = _follow(process, program=program, total=total)
    if process.returncode != 0:
        raise ClusterError(f"go build of {program.name} failed:\n{words}")
    for old in cache_folder().glob(f"{program.name}-*"):
        if old != unfinished:
            old.unlink()
    unfinished.rename(program.built)
    say(f"  {program.name}: built in {time.monotonic() - started:.0f} s")


def _follow(process: subprocess.Popen[bytes], *, program: Program, total: int) -> str:
    """Report packages compiled now and then, also while the linker is silent; return the last words for an error."""
    assert process.stderr is not None
    pipe = process.stderr.fileno()
    started = reported = time.monotonic()
    compiled = 0
    tail = b""
    while True:
        if select.select([pipe], [], [], 1.0)[0]:
            words = os.read(pipe, 65536)
            if not words:
                return tail.decode(errors="replace")
            tail = (tail + words)[-4000:]
            compiled += words.count(b"\n") - words.count(b"go: ")
        now = time.monotonic()
        if now - reported >= _REPORT_SECONDS:
            reported = now
            say(f"  {program.name}: {compiled} packages compiled of at most {total}, {now - started:.0f} s")
