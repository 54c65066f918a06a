"""Deletes workers of a run in a cluster, one every few seconds, as drained nodes and impatient people do."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.workspace import Submitted

EVERY_SECONDS = 3.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A pod that was deleted."""

    pod: str
    shard: int
    at: float
    """Shortly before, in seconds since 1970."""


@contextmanager
def deleting(
    run: Submitted, *, graces: Sequence[int] = (30,), per_shard: int | None = None, at_once: int = 0
) -> Iterator[list[Deletion]]:
    """Delete a random worker pod every few seconds while the block runs; yields what was deleted.

    The graces, in seconds, take turns; 0 kills at once. `per_shard` bounds the deletions of one shard: the Job
    controller waits twice as long after each. The first `at_once` ones come as soon as a pod runs, so that a
    run that is soon over has them too.
    """
    over, deleted = threading.Event(), list[Deletion]()
    chance = random.Random(4)

    def work() -> None:
        while not over.wait(_POLL_SECONDS if len(deleted) < at_once else EVERY_SECONDS):
            before = Counter(one.shard for one in deleted)
            pods = {
                pod["metadata"]["name"]: _shard(pod)
                for pod in run.pods("shardwise.dev/step=work")
                if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
                if per_shard is None or before[_shard(pod)] < per_shard
            }
            if pods:
                victim = chance.choice(sorted(pods))
                grace = graces[len(deleted) % len(graces)]
                this = Deletion(pod=victim, shard=pods[victim], at=time.time())
                force = () if grace else ("--force",)
                done = run.cluster.try_kubectl(
                    "delete", "pod", victim, "--wait=false", "--ignore-not-found", f"--grace-period={grace}", *force
                )
                # One that could not be asked for is no deletion; the next one comes.
                if done.returncode == 0:
                    deleted.append(this)

    thread = threading.Thread(target=work, name="chaos")
    thread.start()
    try:
        yield deleted
    finally:
        over.set()
        thread.join()


def _shard(pod: dict[str, Any]) -> int:
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
