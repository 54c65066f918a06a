"""Whoever asks for the operator's health is told what is wrong, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from shardwise_operator.shell.health import LAG_ROUNDS, LAG_SECONDS, SILENT_SECONDS, Health, LoopLag


class TestEndpoints:
    def test_with_all_well_both_say_so(self) -> None:
        health = Health()
        health.add_live("watches", lambda: None)
        health.add_ready("settings", lambda: None)
        assert ask(health, "/healthz") == (200, {"ok": True, "checks": {"watches": "ok"}})
        assert ask(health, "/readyz") == (200, {"ok": True, "checks": {"watches": "ok", "settings": "ok"}})

    def test_a_dead_watch_fails_both(self) -> None:
        health = Health()
        health.add_live("watches", lambda: "watches miss what happens")
        health.add_live("loop", lambda: None)
        body = {"ok": False, "checks": {"watches": "watches miss what happens", "loop": "ok"}}
        assert ask(health, "/healthz") == ask(health, "/readyz") == (503, body)

    def test_not_ready_is_alive(self) -> None:
        health = Health()
        health.add_ready("caches", lambda: "still reading")
        assert ask(health, "/healthz")[0] == 200
        assert ask(health, "/readyz") == (503, {"ok": False, "checks": {"caches": "still reading"}})

    def test_a_check_that_breaks_is_no_health(self) -> None:
        def broken() -> str | None:
            raise RuntimeError("no idea")

        health = Health()
        health.add_live("broken", broken)
        assert ask(health, "/healthz") == (503, {"ok": False, "checks": {"broken": "RuntimeError: no idea"}})

    def test_a_problem_is_logged_when_it_comes_and_when_it_goes(self, caplog: pytest.LogCaptureFixture) -> None:
        problem: list[str] = ["late"]
        health = Health()
        health.add_live("loop", lambda: problem[0] if problem else None)
        with caplog.at_level("INFO", logger="shardwise_operator.shell.health"):
            for _ in range(3):
                ask(health, "/healthz")
            problem.clear()
            for _ in range(3):
                ask(health, "/healthz")
        told = [record.getMessage() for record in caplog.records if record.name.startswith("shardwise")]
        assert told == ["check loop fails: late", "check loop passes again"]

    def test_metrics_are_text_for_prometheus(self) -> None:
        async def read(session: aiohttp.ClientSession, url: str) -> tuple[str, str]:
            async with session.get(f"{url}/metrics") as answer:
                return answer.headers["Content-Type"], await answer.text()

        kind, text = asyncio.run(serve(Health(), read))
        assert kind == "text/plain; version=0.0.4; charset=utf-8"
        assert "# TYPE shardwise_leader gauge" in text


class TestLoopLag:
    def test_one_late_round_is_none(self) -> None:
        lag = LoopLag(clock=lambda: 0.0)
        for _ in range(LAG_ROUNDS - 1):
            lag.beat(LAG_SECONDS * 10)
        lag.beat(0.0)
        assert lag.problem() is None

    def test_a_loop_that_is_always_late_is_a_problem(self) -> None:
        lag = LoopLag(clock=lambda: 0.0)
        for _ in range(LAG_ROUNDS):
            lag.beat(LAG_SECONDS * 2)
        assert lag.problem() == f"the event loop has been late by 2.0 s and more for {LAG_ROUNDS} rounds"
        assert lag.seconds == LAG_SECONDS * 2

    def test_no_measurement_is_a_problem(self) -> None:
        now = [0.0]
        lag = LoopLag(clock=lambda: now[0])
        now[0] = SILENT_SECONDS + 1
        assert lag.problem() == f"the event loop was not measured for {SILENT_SECONDS + 1:.0f} s"

    def test_a_loop_that_is_blocked_is_measured(self) -> None:
        async def story() -> float:
            now = [0.0]
            lag = LoopLag(clock=lambda: now[0])
            task = asyncio.create_task(lag.run())
            await asyncio.sleep(0)
            # As long as the loop stood still, the clock went on.
            now[0] = 6.0
            while lag.seconds == 0:
                await asyncio.sleep(0.01)
            task.cancel()
            return lag.seconds

        assert asyncio.run(story()) == 5.0


def ask(health: Health, path: str) -> tuple[int, Any]:
    async def read(session: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
        async with session.get(url + path) as answer:
            return answer.status, await answer.json()

    answer: tuple[int, Any] = asyncio.run(serve(health, read))
    return answer


async def serve(health: Health, read: Callable[[aiohttp.ClientSession, str], Awaitable[Any]]) -> Any:
    """Serve on a free port of loopback while `read` asks."""
    runner = web.AppRunner(health.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            return await read(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
