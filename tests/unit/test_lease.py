"""At most one leads, whatever happens to calls, clocks and replicas; and before long somebody does.

Time is virtual: minutes of an election take no time, and each goes the same way every time.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_operator.shell.api import Api, ApiError
from shardwise_operator.shell.lease import LEASE_DURATION, RENEW_DEADLINE, RENEW_EVERY, Identity, Leadership
from tests.support.examples import examples
from tests.support.virtual_time import in_virtual_time

Body = dict[str, Any]
_SOON = 0.001


class TestElection:
    def test_the_first_leads_and_the_second_knows_where(self) -> None:
        async def story() -> None:
            server = Server()
            first, second = Replica(server, 1), Replica(server, 2)
            await asyncio.sleep(_SOON)
            assert (first.leads(), second.leads()) == (True, False)
            await asyncio.sleep(RENEW_EVERY)
            assert first.leadership.leader_address == second.leadership.leader_address == "10.0.0.1"
            assert (first.gained, first.lost, second.gained) == (1, 0, 0)

        in_virtual_time(story())

    def test_a_leader_that_renews_leads_on(self) -> None:
        async def story() -> None:
            server = Server()
            first, second = Replica(server, 1), Replica(server, 2)
            await asyncio.sleep(600)
            assert (first.leads(), second.leads()) == (True, False)
            assert (first.gained, first.lost) == (1, 0)
            assert server.lease["spec"]["leaseTransitions"] == 0

        in_virtual_time(story())

    def test_a_leader_that_is_gone_is_followed_after_its_lease_and_not_before(self) -> None:
        async def story() -> None:
            server = Server()
            first, second = Replica(server, 1), Replica(server, 2)
            await asyncio.sleep(60 + _SOON)
            first.kill()
            await asyncio.sleep(LEASE_DURATION - RENEW_EVERY)
            assert not second.leads()
            await asyncio.sleep(3 * RENEW_EVERY)
            assert second.leads()
            assert server.lease["spec"]["leaseTransitions"] == 1
            assert server.lease["spec"]["holderIdentity"] == "operator-2_10.0.0.2"

        in_virtual_time(story())

    def test_a_restarted_container_takes_its_own_lease_back_at_once(self) -> None:
        async def story() -> None:
            server = Server()
            first = Replica(server, 1)
            await asyncio.sleep(60)
            first.kill()
            again = Replica(server, 1, address="10.0.0.9")
            await asyncio.sleep(_SOON)
            assert again.leads()
            assert again.leadership.leader_address == "10.0.0.9"

        in_virtual_time(story())

    def test_after_a_release_the_next_need_not_wait(self) -> None:
        async def story() -> None:
            server = Server()
            first, second = Replica(server, 1), Replica(server, 2)
            await asyncio.sleep(60 + _SOON)
            await first.leadership.release()
            assert not first.leads()
            assert first.lost == 1
            await asyncio.sleep(RENEW_EVERY)
            assert second.leads()

        in_virtual_time(story())

    def test_who_has_released_never_leads_again(self) -> None:
        async def story() -> None:
            server = Server()
            first = Replica(server, 1)
            await asyncio.sleep(60)
            await first.leadership.release()
            await asyncio.sleep(60)
            assert not first.leads()
            assert server.lease["spec"]["holderIdentity"] == ""

        in_virtual_time(story())

    def test_a_release_waits_for_a_renewal_on_its_way(self) -> None:
        async def story() -> None:
            server = Server()
            first = Replica(server, 1)
            await asyncio.sleep(60 - _SOON)
            first.wire.there = 0.5
            await asyncio.sleep(0.1)
            await first.leadership.release()
            assert server.lease["spec"]["holderIdentity"] == ""

        in_virtual_time(story())

    def test_a_release_in_the_middle_of_a_look_is_one_too(self) -> None:
        async def story() -> None:
            server = Server()
            first = Replica(server, 1)
            await asyncio.sleep(60 - _SOON)
            server.touch()
            first.wire.there = 0.5
            # The renewal meets a conflict at 0.5 s, the look after it comes back at 1 s.
            await asyncio.sleep(0.7)
            await first.leadership.release()
            await asyncio.sleep(10)
            assert server.lease["spec"]["holderIdentity"] == ""

        in_virtual_time(story())

    def test_a_lease_of_others_is_left_alone_while_they_renew_it(self) -> None:
        async def story() -> None:
            server = Server()
            server.create(lease(holder="somebody", seconds=60))
            replica = Replica(server, 1)
            await asyncio.sleep(59)
            assert not replica.leads()
            assert replica.leadership.leader_address is None
            server.touch()
            await asyncio.sleep(59)
            assert not replica.leads()
            await asyncio.sleep(10)
            assert replica.leads()

        in_virtual_time(story())

    def test_a_lease_that_others_wrote_to_is_kept(self) -> None:
        async def story() -> None:
            server = Server()
            replica = Replica(server, 1)
            for _ in range(20):
                await asyncio.sleep(RENEW_EVERY)
                server.touch()
            await asyncio.sleep(_SOON)
            assert replica.leads()
            # Each write of others costs a look, and is not lost.
            assert server.lease["metadata"]["annotations"] == {"touched": "20"}

        in_virtual_time(story())

    def test_a_deleted_lease_is_made_anew(self) -> None:
        async def story() -> None:
            server = Server()
            first, second = Replica(server, 1), Replica(server, 2)
            await asyncio.sleep(60)
            server.leases.clear()
            await asyncio.sleep(2 * RENEW_EVERY)
            assert [first.leads(), second.leads()].count(True) == 1

        in_virtual_time(story())


class TestTrouble:
    def test_a_leader_without_an_api_server_stops_at_its_deadline(self) -> None:
        async def story() -> None:
            replica = Replica(Server(), 1)
            await asyncio.sleep(60 + _SOON)
            replica.wire.lost = 1.0
            await asyncio.sleep(RENEW_DEADLINE - RENEW_EVERY - _SOON)
            assert replica.leads()
            await asyncio.sleep(RENEW_EVERY)
            assert not replica.leads()
            assert replica.lost == 1
            replica.wire.lost = 0.0
            await asyncio.sleep(10)
            assert replica.leads()
            assert replica.gained == 2

        in_virtual_time(story())

    def test_the_end_of_leading_is_told_when_it_comes_and_not_at_the_next_round(self) -> None:
        async def story() -> None:
            replica = Replica(Server(), 1)
            await asyncio.sleep(60 + _SOON)
            replica.wire.lost = 1.0
            before = asyncio.get_running_loop().time()
            while replica.lost == 0:
                await asyncio.sleep(0.01)
            assert asyncio.get_running_loop().time() - before <= RENEW_DEADLINE + 0.02

        in_virtual_time(story())

    def test_a_loop_that_hung_leads_no_longer(self) -> None:
        async def story() -> None:
            replica = Replica(Server(), 1)
            await asyncio.sleep(_SOON)
            assert replica.leads()
            # Nothing runs here in between: the answer comes from the clock alone.
            replica.offset += RENEW_DEADLINE
            assert not replica.leads()

        in_virtual_time(story())

    def test_an_answer_that_comes_too_late_makes_no_leader(self) -> None:
        async def story() -> None:
            server = Server()
            server.create(lease(holder="", seconds=1))
            replica = Replica(server, 1)
            replica.wire.there, replica.wire.back = 0.5, 0.5
            # The write comes back at 2 s; asked for at 1 s it is good until 4 s, and renewals fail from now on.
            await asyncio.sleep(2.1)
            assert replica.leads()
            replica.wire.lost = 1.0
            await asyncio.sleep(1.85)
            assert replica.leads()
            await asyncio.sleep(0.1)
            assert not replica.leads()

        in_virtual_time(story())

    @pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (0, "Unreachable"), (500, "InternalError")])
    def test_who_may_not_ask_never_leads_and_says_so_once(
        self, status: int, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def story() -> None:
            replica = Replica(Server(), 1)
            replica.wire.error = ApiError(status=status, reason=reason, message="no")
            await asyncio.sleep(300)
            assert (replica.leads(), replica.gained) == (False, 0)
            replica.wire.error = None
            await asyncio.sleep(RENEW_EVERY)
            assert replica.leads()

        with caplog.at_level(logging.WARNING, logger="shardwise_operator.shell.lease"):
            in_virtual_time(story())
        assert [reason in record.getMessage() for record in caplog.records] == [True]


class TestSafety:
    @given(
        seed=st.integers(0, 2**32),
        rates=st.lists(st.floats(0.8, 1.25), min_size=2, max_size=3),
        slowness=st.floats(0, 3),
        loss=st.floats(0, 0.6),
        restless=st.booleans(),
    )
    @examples(60)
    def test_two_never_lead_and_one_does_once_the_trouble_is_over(
        self, seed: int, rates: list[float], slowness: float, loss: float, restless: bool
    ) -> None:
        in_virtual_time(_trouble(random.Random(seed), rates, slowness=slowness, loss=loss, restless=restless))

    @given(phase=st.floats(0, RENEW_EVERY), cut=st.floats(0, RENEW_EVERY), back=st.floats(0, 1.1))
    @examples(150)
    def test_the_slowest_clock_stops_before_the_fastest_begins(self, phase: float, cut: float, back: float) -> None:
        """The leader hears late of its last renewal, and nothing any more; the other saw it at once."""

        async def story() -> None:
            server = Server()
            slow = Replica(server, 1, rate=0.8)
            await asyncio.sleep(20 + phase)
            fast = Replica(server, 2, rate=1.25)
            slow.wire.back = back
            await asyncio.sleep(20 + cut)
            slow.wire.cut()
            while not fast.leads():
                await asyncio.sleep(0.02)
                assert not (slow.leads() and fast.leads())

        in_virtual_time(story())


async def _trouble(
    dice: random.Random, rates: list[float], *, slowness: float, loss: float, restless: bool
) -> None:  # fmt: skip
    """Let replicas with clocks of their own speed live through two bad minutes; RENEW_DEADLINE on the slowest is over
    before LEASE_DURATION on the fastest."""
    server = Server()

    def none_but_one() -> None:
        leaders = [replica.leadership.leader_address for replica in replicas if replica.leads()]
        assert len(leaders) <= 1, f"{leaders} lead at {asyncio.get_running_loop().time()}"

    def born(number: int) -> Replica:
        replica = Replica(server, number, rate=rates[number], offset=dice.uniform(0, 1e6), on_gain=none_but_one)
        replica.wire.dice = dice
        return replica

    replicas: list[Replica] = []
    for number in range(len(rates)):
        replicas.append(born(number))
    for _ in range(2400):
        await asyncio.sleep(0.05)
        none_but_one()
        # Conditions change slowly enough for a lease to be got, and fast enough for it to be lost.
        for number, replica in enumerate(replicas):
            if dice.random() < 0.01:
                replica.wire.there, replica.wire.back = dice.uniform(0, slowness), dice.uniform(0, slowness)
                replica.wire.lost = dice.choice([0.0, loss, 1.0])
            if restless and dice.random() < 0.002:
                if dice.random() < 0.5:
                    await replica.leadership.release()
                replica.kill()
                replicas[number] = born(number)
    for replica in replicas:
        replica.wire.there = replica.wire.back = _SOON
        replica.wire.lost = 0.0
    await asyncio.sleep(30)
    none_but_one()
    (leader,) = [replica for replica in replicas if replica.leads()]
    assert {replica.leadership.leader_address for replica in replicas} == {leader.leadership.leader_address}


class TestIdentity:
    def test_a_holder_is_a_pod_and_its_address(self) -> None:
        for address in ("10.0.0.1", "fd00::1"):
            holder = Identity(pod="operator-0", address=address)
            assert Identity.parse(str(holder)) == holder

    @pytest.mark.parametrize("text", ["", "somebody", "operator-0_", "operator-0_evil.example", "_"])
    def test_another_holder_has_no_address(self, text: str) -> None:
        assert Identity.parse(text) is None


class Server:
    """Leases as the API server keeps them: a version with every write, and a Conflict for who writes over another."""

    def __init__(self) -> None:
        self.leases: dict[str, Body] = {}
        self._version = 0

    @property
    def lease(self) -> Body:
        return self.leases["operator"]

    def get(self) -> Body:
        if "operator" not in self.leases:
            raise ApiError(status=404, reason="NotFound", message="no such lease")
        return copy.deepcopy(self.lease)

    def create(self, body: Body) -> Body:
        if "operator" in self.leases:
            raise ApiError(status=409, reason="AlreadyExists", message="there is one")
        return self._store(body)

    def replace(self, body: Body) -> Body:
        if body["metadata"]["resourceVersion"] != self.get()["metadata"]["resourceVersion"]:
            raise ApiError(status=409, reason="Conflict", message="the object has been modified")
        return self._store(body)

    def touch(self) -> None:
        annotations = self.lease["metadata"].setdefault("annotations", {})
        annotations["touched"] = str(int(annotations.get("touched", "0")) + 1)
        self._store(self.lease)

    def _store(self, body: Body) -> Body:
        self._version += 1
        self.leases["operator"] = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self._version)
        return copy.deepcopy(self.lease)


class Wire(Api):
    """A way to the server: calls take time both ways, get lost on either, and arrive though nobody waits any more."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.there = self.back = 0.0
        self.lost = 0.0
        self.error: ApiError | None = None
        self.dice = random.Random(0)

    async def get(self, path: str, *, params: Any = None, accept: str | None = None) -> Body:
        return await self._send(self._server.get)

    async def create(self, path: str, body: Body) -> Body:
        assert path.endswith("/namespaces/shardwise/leases")
        return await self._send(lambda: self._server.create(body))

    async def replace(self, path: str, body: Body) -> Body:
        assert path.endswith("/namespaces/shardwise/leases/operator")
        return await self._send(lambda: self._server.replace(body))

    def cut(self) -> None:
        """Let nothing through from now on; answers on their way still come."""
        self.lost = 1.0

    async def _send(self, work: Callable[[], Body]) -> Body:
        if self.error is not None:
            raise self.error
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Body] = loop.create_future()
        back, lost_back = self.back, self.dice.random() < self.lost

        def arrive() -> None:
            try:
                done: Body | ApiError = work()
            except ApiError as error:
                done = error
            if not lost_back:
                loop.call_later(back, deliver, done)

        def deliver(done: Body | ApiError) -> None:
            if answer.done():
                return
            if isinstance(done, ApiError):
                answer.set_exception(done)
            else:
                answer.set_result(done)

        if self.dice.random() >= self.lost:
            loop.call_later(self.there, arrive)
        return await answer


class Replica:
    """A replica with a clock of its own."""

    def __init__(
        self, server: Server, number: int, *, address: str = "", rate: float = 1.0, offset: float = 0.0,
        on_gain: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        self.wire = Wire(server)
        self.offset = offset
        self.gained = self.lost = 0
        self._on_gain = on_gain
        self.leadership = Leadership(
            api=self.wire,
            namespace="shardwise",
            name="operator",
            identity=f"operator-{number}",
            address=address or f"10.0.0.{number}",
            clock=lambda: self.offset + rate * loop.time(),
            gained=self._gain,
            lost=self._lose,
        )
        self._killed = False
        self._task = asyncio.create_task(self.leadership.run())

    def leads(self) -> bool:
        return not self._killed and self.leadership.leading

    def kill(self) -> None:
        """End without a word, as a killed process does; what it has sent is on its way all the same."""
        self._killed = True
        self._task.cancel()

    def _gain(self) -> None:
        self.gained += 1
        self._on_gain()

    def _lose(self) -> None:
        self.lost += 1


def lease(*, holder: str, seconds: int) -> Body:
    return {
        "metadata": {"name": "operator", "namespace": "shardwise"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds},
    }
