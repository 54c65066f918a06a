"""Debian's share of a build without Docker: the programs, and a base image made of packages."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from .errors import ImageError
from .settings import archives_folder, storage_folder
from .shell import follow, run, say

_SUITE = "bookworm"
_INCLUDED = "python3,python3-venv,ca-certificates"
# debootstrap writes this machine's name, resolver and package mirror into what it makes: no image may keep them.
# Licences stay, other documents go.
_CLEAN = """
cd "$1"
rm -rf var/cache/apt/* var/lib/apt/lists/* var/cache/debconf/*-old var/log/* var/lib/dpkg/*-old tmp/* var/tmp/* dev/*
rm -rf usr/share/man usr/share/info usr/share/locale usr/share/lintian
rm -f etc/apt/sources.list etc/hostname etc/machine-id
: > etc/resolv.conf
find usr/share/doc -type f ! -name copyright -delete
find usr/share/doc -type l ! -name copyright -delete
find usr/share/doc -type d -empty -delete
"""


def ensure(programs: Mapping[str, str]) -> None:
    """Install the packages (values, blanks between) of the programs (keys) that are missing; raise where it can't."""
    missing = [name for program, names in programs.items() if shutil.which(program) is None for name in names.split()]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ImageError(f"start a Docker engine, or install {' '.join(missing)} and build as root on Debian")
    say(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", environment=environment)
    run("apt-get", "install", "-qy", "--no-install-recommends", *missing, environment=environment)


def base_name() -> str:
    """Return the name of the local base image: another one when its recipe changes."""
    digest = hashlib.sha256("\0".join((_SUITE, _INCLUDED, _CLEAN)).encode()).hexdigest()[:12]
    return f"localhost/shardwise-base:{_SUITE}-{digest}"


def base_archive() -> Path:
    """Return the base's root file system as a tar file, made on the first call, which takes a minute."""
    archive = archives_folder() / f"base-{base_name().rpartition(':')[2]}.tar"
    if archive.exists():
        return archive
    ensure({"debootstrap": "debootstrap debian-archive-keyring"})
    if os.geteuid() != 0:
        raise ImageError("a base image is root's to make: start it as root, or start a Docker engine")
    say(f"making the base image from Debian's packages: {_INCLUDED.replace(',', ', ')}")
    started = time.monotonic()
    (storage_folder() / "tmp").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=storage_folder() / "tmp", prefix="base-") as folder:
        root = Path(folder) / "root"
        follow(
            "debootstrap", "--force-check-gpg", "--variant=minbase", f"--include={_INCLUDED}", _SUITE, root, *_mirror()
        )
        run("sh", "-euc", _CLEAN, "sh", root)
        unfinished = archive.with_suffix(".part")
        run("tar", "--create", "--sort=name", "--numeric-owner", f"--directory={root}", f"--file={unfinished}", ".")
    for old in archives_folder().glob("base-*.tar"):
        old.unlink()
    unfinished.rename(archive)
    say(f"  {time.monotonic() - started:6.1f} s  base image, {archive.stat().st_size / 1e6:.0f} MB")
    return archive


def apt_sources() -> str:
    """Return a line for apt that leads a build on the local base to this machine's mirror."""
    return "".join(f"deb {mirror} {_SUITE} main\n" for mirror in _mirror())


def _mirror() -> list[str]:
    """Return the mirror that this machine takes the suite from; none on a machine of another suite."""
    words = ("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", f"Codename: {_SUITE}")
    return run(*words).splitlines()[:1] if shutil.which("apt-get") else []
