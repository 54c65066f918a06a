"""A token is believed only when the API server vouches for it, and the API server is asked as rarely as possible."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from shardwise_operator.children.pod import TOKEN_AUDIENCE
from shardwise_operator.shell.api import Api, ApiError
from shardwise_operator.shell.tokens import (
    KNOWN_SECONDS,
    MAX_REFUSED,
    REFUSED_SECONDS,
    REVIEWS,
    REVIEWS_PER_POD,
    REVIEWS_PER_RELAY,
    REVIEWS_PER_SOURCE,
    PodIdentity,
    Reviewer,
    ReviewUnavailable,
    TokenRefused,
    read_claim,
)

_POD = PodIdentity(namespace="team", service_account="words", pod_name="words-0", pod_uid="uid-1")
_NOW = 1_000_000.0
Body = dict[str, Any]


class TestReviews:
    def test_a_good_token_names_its_pod(self) -> None:
        world = World()
        assert world.identify(token()) == _POD
        (body,) = world.asked
        assert body["spec"] == {"token": token(), "audiences": [TOKEN_AUDIENCE]}

    def test_an_answer_is_kept_for_a_minute_and_no_longer(self) -> None:
        world = World()
        for _ in range(5):
            world.identify(token())
        world.clock += KNOWN_SECONDS - 1
        world.identify(token())
        assert len(world.asked) == 1
        world.clock += 1
        world.identify(token())
        assert len(world.asked) == 2

    def test_no_answer_is_kept_longer_than_the_token_lives(self) -> None:
        world = World()
        short = token(exp=_NOW + 10)
        world.identify(short)
        world.clock += 11
        world.identify(short)
        assert len(world.asked) == 2

    def test_an_expired_token_is_refused_unasked(self) -> None:
        world = World()
        with pytest.raises(TokenRefused, match="expired"):
            world.identify(token(exp=_NOW))
        assert world.asked == []

    def test_a_refusal_is_kept_briefly(self) -> None:
        world = World()
        world.status = {"authenticated": False, "error": "signature is not valid"}
        for _ in range(5):
            with pytest.raises(TokenRefused):
                world.identify(token())
        assert len(world.asked) == 1
        world.clock += REFUSED_SECONDS
        world.status = good()
        assert world.identify(token()) == _POD

    def test_trouble_with_the_api_server_is_no_refusal_and_is_not_kept(self) -> None:
        world = World()
        world.error = ApiError(status=0, reason="Unreachable", message="no route")
        with pytest.raises(ReviewUnavailable):
            world.identify(token())
        world.error = None
        assert world.identify(token()) == _POD

    def test_a_missing_right_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World()
        world.error = ApiError(status=403, reason="Forbidden", message=f"no {token()}")
        for number in range(5):
            with pytest.raises(ReviewUnavailable):
                world.identify(token(pod=f"uid-{number}"))
        assert [record.getMessage() for record in caplog.records] == [
            "tokens can't be checked, progress is not taken: 403 Forbidden"
        ]

    @pytest.mark.parametrize(
        "change",
        [
            {"authenticated": None},
            {"authenticated": "true"},
            {"audiences": ["https://kubernetes.default.svc"]},
            {"audiences": None},
            {"user": None},
            {"user": {"username": "admin", "extra": {}}},
            {"user": {"username": "system:serviceaccount:team"}},
            {"user": {"username": "system:serviceaccount:team:words"}},
        ],
    )
    def test_only_a_pod_with_our_audience_is_taken(self, change: Body) -> None:
        world = World()
        world.status = {**good(), **change}
        with pytest.raises(TokenRefused):
            world.identify(token())


class TestFloods:
    def test_a_flood_of_made_up_tokens_is_let_through_to_the_api_server_only_as_rarely_as_agreed(self) -> None:
        world = World()
        world.status = {"authenticated": False}
        refused = sum(not world.try_(token(pod=f"uid-{number}"), source=f"{number}") for number in range(1000))
        assert len(world.asked) == REVIEWS.burst
        assert refused == 1000

    def test_a_flood_in_the_name_of_a_pod_leaves_that_pod_and_all_others_alone(self) -> None:
        world = World()
        world.status = {"authenticated": False}
        for number in range(1000):
            world.try_(token(salt=number), source="attacker")
        assert len(world.asked) == REVIEWS_PER_SOURCE.burst
        world.status = good()
        assert world.identify(token(salt=-1), source="victim") == _POD
        assert world.identify(token(pod="uid-2"), source="another") == _POD

    def test_a_flood_handed_on_by_another_replica_is_its_sender_s(self) -> None:
        world = World()
        world.status = {"authenticated": False}
        for number in range(1000):
            world.try_(token(salt=number), source="attacker", relay="replica")
        assert len(world.asked) == REVIEWS_PER_SOURCE.burst
        world.status = good()
        assert world.identify(token(salt=-1), source="victim", relay="replica") == _POD

    def test_who_says_that_it_hands_on_what_others_send_is_limited_too(self) -> None:
        world = World()
        world.status = {"authenticated": False}
        for number in range(1000):
            world.try_(token(salt=number), source=f"{number}", relay="attacker")
        assert len(world.asked) == REVIEWS_PER_RELAY.burst < REVIEWS.burst
        world.status = good()
        assert world.identify(token(salt=-1), source="victim") == _POD

    def test_good_tokens_of_many_pods_may_come_from_one_address(self) -> None:
        world = World()
        for number in range(3 * REVIEWS_PER_SOURCE.burst):
            world.status = good(f"uid-{number}")
            world.clock += 0.02
            assert world.identify(token(pod=f"uid-{number}")).pod_uid == f"uid-{number}"

    def test_who_is_not_asked_for_is_told_when_to_come_again(self) -> None:
        world = World()
        for number in range(REVIEWS_PER_POD.burst + REVIEWS_PER_SOURCE.burst):
            world.identify(token(salt=number))
        with pytest.raises(ReviewUnavailable) as caught:
            world.identify(token(salt=-1))
        world.clock += caught.value.seconds
        assert world.identify(token(salt=-1)) == _POD

    def test_refused_tokens_never_push_out_good_ones(self) -> None:
        world = World()
        world.identify(token())
        world.status = {"authenticated": False}
        for number in range(2 * MAX_REFUSED):
            world.clock += 0.025
            world.try_(token(pod=f"other-{number}"), source=f"{number}")
        asked = len(world.asked)
        assert asked > MAX_REFUSED
        assert world.identify(token()) == _POD
        assert len(world.asked) == asked

    @pytest.mark.parametrize(
        "text",
        [
            "", "a", "a.b", "a.b.c", "a.b.c.d", "ä.ö.ü", "..", "x" * 10_000,
            "a." + base64.urlsafe_b64encode(b"[" * 4000).decode() + ".c",
            "a." + base64.urlsafe_b64encode(b"null").decode() + ".c",
        ],
    )  # fmt: skip
    def test_what_no_pod_would_send_is_refused_unasked(self, text: str) -> None:
        world = World()
        with pytest.raises(TokenRefused):
            world.identify(text)
        assert world.asked == []

    @pytest.mark.parametrize(
        "change",
        [
            {"aud": ["https://kubernetes.default.svc"]},
            {"aud": None},
            {"exp": "soon"},
            {"exp": None},
            {"kubernetes.io": {"namespace": "team"}},
            {"kubernetes.io": {"pod": {"uid": ["uid-1"]}}},
            {"kubernetes.io": {"pod": {"uid": "x" * 65}}},
        ],
    )
    def test_a_token_that_claims_something_else_is_refused_unasked(self, change: Body) -> None:
        world = World()
        with pytest.raises(TokenRefused):
            world.identify(token(**change))
        assert world.asked == []

    def test_one_audience_may_stand_alone(self) -> None:
        assert read_claim(token(aud=TOKEN_AUDIENCE)).pod_uid == "uid-1"


class World(Api):
    """An API server that answers reviews as it is told, and a clock."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.asked: list[Body] = []
        self.status: Body = good()
        self.error: ApiError | None = None
        self.released = asyncio.Event()
        self.released.set()
        self._reviewer = Reviewer(self, clock=lambda: self.clock, wall_clock=lambda: _NOW)

    def hold(self) -> None:
        """Answer nothing until `released` is set."""
        self.released.clear()

    async def create(self, path: str, body: Body) -> Body:
        assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
        self.asked.append(body)
        await self.released.wait()
        if self.error is not None:
            raise self.error
        return {**body, "status": self.status}

    def identify(self, text: str, *, source: str = "10.0.0.1", relay: str | None = None) -> PodIdentity:
        return asyncio.run(self._reviewer.identify(text, source=source, relay=relay))

    def try_(self, text: str, *, source: str = "10.0.0.1", relay: str | None = None) -> bool:
        try:
            self.identify(text, source=source, relay=relay)
        except (TokenRefused, ReviewUnavailable):
            return False
        return True


def good(uid: str = "uid-1") -> Body:
    extra = {"authentication.kubernetes.io/pod-name": ["words-0"], "authentication.kubernetes.io/pod-uid": [uid]}
    user = {"username": "system:serviceaccount:team:words", "extra": extra}
    return {"authenticated": True, "audiences": [TOKEN_AUDIENCE], "user": user}


def token(*, pod: str = "uid-1", salt: int = 0, **claims: Any) -> str:
    known = {"aud": [TOKEN_AUDIENCE], "exp": _NOW + 3600, "kubernetes.io": {"pod": {"uid": pod}}, "jti": salt}
    body = base64.urlsafe_b64encode(json.dumps({**known, **claims}).encode()).decode().rstrip("=")
    return f"header.{body}.signature"
