"""Whether the kernel killed for want of memory: a script that it killed so has no chance to say it itself.

A cgroup counts such kills. That of this process is that of what it starts, in a pod as on a laptop.
"""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/")
_FIELD = "oom_kill"


class OomKills:
    """The counter of kills in this process's memory cgroup, of version 1 or 2; the machine's where there is none."""

    def __init__(self, *, root: Path = _ROOT) -> None:
        self._files = [*_counters(root), root / "proc/vmstat"]

    def count(self) -> int | None:
        """Return how many there were so far; None where nothing counts them."""
        for file in self._files:
            try:
                lines = file.read_text(encoding="ascii").splitlines()
            except OSError:
                continue
            for line in lines:
                name, _, value = line.partition(" ")
                if name == _FIELD:
                    return int(value)
        return None


def _counters(root: Path) -> list[Path]:
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            name = "memory.events"
        elif "memory" in controllers.split(","):
            name = "memory.oom_control"
        else:
            continue
        found += [folder / name for folder in _folders(root, controllers=controllers, path=path)]
    return found


def _folders(root: Path, *, controllers: str, path: str) -> list[Path]:
    found = []
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        top, mount = before.split(" ")[3:5]
        kind, _, options = after.split(" ")[:3]
        if kind == "cgroup2" if controllers == "" else kind == "cgroup" and "memory" in options.split(","):
            # A container sees its own cgroup as the mount's root, whatever the path says that the host knows it by.
            below = path[len(top) :] if top != "/" and (path + "/").startswith(top + "/") else path
            folder = root / mount.lstrip("/")
            own = folder / below.lstrip("/")
            found.append(folder if ".." in own.parts or not own.is_dir() else own)
    return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
