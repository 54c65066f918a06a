"""Prints what a build needs of the lock: `pins.py requirements.lock only uv`, or `… with "pymongo<4.16"`.

It runs inside a build, and before there is an environment, on nothing but Python. `only` prints the named packages'
pins, for a pip that checks hashes (`--require-hashes`). `with` prints the whole lock with the given constraints, one a
line, in the place of their packages' own pins.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def pins(lock: str) -> dict[str, str]:
    """Return each package's pins with their hashes, by its normalized name; it may have one per Python version."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if not line.strip() or line.startswith("#"):
            continue
        if not line[0].isspace():
            name = normalized(line)
        found[name] = found.get(name, "") + line
    return found


def normalized(requirement: str) -> str:
    """Return the name that a requirement begins with as package indexes compare it; "" when it begins with none."""
    match = _NAME.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def only(locked: Mapping[str, str], names: Sequence[str]) -> str:
    """Return the pins of the named packages; raise `SystemExit` for one that the lock lacks."""
    for name in names:
        if name not in locked:
            raise SystemExit(f"requirements.lock has no {name}: `make lock`")
    return "".join(locked[name] for name in names)


def constrained(locked: Mapping[str, str], constraints: str) -> str:
    """Return the lock with these constraints, one a line, instead of its pins of the same packages."""
    own = [line for line in constraints.splitlines() if line.strip()]
    named = {normalized(line) for line in own}
    return "".join([*(text for name, text in locked.items() if name not in named), *(f"{line}\n" for line in own)])


def main(words: Sequence[str]) -> str:
    """Return what the command line asks for; raise `SystemExit` where it can't be had."""
    match words:
        case [path, "only", *names]:
            return only(pins(Path(path).read_text()), names)
        case [path, "with", constraints]:
            return constrained(pins(Path(path).read_text()), constraints)
    raise SystemExit('usage: pins.py LOCK only NAME…, or pins.py LOCK with "CONSTRAINT"')


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))
