"""Builds the Go programs that no package offers, once: the name of a built program holds a digest of its sources."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.leash import leashed

from .errors import ClusterError
from .settings import KUBERNETES_VERSION, KUEUE_VERSION, SOURCES, cache_folder
from .shell import say

_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_KUBERNETES_FLAGS = (
    f"-X {_VERSION_PACKAGE}.gitVersion=v{KUBERNETES_VERSION} "
    f"-X {_VERSION_PACKAGE}.gitMajor={_MAJOR} -X {_VERSION_PACKAGE}.gitMinor={_MINOR}"
)
_HELM = "helm.sh/helm/v3"
# Without a cluster to ask, Helm renders and judges for the Kubernetes that it was told of here.
_HELM_FLAGS = f"-X {_HELM}/internal/version.version=v3.22.0 " + " ".join(
    f"-X {_HELM}/pkg/{package}.k8sVersionMajor={_MAJOR} -X {_HELM}/pkg/{package}.k8sVersionMinor={_MINOR}"
    for package in ("chartutil", "lint/rules")
)
_REPORT_SECONDS = 10.0
_LAST_WORDS = 4000


@dataclass(frozen=True, kw_only=True)
class Program:
    """One Go module of ours around somebody's `main`, or naming somebody's program as its tool."""

    name: str
    linker_flags: str = ""
    package: str = "."

    @property
    def sources(self) -> Path:
        """Its go.mod, go.sum and, unless the package is somebody else's, main.go."""
        return SOURCES / "go" / self.name

    @property
    def built(self) -> Path:
        """Where it lies once built: another place when its sources or flags change."""
        digest = hashlib.sha256(self.linker_flags.encode())
        for name in ("go.mod", "go.sum", *(["main.go"] if self.package == "." else [])):
            digest.update((self.sources / name).read_bytes())
        return cache_folder() / f"{self.name}-{digest.hexdigest()[:12]}"


HYPERKUBE = Program(name="hyperkube", linker_flags=_KUBERNETES_FLAGS)
ETCD = Program(name="etcd")
COREDNS = Program(name="coredns")
PROGRAMS = (HYPERKUBE, ETCD, COREDNS)
"""What a cluster is made of."""
HELM = Program(name="helm", linker_flags=_HELM_FLAGS, package=f"{_HELM}/cmd/helm")
"""Built for who asks for it (`helm.py`): a cluster runs without."""
_KUEUE = "sigs.k8s.io/kueue"
KUEUE = Program(
    name="kueue", package=f"{_KUEUE}/cmd/kueue", linker_flags=f"-X {_KUEUE}/pkg/version.GitVersion=v{KUEUE_VERSION}"
)
"""Queues Jobs (`kueue.py`); built for who asks for it, by far the longest of all."""
KWOK = Program(name="kwok", package="sigs.k8s.io/kwok/cmd/kwok")
"""Plays nodes and pods (`fake_nodes.py`); built for who asks for it."""


def ensure(programs: Sequence[Program] = PROGRAMS) -> None:
    """Build what is not there yet, and say how it goes: the first time takes minutes."""
    missing = [program for program in programs if not program.built.exists()]
    if not missing:
        return
    go = go_program()
    say(f"first start: building {', '.join(program.name for program in missing)} from Go modules; this takes minutes")
    cache_folder().mkdir(parents=True, exist_ok=True)
    for program in missing:
        _build(go, program)


def go_program() -> str:
    """Return Go's path; where the machine has none, `make` puts one beside the Python of the tests."""
    go = shutil.which("go", path=os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)]))
    if go is None:
        raise ClusterError("Go is missing: start by `make cluster-up`, or install Go 1.26 or newer")
    return go


def _build(go: str, program: Program) -> None:
    started = time.monotonic()
    packages = _go(go, "list", "-deps", program.package, program=program).packages
    say(f"  {program.name}: {packages} packages, of which what is not in Go's cache gets compiled")
    unfinished = program.built.with_suffix(".part")
    linker_flags = f"-s -w {program.linker_flags}".strip()
    flags = ("-v", "-trimpath", "-ldflags", linker_flags, "-o", str(unfinished))
    _go(go, "build", *flags, program.package, program=program)
    for old in cache_folder().glob(f"{program.name}-*"):
        if old != unfinished:
            old.unlink()
    unfinished.rename(program.built)
    say(f"  {program.name}: built in {time.monotonic() - started:.0f} s")


@dataclass
class _Progress:
    """What Go has named so far, a line each."""

    modules: int = 0
    packages: int = 0

    def see(self, line: bytes) -> None:
        if line.startswith(b"go: downloading "):
            self.modules += 1
        elif not line.startswith((b"go: ", b"#")):
            self.packages += 1


def _go(go: str, *arguments: str, program: Program) -> _Progress:
    """Run Go and report now and then how far it is, also while its linker is silent; an error brings its last words."""
    started = reported = time.monotonic()
    progress = _Progress()
    words = b""
    rest = b""
    with subprocess.Popen(
        leashed("nice", "-n", "19", go, *arguments),
        cwd=program.sources,
        env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        while True:
            if select.select([pipe], [], [], 1.0)[0]:
                read = os.read(pipe, 65536)
                if not read:
                    break
                words = (words + read)[-_LAST_WORDS:]
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    progress.see(line)
            now = time.monotonic()
            if now - reported >= _REPORT_SECONDS:
                reported = now
                say(
                    f"  {program.name}: go {arguments[0]} for {now - started:.0f} s: "
                    f"{progress.modules} modules downloaded, {progress.packages} packages done"
                )
    if process.returncode != 0:
        raise ClusterError(f"go {arguments[0]} of {program.name} failed:\n{words.decode(errors='replace')}")
    return progress
