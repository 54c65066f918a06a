"""Pods deleted until the end, the operator too: the same digest, every item counted once, and nobody's word is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import pytest

from shardwise_api.status import Phase, RunStatus
from tests.e2e.installed import Installed
from tests.support import expected
from tests.support.deletions import deleting
from tests.support.kube import eventually
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SAMPLES = 1200
LONG = 3000
"""Samples for as long as three restarts take."""
CURRENT_WITHIN_SECONDS = 60.0
"""Ten on a machine at rest, most of it the Lease of who was killed; here pods may come up late, and report later."""


@pytest.mark.beside
@pytest.mark.parametrize("transport", ["Direct", "Rest"])
def test_a_worker_deleted_every_three_seconds_changes_nothing(workspace: Workspace, transport: str) -> None:
    run = workspace.submit(f"chaos-{transport.lower()}", samples=SAMPLES, transport=transport, retry={"perShard": 20})

    # A shard that is hit again and again waits twice as long each time.
    with deleting(run, at_once=2, per_shard=5) as deleted:
        status = run.complete(seconds=800)

    assert status.result is not None
    assert len(deleted) >= 2
    assert status.result.digest == expected.digest_of(SAMPLES)
    assert (status.items.total, status.items.done) == (SAMPLES, SAMPLES)


def test_the_operator_killed_three_times_loses_nothing_and_is_current_soon(
    workspace: Workspace, shardwise: Installed
) -> None:
    run = workspace.submit("operator-killed", samples=LONG)

    for _ in range(3):
        run.until(lambda status: status.items.done or status.finished, what="it works")
        back = _kill_operator(shardwise)
        if not run.status.finished:
            run.until(
                partial(_current, since=back),
                seconds=CURRENT_WITHIN_SECONDS,
                what="the status is current",
            )
    status = run.complete(seconds=600)

    assert status.result is not None
    assert status.result.digest == expected.digest_of(LONG)
    assert status.items.done == LONG
    assert len(run.pods("shardwise.dev/step=prepare")) == 1, "a restarted operator makes no step twice"


def _kill_operator(shardwise: Installed) -> datetime:
    """Delete the operator's pod without grace and return when the next one was ready."""
    old = {pod["metadata"]["uid"] for pod in shardwise.operator_pods()}
    for pod in shardwise.operator_pods():
        shardwise.cluster.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")

    def ready() -> bool:
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for pod in shardwise.operator_pods()
            if pod["metadata"]["uid"] not in old
            for condition in pod["status"].get("conditions", ())
        )

    eventually(ready, seconds=120, what="the operator is back")
    return datetime.now(UTC)


def _current(status: RunStatus, *, since: datetime) -> bool:
    told = status.progress.last_updated_time
    # When the last worker has ended meanwhile there is nobody to report, and the next step begins.
    return status.finished or status.phase is Phase.FINALIZING or (told is not None and told > since)
