"""The server's HTTP side: Ollama's paths, and below `/script` what tests tell it and ask it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from . import words
from .script import Board, Call, Fault
from .slots import QueueFull, Slots

VERSION = "0.17.4"
_BUSY = "server busy, please try again.  maximum pending requests exceeded"
_WAIT_SECONDS = 30.0
_AT_LEAST = "_at_least"
_DRIP_SECONDS = 0.02
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NANOSECONDS = 10**9


@dataclass(kw_only=True)
class Settings:
    """What may be changed while the server runs."""

    latency_ms: float = 887
    load_ms: float = 0
    hold: bool = False
    """Every call that has a slot stays in it until released."""
    thinking: str = ""
    """What the model thinks before it answers, unless told not to; empty: it is a model that never does."""
    shows: bool = True
    """Whether it has `/api/show`, as servers that only resemble Ollama may not."""


class Problem(Exception):
    """An error as Ollama words it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Ollama:
    """The server's state."""

    def __init__(self, *, models: list[str], parallel: int, max_queue: int, settings: Settings) -> None:
        self.models = models
        self.settings = settings
        self.board = Board()
        self.slots = Slots(parallel=parallel, max_queue=max_queue, board=self.board)
        self._loaded: dict[str, float] = {}
        self._loading = asyncio.Lock()
        self._transports: set[asyncio.BaseTransport] = set()

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application(client_max_size=64 << 20)
        app.add_routes(
            [
                web.get("/", _text("Ollama is running")),
                web.get("/api/version", _json(lambda: {"version": VERSION})),
                web.get("/api/tags", _json(lambda: {"models": [_described(name) for name in self.models]})),
                web.post("/api/show", self._show),
                web.get("/api/ps", _json(lambda: {"models": [_described(name) for name in self._now_loaded()]})),
                web.post("/api/generate", self._generate),
                web.post("/api/chat", self._generate),
                web.get("/script/counters", _json(self._counters)),
                web.get("/script/calls", _json(lambda: [asdict(call) for call in self.board.calls])),
                web.get("/script/wait", self._wait),
                web.post("/script/faults", self._add_faults),
                web.post("/script/settings", self._change),
                web.post("/script/release", self._release),
                web.post("/script/reset", self._reset),
            ]
        )
        return app

    async def _show(self, request: web.Request) -> web.Response:
        if not self.settings.shows:
            return web.json_response({"error": "no such path"}, status=404)
        try:
            model = _known(_parsed(await request.read()).get("model"), self.models)
        except Problem as problem:
            return web.json_response({"error": str(problem)}, status=problem.status)
        capabilities = ["completion", *(["thinking"] if self.settings.thinking else [])]
        return web.json_response({"details": _described(model)["details"], "capabilities": capabilities})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            self._transports.add(request.transport)
        # Who leaves before the question is here has asked nothing: no call, and no line in the log.
        content = await request.read()
        self.board.count(calls=1, in_flight=1)
        call = Call(
            number=self.board.counters.calls,
            path=request.path,
            model="",
            prompt="",
            seed=None,
            stream=True,
            in_flight=self.board.counters.in_flight,
        )
        self.board.calls.append(call)
        try:
            return await self._answered(request, call, content)
        except Problem as problem:
            call.outcome = str(problem.status)
            return web.json_response({"error": str(problem)}, status=problem.status)
        except (asyncio.CancelledError, ConnectionError):
            call.outcome = "abandoned"
            raise
        finally:
            ended = call.outcome if call.outcome in ("done", "abandoned") else "failed"
            self.board.count(in_flight=-1, **{ended: 1})

    async def _answered(self, request: web.Request, call: Call, content: bytes) -> web.StreamResponse:
        began = time.monotonic_ns()
        asked = _parsed(content)
        call.stream = asked.get("stream", True) is not False
        options = asked.get("options") or {}
        call.seed = options.get("seed")
        call.think = asked.get("think")
        call.model = _known(asked.get("model"), self.models)
        chat = request.path == "/api/chat"
        prompt = _prompt(asked, chat=chat)
        call.prompt = words.digest(prompt)
        keep_seconds = _seconds(asked.get("keep_alive", "5m"))
        fault = self.board.fault_of(prompt)
        call.fault = fault.kind if fault else None
        if fault and fault.kind == "status":
            raise Problem(fault.status, fault.text or "scripted")
        if fault and fault.kind == "drop":
            return self._broken(request, call, "dropped")
        if not prompt:
            reason = "load"
            if keep_seconds == 0:
                self._loaded.pop(call.model, None)
                reason = "unload"
            else:
                await self._load(call.model, keep_seconds)
            call.outcome = "done"
            return web.json_response({**_piece(call.model, "", chat=chat), "done": True, "done_reason": reason})
        form = _form(asked.get("format"))
        try:
            async with self.slots.slot():
                load_ns = await self._load(call.model, keep_seconds)
                if fault and fault.kind == "slow":
                    await asyncio.sleep(fault.milliseconds / 1000)
                if self.settings.hold or (fault and fault.kind == "hold"):
                    await self.board.hold()
                said, done_reason = _utterance(prompt, form, fault, limit=int(options.get("num_predict", -1)))
                if self.settings.thinking and call.think is not False:
                    said, done_reason, thought = _after_thinking(self.settings.thinking, said, options)
                    ending_thought = {"thinking": thought}
                else:
                    ending_thought = {}
                statistics = {"load_duration": load_ns, "prompt_eval_count": len(words.tokens(prompt))}
                ending = {"done": True, "done_reason": done_reason, **ending_thought, **statistics}
                return await self._send(request, call, said, ending, fault=fault, chat=chat, began=began)
        except QueueFull:
            raise Problem(503, _BUSY) from None

    async def _send(
        self,
        request: web.Request,
        call: Call,
        said: list[str],
        ending: dict[str, Any],
        *,
        fault: Fault | None,
        chat: bool,
        began: int,
    ) -> web.StreamResponse:
        thinking = time.monotonic_ns()
        pause = self.settings.latency_ms / 1000 / max(1, len(said))

        def times() -> dict[str, int]:
            now = time.monotonic_ns()
            spent = {"total_duration": now - began, "prompt_eval_duration": 0, "eval_duration": now - thinking}
            return {**spent, "eval_count": len(said)}

        if call.stream and fault is None:
            response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
            await response.prepare(request)
            for token in said:
                await asyncio.sleep(pause)
                await response.write(_line({**_piece(call.model, token, chat=chat), "done": False}))
            await response.write(_line({**_piece(call.model, "", chat=chat), **ending, **times()}))
            await response.write_eof()
            call.outcome = "done"
            return response
        await asyncio.sleep(self.settings.latency_ms / 1000)
        body = json.dumps({**_piece(call.model, "".join(said), chat=chat), **ending, **times()})
        if fault and fault.kind == "body":
            body = fault.text
        if fault and fault.kind == "drip":
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b" ")
                await asyncio.sleep(_DRIP_SECONDS)
        if fault and fault.kind == "cut":
            response = web.StreamResponse(headers={"content-length": str(len(body))})
            await response.prepare(request)
            await response.write(body[: len(body) // 2].encode())
            return self._broken(request, call, "cut")
        call.outcome = "done"
        return web.Response(text=body, content_type="application/json")

    def _broken(self, request: web.Request, call: Call, outcome: str) -> web.Response:
        call.outcome = outcome
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    async def _load(self, model: str, keep_seconds: float) -> int:
        """Have a model loaded; return the nanoseconds it took."""
        began = time.monotonic_ns()
        async with self._loading:
            if model not in self._now_loaded():
                self.board.count(loads=1)
                await asyncio.sleep(self.settings.load_ms / 1000)
        self._loaded[model] = float("inf") if keep_seconds < 0 else time.monotonic() + keep_seconds
        return time.monotonic_ns() - began

    def _now_loaded(self) -> list[str]:
        return [name for name, until in self._loaded.items() if until > time.monotonic()]

    def _counters(self) -> dict[str, Any]:
        self._transports = {transport for transport in self._transports if not transport.is_closing()}
        return {**self.board.shown(), "connections": len(self._transports)}

    async def _wait(self, request: web.Request) -> web.Response:
        wanted = {name: int(value) for name, value in request.query.items()}

        def met_now() -> bool:
            counters = self._counters()
            return all(
                counters[name.removesuffix(_AT_LEAST)] >= value if name.endswith(_AT_LEAST) else counters[name] == value
                for name, value in wanted.items()
            )

        met = await self.board.until(met_now, seconds=_WAIT_SECONDS)
        return web.json_response(self._counters(), status=200 if met else 408)

    async def _add_faults(self, request: web.Request) -> web.Response:
        self.board.faults += [Fault(**fault) for fault in await request.json()]
        return web.json_response(len(self.board.faults))

    async def _change(self, request: web.Request) -> web.Response:
        for name, value in (await request.json()).items():
            owner = self.slots if name in ("parallel", "max_queue") else self.settings
            if not hasattr(owner, name):
                raise web.HTTPBadRequest(text=f"no setting {name}")
            setattr(owner, name, value)
        return web.json_response(asdict(self.settings))

    async def _release(self, request: web.Request) -> web.Response:
        self.board.release((await request.json()).get("count"))
        return web.json_response({})

    async def _reset(self, _request: web.Request) -> web.Response:
        self.settings.hold = False
        self.board.reset()
        return web.json_response({})


def _utterance(prompt: str, form: Any, fault: Fault | None, *, limit: int) -> tuple[list[str], str]:
    if fault and fault.kind == "words":
        return [fault.text], "length" if fault.truncated else "stop"
    said = words.tokens(words.answer(prompt, form))
    return (said[:limit], "length") if 0 <= limit < len(said) else (said, "stop")


def _after_thinking(thinking: str, said: list[str], options: dict[str, Any]) -> tuple[list[str], str, str]:
    """Return what a model says, why it ended and what it thought, all of it within the tokens it has."""
    limit = int(options.get("num_predict", -1))
    thoughts = words.tokens(thinking)
    uttered = [*thoughts, *said]
    if not 0 <= limit < len(uttered):
        return said, "stop", thinking
    return uttered[:limit][len(thoughts) :], "length", "".join(thoughts[:limit])


def _parsed(content: bytes) -> dict[str, Any]:
    if not content:
        raise Problem(400, "missing request body")
    try:
        asked = json.loads(content)
    except ValueError as error:
        raise Problem(400, f"invalid character in request body: {error}") from error
    if not isinstance(asked, dict):
        raise Problem(400, "json: cannot unmarshal the body into Go value of type api.GenerateRequest")
    return asked


def _known(model: object, models: list[str]) -> str:
    if not isinstance(model, str) or not model:
        raise Problem(400, "invalid model name")
    for name in (model, f"{model}:latest"):
        if name in models:
            return name
    raise Problem(404, f"model '{model}' not found")


def _prompt(asked: dict[str, Any], *, chat: bool) -> str:
    prompt: object = asked.get("prompt", "")
    if chat:
        prompt = "\n".join(str(message.get("content", "")) for message in asked.get("messages") or [])
    if not isinstance(prompt, str):
        raise Problem(400, "json: cannot unmarshal into Go struct field GenerateRequest.prompt of type string")
    return prompt


def _form(form: Any) -> Any:
    if form in (None, ""):
        return None
    if form != "json" and not isinstance(form, dict):
        raise Problem(500, f'invalid format: {json.dumps(form)}; expected "json" or a valid JSON Schema object')
    return form


def _seconds(keep_alive: object) -> float:
    if isinstance(keep_alive, int | float) and not isinstance(keep_alive, bool):
        return float(keep_alive)
    text = str(keep_alive)
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text.removeprefix("-") or not parts:
        raise Problem(400, f'time: invalid duration "{text}"')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return -seconds if text.startswith("-") else seconds


def _piece(model: str, said: str, *, chat: bool) -> dict[str, Any]:
    created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    content = {"message": {"role": "assistant", "content": said}} if chat else {"response": said}
    return {"model": model, "created_at": created, **content}


def _line(piece: dict[str, Any]) -> bytes:
    return json.dumps(piece).encode() + b"\n"


def _described(name: str) -> dict[str, Any]:
    details = {"format": "gguf", "family": "llama", "parameter_size": "1B", "quantization_level": "Q4_0"}
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-01-01T00:00:00Z",
        "size": 637_700_138,
        "digest": words.digest(name),
        "details": details,
    }


def _text(text: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text)

    return answer


def _json(value: Callable[[], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(value())

    return answer
