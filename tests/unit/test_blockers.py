"""What keeps pods from running, as kubelets, schedulers and admission say it, becomes a reason a person can look up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shardwise_operator.observe.blockers import blocker_in_events, blocker_of, reason_of
from tests.support.bodies import condition, ended, pod, running, snapshot_of_pod, text, waiting
from tests.support.virtual_time import T0

Body = dict[str, Any]


def reasons(*bodies: Body) -> list[str]:
    found = blocker_of([snapshot_of_pod(body) for body in bodies])
    return [] if found is None else [found.reason]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (waiting("ImagePullBackOff", 'Back-off pulling image "x:1"'), "ImagePullBackOff"),
        (waiting("ErrImagePull", "initializing source: reading manifest: manifest unknown"), "ImagePullBackOff"),
        (waiting("ErrImageNeverPull", 'Container image "x:1" is not present with pull policy of Never'),
         "ErrImageNeverPull"),
        (waiting("InvalidImageName", 'Failed to apply default image tag "X:": invalid reference format'),
         "InvalidImageName"),
        (waiting("CreateContainerConfigError", 'secret "mongo" not found'), "SecretMissing"),
        (waiting("CreateContainerConfigError", "couldn't find key uri in Secret team/mongo"), "SecretKeyMissing"),
        (waiting("CreateContainerConfigError", 'configmap "places" not found'), "ConfigMapMissing"),
        (waiting("CreateContainerConfigError", "couldn't find key uri in ConfigMap team/places"),
         "ConfigMapKeyMissing"),
        (waiting("CreateContainerError", "failed to create containerd task"), "CreateContainerError"),
        ({"conditions": [condition("PodScheduled", "False", "Unschedulable", "0/2 nodes: 2 Insufficient cpu.")]},
         "Unschedulable"),
    ],
)  # fmt: skip
def test_a_waiting_pod_has_its_reason(status: Body, reason: str) -> None:
    found = blocker_of([snapshot_of_pod(pod(**status))])
    assert found is not None
    assert found.reason == reason
    assert found.message.startswith("pod words-0-")


@pytest.mark.parametrize(
    "body",
    [
        pod(),
        pod(**waiting("ContainerCreating")),
        pod(**waiting("PodInitializing")),
        pod(**running()),
        pod(**ended(1)),
        pod(metadata={"deletionTimestamp": text(1)}, **waiting("ImagePullBackOff", "x")),
        pod(conditions=[condition("PodScheduled", "True")]),
    ],
)
def test_a_pod_that_starts_or_runs_or_goes_is_no_trouble(body: Body) -> None:
    assert reasons(body) == []


def test_the_first_shard_speaks_for_all() -> None:
    bodies = [pod(n, uid=f"pod-{n}", **waiting("ErrImagePull", "no such image")) for n in (5, 2, 7)]
    found = blocker_of([snapshot_of_pod(body) for body in bodies])
    assert found is not None
    assert found.message == "pod words-2-pod-2: the image can't be pulled: no such image (and 2 more pods)"


def test_it_is_the_same_whatever_the_order() -> None:
    bodies = [snapshot_of_pod(pod(n, **waiting("ErrImagePull", f"message {n}"))) for n in range(3)]
    assert blocker_of(bodies) == blocker_of(bodies[::-1])


def test_a_long_message_is_cut() -> None:
    found = blocker_of([snapshot_of_pod(pod(**waiting("ErrImagePull", "x" * 9999)))])
    assert found is not None
    assert len(found.message) == 1024


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "words-0-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5',
         "QuotaExceeded"),
        ('pods "words-0-x" is forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities',
         "PodSecurityViolation"),
        ('pods "words-0-x" is forbidden: error looking up service account team/mine: serviceaccount "mine" not found',
         "ServiceAccountMissing"),
        ('MountVolume.SetUp failed for volume "data" : secret "s" not found', "SecretMissing"),
        ('MountVolume.SetUp failed for volume "data" : references non-existent secret key: k', "SecretKeyMissing"),
        ('MountVolume.SetUp failed for volume "data" : references non-existent config key: k', "ConfigMapKeyMissing"),
        ('MountVolume.SetUp failed for volume "shardwise-run" : configmap "words" not found', "ConfigMapMissing"),
        ('jobs.batch "words" is forbidden: unable to create new content in namespace team because it is being '
         'terminated', "NamespaceTerminating"),
        ('jobs.batch is forbidden: User "u" cannot create resource "jobs" in API group "batch"', "Forbidden"),
        ("something else", "FailedCreate"),
    ],
)  # fmt: skip
def test_an_event_has_its_reason(message: str, reason: str) -> None:
    found = blocker_in_events([event(message)])
    assert found is not None
    assert (found.reason, found.message) == (reason, message)


def test_the_newest_warning_counts() -> None:
    events = [
        event("older", at=1), event("newest", at=9), event("fine", at=20, type="Normal"), event("", at=30),
        event("in between", at=5),
    ]  # fmt: skip
    found = blocker_in_events(events)
    assert found is not None
    assert found.message == "newest"


def test_a_series_is_as_new_as_its_last() -> None:
    series = {"lastTimestamp": None, "series": {"lastObservedTime": text(99)}}
    found = blocker_in_events([event("single", at=50), {**event("series"), **series}])
    assert found is not None
    assert found.message == "series"


def test_without_warnings_there_is_no_trouble() -> None:
    assert blocker_in_events([]) is None
    assert blocker_in_events([event("fine", type="Normal")]) is None


def test_what_was_said_before_it_was_mended_is_over() -> None:
    old = event("exceeded quota", at=10)
    assert blocker_in_events([old], since=T0 + timedelta(seconds=11)) is None
    assert blocker_in_events([old], since=T0 + timedelta(seconds=9)) is not None


def test_an_event_without_a_time_still_counts() -> None:
    timeless = {"type": "Warning", "message": "exceeded quota", "metadata": {}}
    assert blocker_in_events([timeless], since=T0) is not None


def test_what_nobody_knows_keeps_its_own_reason() -> None:
    assert reason_of("strange", otherwise="Strange") == "Strange"


def event(message: str, *, at: float = 1, **more: Any) -> Body:
    return {"type": "Warning", "reason": "FailedCreate", "message": message, "lastTimestamp": text(at), **more}
