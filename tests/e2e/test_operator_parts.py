"""The operator's parts that lean on the API server's own ways, asked of a real one: Leases, TokenReviews, Events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import kr8s.asyncio
import pytest

from shardwise_cli.cluster.client import private_files
from shardwise_operator.children.pod import TOKEN_AUDIENCE
from shardwise_operator.core.events import EventReason, RunEvent
from shardwise_operator.shell.api import Api
from shardwise_operator.shell.event_poster import EventPoster
from shardwise_operator.shell.lease import Leadership
from shardwise_operator.shell.tokens import PodIdentity, Reviewer, TokenRefused
from shardwise_operator.shell.watch_audit import WatchAuditor, Watched
from tests.support.kube import BUSYBOX, Cluster, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def corner(cluster: Cluster) -> Iterator[Cluster]:
    with cluster.own_namespace("parts") as corner:
        yield corner


@pytest.fixture(scope="module")
def pod(corner: Cluster) -> dict[str, Any]:
    """A pod that only has to be there: tokens are bound to it."""
    corner.kubectl("create", "serviceaccount", "words")
    container = {"name": "worker", "image": BUSYBOX, "command": ["sh", "-c", "sleep 3600"]}
    spec = {"serviceAccountName": "words", "terminationGracePeriodSeconds": 0, "containers": [container]}
    corner.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "words-0"}, "spec": spec})
    found: dict[str, Any] = corner.get("pod", "words-0")
    return found


class TestLease:
    def test_one_leads_the_other_follows_it_and_comes_after_it(self, corner: Cluster) -> None:
        async def story() -> None:
            async with _connected(corner) as api:
                first = _Candidate(api, corner, 1)
                await first.gained.wait()
                second = _Candidate(api, corner, 2)
                await second.until_it_knows("10.0.0.1")
                assert not (first.leadership.leading and second.leadership.leading)
                await first.end()
                await second.gained.wait()
                assert not first.leadership.leading
                assert second.leadership.leader_address == "10.0.0.2"
                await second.end()

        asyncio.run(asyncio.wait_for(story(), timeout=60))
        lease = corner.get("lease", "operator")["spec"]
        assert lease["holderIdentity"] == ""
        # More where the API server was slow, and the first lost it for a while.
        assert lease["leaseTransitions"] >= 1


class TestTokens:
    def test_a_pod_s_token_names_the_pod(self, corner: Cluster, pod: dict[str, Any]) -> None:
        assert _identify(corner, _token(corner)) == PodIdentity(
            namespace=corner.namespace, service_account="words", pod_name="words-0", pod_uid=pod["metadata"]["uid"]
        )

    def test_a_token_for_another_audience_is_refused(self, corner: Cluster, pod: dict[str, Any]) -> None:
        with pytest.raises(TokenRefused, match=f"not a token for {TOKEN_AUDIENCE}"):
            _identify(corner, _token(corner, audience="elsewhere"))

    def test_a_token_of_no_pod_is_refused(self, corner: Cluster, pod: dict[str, Any]) -> None:
        with pytest.raises(TokenRefused, match="not a token of a pod"):
            _identify(corner, _token(corner, bound=False))

    def test_a_token_with_another_signature_is_refused(self, corner: Cluster, pod: dict[str, Any]) -> None:
        head, body, signature = _token(corner).split(".")
        with pytest.raises(TokenRefused, match=f"not a valid token for {TOKEN_AUDIENCE}"):
            _identify(corner, f"{head}.{body}.{signature[::-1]}")

    def test_a_token_of_a_pod_that_is_gone_is_refused(self, corner: Cluster) -> None:
        container = {"name": "worker", "image": BUSYBOX, "command": ["sh", "-c", "sleep 3600"]}
        spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
        corner.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "short"}, "spec": spec})
        token = _token(corner, pod="short", account="default")
        assert _identify(corner, token).pod_name == "short"
        corner.kubectl("delete", "pod", "short", "--now")
        # The API server keeps an answer of its own for some seconds.
        eventually(lambda: _is_refused(corner, token), what="the token is refused")


class TestEvents:
    def test_what_happened_is_shown_with_the_object_once(self, corner: Cluster) -> None:
        corner.kubectl("create", "configmap", "words")
        about = {**corner.get("configmap", "words"), "apiVersion": "v1", "kind": "ConfigMap"}
        posted = [
            RunEvent(reason=EventReason.ACCEPTED, message="The manifest is valid", occasion="1"),
            RunEvent(reason=EventReason.FAILED, message="x" * 5000),
        ]

        async def story() -> int:
            async with _connected(corner) as api:
                poster = EventPoster(api=api, instance="operator-0")
                task = asyncio.create_task(poster.run())
                # A restarted operator may tell the same again.
                poster.post(about, *posted, *posted)
                await poster.drained()
                task.cancel()
                return poster.dropped

        assert asyncio.run(asyncio.wait_for(story(), timeout=60)) == 0
        events = [
            event for event in corner.get("events.events.k8s.io")["items"] if event["regarding"]["name"] == "words"
        ]
        assert sorted((event["type"], event["reason"]) for event in events) == [
            ("Normal", "Accepted"), ("Warning", "Failed"),
        ]  # fmt: skip
        described = corner.kubectl("describe", "configmap", "words")
        assert re.search(r"Normal +Accepted .* The manifest is valid", described)


class TestWatchAuditor:
    def test_an_audit_of_real_lists_finds_what_no_watch_showed(self, corner: Cluster, pod: dict[str, Any]) -> None:
        """The pod changes no more once it runs, and the watch is dead from the start."""
        corner.kubectl("wait", "--for=condition=Ready", "pod/words-0", "--timeout=60s")
        healed: list[tuple[str, str]] = []
        clock = [0.0]

        async def refresh(kind: str, path: str) -> None:
            healed.append((kind, (await api_of[0].get(path))["metadata"]["name"]))

        api_of: list[Api] = []

        async def story() -> str | None:
            async with _connected(corner) as api:
                api_of.append(api)
                path = f"/api/v1/namespaces/{corner.namespace}/pods"
                auditor = WatchAuditor(
                    api=api, watched=(Watched(kind="Pod", paths=(path,)),), seen=lambda _: {}, refresh=refresh,
                    evict=lambda *_: None, clock=lambda: clock[0],
                )  # fmt: skip
                for _ in range(4):
                    assert await auditor.audit_all()
                    clock[0] += 60
                return auditor.problem()

        assert asyncio.run(asyncio.wait_for(story(), timeout=60)) == "watches miss what happens: Pod (240 s)"
        assert healed == [("Pod", "words-0")] * 3


class _Candidate:
    def __init__(self, api: Api, corner: Cluster, number: int) -> None:
        self.gained = asyncio.Event()
        self.leadership = Leadership(
            api=api, namespace=corner.namespace, name="operator", identity=f"operator-{number}",
            address=f"10.0.0.{number}", gained=self.gained.set,
        )  # fmt: skip
        self._task = asyncio.create_task(self.leadership.run())

    async def until_it_knows(self, address: str) -> None:
        while self.leadership.leader_address != address:
            await asyncio.sleep(0.05)

    async def end(self) -> None:
        self._task.cancel()
        await self.leadership.release()


@asynccontextmanager
async def _connected(corner: Cluster) -> AsyncIterator[Api]:
    with private_files():
        client = await kr8s.asyncio.api(kubeconfig=str(corner.kubeconfig))
        try:
            yield Api(client)
        finally:
            # The client has no end of its own; an open connection is a warning, which is an error here.
            if client._session is not None:
                await client._session.aclose()


def _identify(corner: Cluster, token: str) -> PodIdentity:
    async def story() -> PodIdentity:
        async with _connected(corner) as api:
            return await Reviewer(api).identify(token, source="here")

    return asyncio.run(story())


def _is_refused(corner: Cluster, token: str) -> bool:
    try:
        _identify(corner, token)
    except TokenRefused:
        return True
    return False


def _token(
    corner: Cluster, *, pod: str = "words-0", account: str = "words", audience: str = TOKEN_AUDIENCE, bound: bool = True
) -> str:  # fmt: skip
    to_pod = ("--bound-object-kind=Pod", f"--bound-object-name={pod}") if bound else ()
    return corner.kubectl("create", "token", account, f"--audience={audience}", "--duration=10m", *to_pod).strip()
