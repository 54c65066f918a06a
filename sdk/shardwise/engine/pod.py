"""Where a worker finds itself: in a pod a missing path wants a volume, and there may be no home to keep things in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from shardwise_api.wire import Environment

MOUNT = "mount a volume there with spec.worker.volumes and spec.worker.volumeMounts"


def in_pod(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this worker runs in a pod: a local runner's has a parent, a pod's is told its name."""
    return Environment.PARENT not in environment and "POD_NAME" in environment


def mount_hint(path: Path, *, writable: bool = False) -> str:
    """Return what to do in a pod about a path that isn't there, or can't be written; "" elsewhere."""
    if not in_pod():
        return ""
    if not path.is_absolute():
        return f"; a relative path means nothing in a pod: name an absolute one, and {MOUNT}"
    owner = f"; it must be writable for user {os.getuid()}" if writable else ""
    return f"; in a pod, {MOUNT}{owner}"


def provide_home(environment: MutableMapping[str, str] = os.environ) -> None:
    """Point HOME to the temporary folder when it can't be written.

    Libraries keep caches there; without one they fail, or write into the working directory, which is read-only. A user
    that is only a number has no home, or `/`.
    """
    home = environment.get("HOME")
    if not home or not os.access(home, os.W_OK | os.X_OK):
        environment["HOME"] = tempfile.gettempdir()


def cache_home(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder below which this user's caches are kept, None for a user without one; it need not exist."""
    if named := environment.get("XDG_CACHE_HOME"):
        return Path(named) / "shardwise"
    try:
        return Path(environment.get("HOME") or Path.home()) / ".cache" / "shardwise"
    except RuntimeError:
        # No HOME, and no entry in the user database.
        return None


def is_ours(folder: Path) -> bool:
    """Say whether nobody but this user and root may have made a folder and the one above it, as far as they exist."""
    for path in (folder, *folder.parents[:1]):
        try:
            if path.stat().st_uid not in (0, os.getuid()):
                return False
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
