"""A MongoDB-wire server for tests and benchmarks, because no package registry offers MongoDB itself.

Java's mongo-java-server with an H2 file behind it: built once into a cache folder, started as a process that ends with
whoever started it. `python -m tests.support.mongo_server --build` fills the cache, `--run` serves until Ctrl-C.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SOURCES = Path(__file__).parent / "mongo"
_REPOSITORY = Path(__file__).parents[2]
_DEBIAN_PACKAGES = ("default-jdk-headless", "maven")
_TOOLS = ("java", "javac", "mvn")
HOW_TO_GET = f"Install Java and Maven: apt-get install {' '.join(_DEBIAN_PACKAGES)}"
_STOP_SECONDS = 10


class ServerMissing(Exception):
    """The server can't be built or started on this machine."""


def _cache() -> Path:
    folder = os.environ.get("SHARDWISE_CACHE")
    return Path(folder) if folder else _REPOSITORY / ".cache"


def _ensure_tools() -> None:
    if all(map(shutil.which, _TOOLS)):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment, stdout=subprocess.DEVNULL)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *_DEBIAN_PACKAGES]
        subprocess.run(install, check=False, env=environment, stdout=subprocess.DEVNULL)
    if not all(map(shutil.which, _TOOLS)):
        raise ServerMissing(f"{', '.join(tool for tool in _TOOLS if not shutil.which(tool))} not found")


def build() -> Path:
    """Return the folder with the server's jars and classes, made on the first call."""
    sources = sorted(_SOURCES.iterdir())
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = _cache() / f"mongo-server-{digest}"
    if folder.exists():
        return folder
    _ensure_tools()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Aside and renamed when whole: several test runs may build at once, and one may be killed.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="mongo-server-building-") as aside:
        made = Path(aside) / "made"
        try:
            for command in (
                # A copy: Maven may write beside its pom.xml.
                ["cp", str(_SOURCES / "pom.xml"), aside],
                [
                    "mvn",
                    "-q",
                    "-B",
                    "-f",
                    f"{aside}/pom.xml",
                    "dependency:copy-dependencies",
                    f"-DoutputDirectory={made}",
                ],
                ["javac", "-cp", f"{made}/*", "-d", str(made), *map(str, _SOURCES.glob("*.java"))],
            ):
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise ServerMissing(f"building failed: {error.stdout[-1000:]}{error.stderr[-1000:]}") from error
        with suppress(OSError):
            made.rename(folder)
    return folder


@contextmanager
def running(data: Path) -> Iterator[str]:
    """Serve an H2 file on a free loopback port, yield the URI, stop the server."""
    folder = build()
    command = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{folder}:{folder}/*", "Main", str(data)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise ServerMissing(f"the server ended at once with exit status {process.wait()}")
            yield f"mongodb://127.0.0.1:{port}"
        finally:
            # The server ends with its standard input, so it outlives neither this process nor its death.
            process.stdin.close()
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Build the server, or run it until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.mongo_server", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--build", action="store_true", help="fill the cache and print its folder")
    what.add_argument("--run", action="store_true", help="print the URI and serve until Ctrl-C")
    parser.add_argument("--file", type=Path, help="where --run keeps its data; a temporary file unless given")
    arguments = parser.parse_args()
    try:
        if arguments.build:
            print(build())
            return
        with (
            tempfile.TemporaryDirectory() as temporary,
            suppress(KeyboardInterrupt),
            running(arguments.file or Path(temporary) / "data") as uri,
        ):
            print(uri, flush=True)
            _wait_for_interrupt()
    except ServerMissing as error:
        raise SystemExit(f"{error}\n{HOW_TO_GET}") from error


def _wait_for_interrupt() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.pause()


if __name__ == "__main__":
    main()
