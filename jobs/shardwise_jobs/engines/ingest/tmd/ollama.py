"""Codes from a language model behind an Ollama-compatible API: some texts at a time, tried again where that may help.

The calls are nearly all of a chunk's time, so as many are under way as there are workers, and no more: the server has
a fixed number of slots, and what it is sent beyond them only waits there.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from shardwise.engine.errors import BadConfiguration, Unavailable
from shardwise_api.terminal import sanitize
from shardwise_jobs.engines.ingest.codes import Codes

from .base import FailureCause, TmdAnswer, TmdFailure
from .ollama_wire import OllamaWire, Refused, Unreachable
from .parser import VERSION, UnusableAnswer, parse_answer, prompt_for

_MOST_QUESTIONS_ABOUT_THINKING = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before another try: exponential, with full jitter."""

    first_seconds: float = 0.5
    longest_seconds: float = 8.0

    def seconds(self, *, failures: int, dice: random.Random) -> float:
        """Return a wait after that many failures (at least 1), in seconds."""
        # The exponent is bounded before it overflows a float.
        return dice.uniform(0, min(self.longest_seconds, self.first_seconds * 2 ** min(failures - 1, 30)))


@dataclass(slots=True, kw_only=True)
class Statistics:
    """What asking took."""

    calls: int = 0
    """Questions sent, repeated ones included."""
    retries: int = 0
    from_cache: int = 0


class OllamaTmd:
    """Asks one model of one server. For one event loop; `close` it there."""

    def __init__(
        self,
        *,
        endpoint: str,
        model: str,
        workers: int = 10,
        timeout_seconds: float = 60,
        retries: int = 3,
        backoff: Backoff | None = None,
        cache_size: int = 2048,
    ) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            BadConfiguration: there are no workers.
        """
        if workers < 1:
            raise BadConfiguration("max_workers must be greater than 0")
        self._wire = OllamaWire(endpoint=endpoint, timeout_seconds=timeout_seconds, connections=workers)
        self._model = model
        self._retries = retries
        self._backoff = backoff or Backoff()
        # Of its own: draws from the process's dice would show in what else draws from them.
        self._dice = random.Random()
        self._think: bool | None = None
        """What the server is told about thinking; None where it does not know the word, or is not known to."""
        self._questions_about_thinking = _MOST_QUESTIONS_ABOUT_THINKING
        self._asking_about_thinking = asyncio.Lock()
        self._slots = asyncio.Semaphore(workers)
        self._cache: OrderedDict[bytes, Codes] = OrderedDict()
        self._cache_size = cache_size
        self.name = f"ollama-v{VERSION}:{model}"
        self.label = f"ollama:{self._wire.shown_url}"
        self.statistics = Statistics()

    async def codes(self, texts: Sequence[str]) -> list[TmdAnswer | TmdFailure]:
        """See `TmdBackend.codes`. Texts that are equal but for space around them are asked for once.

        However many calls of this are under way, no more than `workers` questions are. When it is cancelled, its
        questions are given up, and their connections closed, before it ends.
        """
        keys = [hashlib.sha256(text.strip().encode("utf-8")).digest() for text in texts]
        tasks: dict[bytes, asyncio.Task[TmdAnswer | TmdFailure]] = {}
        async with asyncio.TaskGroup() as group:
            for key, text in zip(keys, texts, strict=True):
                if key not in tasks:
                    tasks[key] = group.create_task(self._answer(key, text))
        return [tasks[key].result() for key in keys]

    async def check(self, *, load: bool = True) -> None:
        """See that the server answers and has the model, and have it loaded: better known before the work starts.

        Raises:
            Unavailable: the server can't be reached, after several tries.
            BadConfiguration: it does not have the model, or does not speak this protocol.
        """
        try:
            models = await self._persistently(self._wire.models)
            if self._model not in models and f"{self._model}:latest" not in models:
                has = sanitize(", ".join(models[:10])) or "no model"
                raise BadConfiguration(f"{self._wire.shown_url} has no model {self._model!r}; it has {has}")
            if load:
                await self._persistently(lambda: self._wire.load(model=self._model))
        except UnusableAnswer as error:
            raise BadConfiguration(f"{self._wire.shown_url} does not speak Ollama's protocol: {error}") from error

    async def alive(self) -> bool:
        """Say whether the server answers right now; asks once."""
        try:
            await self._wire.version()
        except (Unavailable, BadConfiguration, UnusableAnswer):
            return False
        return True

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def _answer(self, key: bytes, text: str) -> TmdAnswer | TmdFailure:
        async with self._slots:
            codes = self._cache.get(key)
            if codes is None:
                asked = await self._ask(prompt_for(text))
                if isinstance(asked, TmdFailure):
                    return asked
                codes = asked
            else:
                self.statistics.from_cache += 1
        self._remember(key, codes)
        return TmdAnswer(codes=codes, confidence=None, backend=self.name)

    async def _ask(self, prompt: str) -> Codes | TmdFailure:
        unusable = 0

        async def once() -> Codes:
            # The seed counts answers, not tries: a line that breaks now and then must not change what the model says.
            self.statistics.calls += 1
            reply = await self._wire.generate(model=self._model, prompt=prompt, seed=unusable, think=self._think)
            return parse_answer(reply.words, complete=reply.complete, thought=reply.thought)

        await self._look_whether_it_thinks()
        while True:
            try:
                return await self._persistently(once)
            except Refused as error:
                if self._think is not None and "think" in str(error):
                    # It said that it knows the word, and does not take it: then not.
                    self._think = None
                    continue
                cause = FailureCause.TEXT if error.about_the_text else FailureCause.REFUSED
                return TmdFailure(reason=str(error), cause=cause)
            except Unreachable as error:
                return TmdFailure(reason=str(error), cause=FailureCause.UNAVAILABLE)
            except UnusableAnswer as error:
                unusable += 1
                if unusable > self._retries:
                    tries = f" ({unusable} answers)" if unusable > 1 else ""
                    return TmdFailure(reason=f"{self._model}: {error}{tries}", cause=FailureCause.TEXT)
                await self._wait(unusable)

    async def _look_whether_it_thinks(self) -> None:
        """Have a model that thinks be told not to: the few tokens of an answer would all go into that."""
        if not self._questions_about_thinking:
            return
        async with self._asking_about_thinking:
            if not self._questions_about_thinking:
                return
            try:
                self._think = False if await self._wire.thinks(model=self._model) else None
            except Unreachable:
                # It says nothing about the model: the next text asks again, for a while.
                self._questions_about_thinking -= 1
                return
            except (Refused, UnusableAnswer):
                self._think = None
            self._questions_about_thinking = 0

    async def _persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` returns, trying again while the server can't be reached."""
        failures = 0
        while True:
            try:
                return await call()
            except Unreachable as error:
                failures += 1
                if failures > self._retries:
                    tries = f" ({failures} tries)" if failures > 1 else ""
                    raise Unreachable(f"{error}{tries}") from error
                await self._wait(failures)

    async def _wait(self, failures: int) -> None:
        # The worker stays occupied: a server in trouble is asked less.
        self.statistics.retries += 1
        await asyncio.sleep(self._backoff.seconds(failures=failures, dice=self._dice))

    def _remember(self, key: bytes, codes: Codes) -> None:
        # The model and the server are this object's own, so the text is all of the key.
        self._cache[key] = codes
        self._cache.move_to_end(key)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
