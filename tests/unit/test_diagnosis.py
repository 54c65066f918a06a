"""Whose Events to ask when nothing else says why workers don't start, and what a refused call is called."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shardwise_operator.shell.api import ApiError
from shardwise_operator.shell.apply import NameTaken
from shardwise_operator.shell.diagnosis import PATIENCE, diagnose, refused, unexplained
from tests.support.bodies import (
    condition,
    ended,
    job,
    over,
    pod,
    running,
    snapshot_of_job,
    snapshot_of_pod,
    text,
    waiting,
)
from tests.support.fake_api import FakeApi
from tests.support.virtual_time import T0, in_virtual_time

Body = dict[str, Any]
LATER = PATIENCE + timedelta(seconds=1)


def asked(jobs: list[Body], pods: list[Body], *, after: timedelta = LATER) -> tuple[str, str] | None:
    return unexplained(now=T0 + after, jobs=[snapshot_of_job(j) for j in jobs], pods=[snapshot_of_pod(p) for p in pods])


class TestWhomToAsk:
    def test_a_job_without_pods(self) -> None:
        assert asked([job()], []) == ("Job", "job-work")

    def test_a_pod_whose_container_does_not_come(self) -> None:
        assert asked([job()], [pod(3, **waiting("ContainerCreating"))]) == ("Pod", "pod-work-3")

    def test_nobody_too_soon(self) -> None:
        assert asked([job()], [], after=PATIENCE) is None
        assert asked([job()], [pod(3)], after=PATIENCE) is None

    @pytest.mark.parametrize(
        "body",
        [
            job(status=over("Complete")), job(status=over("Failed")), job(spec={"suspend": True}),
            job(metadata={"deletionTimestamp": text(1)}), job(spec={"parallelism": 0}),
        ],
        ids=["complete", "failed", "suspended", "deleted", "no place for it"],
    )  # fmt: skip
    def test_nobody_about_a_job_that_should_have_no_pods(self, body: Body) -> None:
        assert asked([body], []) is None

    @pytest.mark.parametrize(
        "body",
        [
            pod(**running()),
            pod(**waiting("ImagePullBackOff", "x")),
            pod(conditions=[condition("PodScheduled", "False", "Unschedulable", "no node")]),
        ],
        ids=["runs", "says-why", "says-why-not-scheduled"],
    )
    def test_nobody_about_a_pod_that_speaks_for_itself(self, body: Body) -> None:
        assert asked([job()], [body]) is None

    def test_the_job_when_all_its_pods_have_ended(self) -> None:
        assert asked([job()], [pod(**ended(1))]) == ("Job", "job-work")


class TestAsking:
    def test_is_about_one_object_and_its_warnings(self) -> None:
        api = FakeApi()
        for number, (uid, type_, message) in enumerate(
            [("a", "Warning", "exceeded quota"), ("b", "Warning", "not mine"), ("a", "Normal", "fine")]
        ):
            api.put(
                f"/api/v1/namespaces/team/events/{number}",
                {"kind": "Event", "metadata": {"name": str(number), "namespace": "team"}, "type": type_,
                 "message": message, "lastTimestamp": text(number), "involvedObject": {"kind": "Job", "uid": uid}},
            )  # fmt: skip
        found = in_virtual_time(diagnose(api=api, namespace="team", kind="Job", uid="a"))
        assert found is not None
        assert (found.reason, found.message) == ("QuotaExceeded", "exceeded quota")


class TestRefused:
    def test_a_missing_right_has_a_way_out(self) -> None:
        found = refused(error(403, "Forbidden", 'jobs is forbidden: User "u" cannot create resource "jobs"'))
        assert found.reason == "Forbidden"
        assert "install the chart with its rbac" in found.message

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            ("pods is forbidden: exceeded quota: q", "QuotaExceeded"),
            ("jobs is forbidden: unable to create new content in namespace x because it is being terminated",
             "NamespaceTerminating"),
            ('admission webhook "policy" denied the request', "Forbidden"),
        ],
    )  # fmt: skip
    def test_what_admission_says_is_not_blamed_on_rights(self, message: str, reason: str) -> None:
        found = refused(error(403, "Forbidden", message))
        assert (found.reason, found.message) == (reason, message)

    def test_no_answer_is_said_as_such(self) -> None:
        assert refused(error(0, "Unreachable", "timed out")).reason == "Unreachable"

    def test_an_error_without_a_reason_has_one(self) -> None:
        assert refused(error(502, "", "bad gateway")).reason == "ApiError"

    def test_a_taken_name_is_said_in_its_own_words(self) -> None:
        found = refused(NameTaken("Job words is there and not of this run"))
        assert (found.reason, found.message) == ("NameTaken", "Job words is there and not of this run")

    def test_a_long_answer_is_cut(self) -> None:
        assert len(refused(error(422, "Invalid", "x" * 5000)).message) == 1024


def error(status: int, reason: str, message: str) -> ApiError:
    return ApiError(status=status, reason=reason, message=message)
