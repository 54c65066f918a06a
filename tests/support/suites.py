"""Trees of training scripts, each of which behaves in one way: well, badly, slowly, or not at all as a runner hopes.

`SCRIPTS` has their texts by name; `plant` puts some of them into a folder as `train_<name>.py`. A script that waits
says so in a file `.ready` beside itself, and goes on when there is one that ends in `.go`: no test has to guess.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cli import SHARDWISE, Finished, finish
from .kube import eventually
from .leash import leashed

_OPTIONS = """\
import argparse, json, os, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--output-dir", type=pathlib.Path, required=True)
parser.add_argument("--epochs", type=int, default=1)
options = parser.parse_args()
options.output_dir.mkdir(parents=True, exist_ok=True)
"""

_WAIT = """\
import os, pathlib, sys, time
here = pathlib.Path(__file__)
def ready(text=""):
    new = here.with_suffix(".new")
    new.write_text(text or str(os.getpid()))
    new.replace(here.with_suffix(".ready"))
def wait():
    end = time.monotonic() + 120
    while not here.with_suffix(".go").exists():
        if time.monotonic() > end:
            sys.exit("nobody let it go")
        time.sleep(0.01)
"""

SCRIPTS: dict[str, bytes] = {
    name: text.encode()
    for name, text in {
        "ok": _OPTIONS
        + """\
for epoch in range(options.epochs):
    print(f"epoch {epoch + 1}/{options.epochs}")
(options.output_dir / "metrics.json").write_text(json.dumps({"epochs": options.epochs}))
""",
        # As many failures as the environment says, counted in a file; then it succeeds.
        "flaky": _OPTIONS
        + """\
counter = options.output_dir / "attempts"
before = int(counter.read_text()) if counter.exists() else 0
counter.write_text(str(before + 1))
print(f"attempt {before + 1}")
sys.exit(7 if before < int(os.environ.get("FLAKY_FAILURES", "1")) else 0)
""",
        "bad": """\
import sys
print("this never works")
sys.exit(3)
""",
        "slow": """\
import os, time
time.sleep(float(os.environ.get("SLOW_SECONDS", "2")))
print("done")
""",
        "noisy": """\
import sys
line = b"x" * 99 + b"\\n"
for _ in range(100):
    sys.stdout.buffer.write(line * 1000)
""",
        "waiting": _WAIT
        + """\
ready()
wait()
print("went on")
""",
        "traps_sigterm": _WAIT
        + """\
import signal
def leave(*_):
    print("put away", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
ready()
wait()
""",
        "ignores_sigterm": _WAIT
        + """\
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready()
wait()
""",
        # Detection by text believes the comment; argparse does not know the option, and ends with 2.
        "unknown_option": """\
# One day: --epochs
import argparse
argparse.ArgumentParser().parse_args()
""",
        "comment_only": """\
# It once had --epochs.
import sys
print(sys.argv[1:])
""",
        "no_options": """\
print("nothing to choose")
""",
        "own_spelling": """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", required=True)
parser.add_argument("--batch", type=int, required=True)
options = parser.parse_args()
print(options.output_dir, options.batch)
""",
        "with blanks": """\
print("a name with a blank")
""",
        "no_newline": """\
import sys
sys.stdout.write("ends without a line end")
""",
        "binary": """\
import sys
sys.stdout.buffer.write(b"caf\\xe9 \\xff\\xfe \\x00 \\x1b[31mred\\n")
""",
        "closes_stdout": _WAIT
        + """\
print("last words", flush=True)
os.close(1)
os.close(2)
ready()
wait()
""",
        "lasting_child": _WAIT
        + """\
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
ready(str(child.pid))
""",
        "waits_for_child": _WAIT
        + """\
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
ready(str(child.pid))
child.wait()
""",
        # Away from its session, its group and its parent, and with its end of the pipe still open.
        "daemon": _WAIT
        + """\
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writing, str(os.getpid()).encode())
        time.sleep(600)
    os._exit(0)
ready(os.read(reading, 20).decode())
""",
        "kills_itself": """\
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
""",
        "takes_memory": """\
import os
print("taking", flush=True)
taken = []
while True:
    taken.append(os.urandom(1 << 20))
""",
        "environment": """\
import os, sys
print(os.getcwd())
print(sys.stdin.read() == "")
print(os.getsid(0) == os.getpid())
""",
    }.items()
} | {"not_utf8": b"# -*- coding: latin-1 -*-\n# caf\xe9: --epochs\nprint('caf\xe9'.encode('latin-1'))\n"}


def plant(folder: Path, *names: str) -> Path:
    """Write some scripts into a folder, made if need be, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"train_{name}.py").write_bytes(SCRIPTS[name])
    return folder


def plant_copies(folder: Path, behaviour: str, *names: str) -> Path:
    """Write one script under several names into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"train_{name}.py").write_bytes(SCRIPTS[behaviour])
    return folder


def plant_loop(folder: Path) -> None:
    """Add a link that leads back to the folder: who follows it never comes to an end."""
    (folder / "loop").symlink_to(folder, target_is_directory=True)


def plant_many(folder: Path, count: int = 200) -> None:
    """Add that many scripts that end at once, three to a folder."""
    for number in range(count):
        path = folder / f"part_{number // 3:03}" / f"train_{number:03}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"print({number})\n", encoding="utf-8")


def wait_ready(folder: Path, name: str) -> str:
    """Wait until a script says that it waits, and return what it said: its process id, or its child's."""
    path = folder / f"train_{name}.ready"
    eventually(path.exists, seconds=300, what=f"{path.name} there")
    return path.read_text()


def let_go(folder: Path, *names: str) -> None:
    """Let scripts that wait go on."""
    for name in names:
        (folder / f"train_{name}.go").touch()


def alive(pid: str | int) -> bool:
    """Whether a process is there that still runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start_suite(
    tree: Path, *arguments: str, built_in: bool = False, prefix: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start `shardwise suite` in a tree, without the built-in jobs unless asked for, and return its process."""
    words = arguments if built_in else ("--no-default-jobs", *arguments)
    return subprocess.Popen(
        leashed(*prefix, str(SHARDWISE), "suite", *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tree,
    )


def run_suite(tree: Path, *arguments: str, built_in: bool = False, prefix: Sequence[str] = ()) -> Finished:
    """Run `shardwise suite` in a tree to its end."""
    return finish(start_suite(tree, *arguments, built_in=built_in, prefix=prefix))


def summary_in(tree: Path) -> dict[str, Any]:
    """Return the only summary in a tree."""
    (path,) = (tree / "summaries").glob("training_summary_*.json")
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def statuses_in(tree: Path) -> dict[str, str]:
    """Return each job's status, by id, in the order of the only summary in a tree."""
    return {job["id"]: job["status"] for job in summary_in(tree)["jobs"]}
