"""A client of KATO's REST protocol: one node, one session, and no observation counted twice by a retry.

The session is the server's memory of this client; it can expire or be lost with the server. Its loss is mended in
silence only where that can't change a result: when the short-term memory is known to have been empty.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

import httpx

from .http import HttpClient, Json, KatoError, LostAnswer, Refused, SessionLost
from .names import WIRE_PREFIX, bare_name
from .stores.base import Guard

_CLOSING_SECONDS = 5.0
"""Limit of the one try to delete a session: a worker that is told to stop has little time."""

_CONFIRMED_KEYS = ("max_pattern_length", "process_predictions")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """A session's configuration. All of it is always sent: a server may let sessions inherit what others left out."""

    max_pattern_length: int = 0
    """0 learns only when told, N learns by itself after N events."""
    stm_mode: Literal["CLEAR", "ROLLING"] = "CLEAR"
    process_predictions: bool = True
    recall_threshold: float = 0.1
    max_predictions: int = 100
    persistence: int = 5
    sort_symbols: bool = True
    indexer_type: Literal["VI", "LSH", "ANNOY", "FAISS"] = "VI"


class KatoClient:
    """One session at one node of a KATO server, opened when it is first needed."""

    def __init__(
        self,
        *,
        base_url: str = "http://127.0.0.1:8000",
        node_id: str,
        timeout_seconds: float = 120,
        metadata: Mapping[str, Any] | None = None,
        ttl_seconds: int | None = None,
        config: SessionConfig | None = None,
        auto_recreate_session: bool = True,
        max_attempts: int = 3,
        pool_size: int = 50,
        wire: HttpClient | None = None,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        `wire` shares the connections of other clients; it has its own URL, timeout, attempts and pool then, and stays
        open when this client is closed.
        """
        self.node_id = node_id
        self.config = config or SessionConfig()
        self.auto_recreate_session = auto_recreate_session
        self._metadata = dict(metadata or {})
        self._ttl_seconds = ttl_seconds
        self._owns_wire = wire is None
        self._wire = wire or HttpClient(
            base_url=base_url, timeout_seconds=timeout_seconds, max_attempts=max_attempts, pool_size=pool_size
        )
        self._session_id: str | None = None
        self._left_behind: list[str] = []
        self._stm_length: int | None = 0

    def __enter__(self) -> KatoClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def session_id(self) -> str:
        """The session's id; opens the session if there is none."""
        if self._session_id is None:
            self._session_id = self._create()
            self._stm_length = 0
        return self._session_id

    def _create(self) -> str:
        config = asdict(self.config)
        body: Json = {"node_id": self.node_id, "metadata": self._metadata, "config": config}
        if self._ttl_seconds is not None:
            body["ttl_seconds"] = self._ttl_seconds
        answer = self._wire.call("POST", "/sessions", body=body, repeatable=True)
        session = str(answer["session_id"])
        shown = answer.get("session_config")
        dropped = [key for key in _CONFIRMED_KEYS if shown is not None and shown.get(key) != config[key]]
        if dropped:
            # Servers exist that answer 200 and drop the whole configuration when they dislike one value.
            self._left_behind.append(session)
            raise KatoError(
                f"POST {self._wire.shown_url}/sessions: the server did not take over {', '.join(dropped)} of {config}"
            )
        return session

    def observe(
        self,
        strings: Sequence[str],
        *,
        vectors: Sequence[Sequence[float]] = (),
        emotives: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Json:
        """Observe one event."""
        body = {
            "strings": list(strings),
            "vectors": [list(vector) for vector in vectors],
            "emotives": dict(emotives or {}),
            "metadata": dict(metadata or {}),
        }
        answer = self._in_session("POST", "/observe", body=body)
        self._stm_length = answer.get("stm_length")
        return answer

    def observe_sequence(
        self,
        observations: Sequence[Mapping[str, Any]],
        *,
        learn_after_each: bool = False,
        learn_at_end: bool = False,
        clear_stm_between: bool = False,
    ) -> Json:
        """Observe several events in one call."""
        body: Json = {
            "observations": list(observations),
            "learn_after_each": learn_after_each,
            "learn_at_end": learn_at_end,
            "clear_stm_between": clear_stm_between,
        }
        answer = self._in_session("POST", "/observe-sequence", body=body)
        self._stm_length = answer.get("final_stm_length")
        return answer

    def learn_sequences(self, sequences: Sequence[Sequence[str]], *, guard: Guard) -> Json:
        """Learn patterns of one-symbol events, whatever the short-term memory holds.

        For servers that advertise learn-sequences. The call counts once however often it is sent, so a lost answer is
        asked for again. `pattern_names` of the answer has a name per sequence.
        """
        body = {"sequences": list(map(list, sequences)), "guard": asdict(guard)}
        return self._in_session("POST", "/learn-sequences", body=body, repeatable=True, needs_memory=False)

    def learn(self) -> str:
        """Learn the short-term memory and return the pattern's name, "" when it was too short to be one."""
        answer = self._in_session("POST", "/learn")
        self._stm_length = 0
        return str(answer["pattern_name"])

    def get_stm(self) -> list[list[str]]:
        """Return the short-term memory, oldest event first."""
        stm: list[list[str]] = self._in_session("GET", "/stm", repeatable=True)["stm"]
        self._stm_length = len(stm)
        return stm

    def clear_stm(self) -> None:
        """Forget the short-term memory."""
        self._in_session("POST", "/clear-stm", repeatable=True, needs_memory=False)
        self._stm_length = 0

    def clear_all_memory(self) -> None:
        """Wipe the whole node, patterns of all sessions included."""
        # Not repeated blindly: a second wipe would take along what others learned after the first.
        self._in_session("POST", "/clear-all", needs_memory=False)
        self._stm_length = 0

    def configure(self, *, max_pattern_length: int) -> None:
        """Change when the session learns by itself; a session made anew keeps the change."""
        self.config = replace(self.config, max_pattern_length=max_pattern_length)
        body = {"config": {"max_pattern_length": max_pattern_length}}
        self._in_session("POST", "/config", body=body, repeatable=True)

    def get_predictions(self) -> Json:
        """Return predictions and future potentials."""
        return self._in_session("GET", "/predictions", repeatable=True)

    def get_pattern(self, name: str) -> Json | None:
        """Return one pattern of the node by name (with or without prefix), None when it was never learned."""
        path = f"/pattern/{quote(WIRE_PREFIX + bare_name(name), safe='')}"
        answer = self._wire.call("GET", path, params={"node_id": self.node_id}, repeatable=True)["pattern"]
        if answer.get("status") != "okay":
            return None
        pattern: Json = answer["pattern"]
        return pattern

    def frequency(self, name: str) -> int:
        """Return how often a pattern was learned, 0 when never."""
        pattern = self.get_pattern(name)
        return 0 if pattern is None else int(pattern["frequency"])

    def frequencies(self, node_id: str | None = None) -> Iterator[tuple[str, int]]:
        """Yield (bare name, frequency) of a node's patterns in order of name, this client's node unless told.

        Only servers that advertise list-patterns answer this.
        """
        path = f"/knowledge/{quote(node_id or self.node_id, safe='')}/frequencies"
        for line in self._wire.lines(path):
            name, tab, frequency = line.partition("\t")
            if not tab or not frequency.isdecimal():
                raise KatoError(f"GET {self._wire.shown_url}{path}: not a name and a frequency: {line[:100]!r}")
            yield name, int(frequency)

    def extend_session(self, ttl_seconds: int = 3600) -> None:
        """Give the session another time to live."""
        self._in_session("POST", "/extend", params={"ttl_seconds": ttl_seconds}, repeatable=True)

    def check_session_exists(self) -> bool:
        """Tell whether the server still has the session, without prolonging or opening one."""
        if self._session_id is None:
            return False
        answer = self._wire.call("GET", f"/sessions/{quote(self._session_id, safe='')}/exists", repeatable=True)
        return bool(answer["exists"]) and not answer.get("expired", False)

    def health_check(self) -> Json:
        """Return the server's health; it may be `unhealthy` although the call succeeds."""
        return self._wire.call("GET", "/health", repeatable=True)

    def get_status(self) -> Json:
        """Return the server's status; `extensions` lists what it offers beyond the plain protocol."""
        return self._wire.call("GET", "/status", repeatable=True)

    def close(self) -> None:
        """Delete the session, best effort, and close the connections; never raises a KatoError."""
        self.delete_sessions()
        if self._owns_wire:
            self._wire.close()

    def delete_sessions(self) -> bool:
        """Delete what this client opened, trying once each; return False when the server did not answer."""
        sessions = [*self._left_behind, *([self._session_id] if self._session_id else [])]
        self._left_behind, self._session_id = [], None
        try:
            for session in sessions:
                # A session that is gone already is as good as deleted.
                with contextlib.suppress(SessionLost, Refused):
                    self._wire.call(
                        "DELETE",
                        f"/sessions/{quote(session, safe='')}",
                        repeatable=True,
                        attempts=1,
                        timeout_seconds=min(_CLOSING_SECONDS, self._wire.timeout_seconds),
                    )
        except (KatoError, httpx.HTTPError, RuntimeError):
            # RuntimeError: httpx's word for connections that were closed before.
            return False
        return True

    def delete_sessions_of(self, run: str, *, node_ids: Collection[str]) -> int:
        """Delete the sessions that a run's dead workers left at these nodes, and return how many there were.

        Only servers that advertise list-sessions answer this. No worker of the run may be left.
        """
        answer = self._wire.call("GET", f"/runs/{quote(run, safe='')}/sessions", repeatable=True)
        left = [str(each["session_id"]) for each in answer["sessions"] if each["node_id"] in node_ids]
        for session in left:
            with contextlib.suppress(SessionLost, Refused):
                self._wire.call("DELETE", f"/sessions/{quote(session, safe='')}", repeatable=True)
        return len(left)

    def _in_session(
        self,
        method: str,
        suffix: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str | int] | None = None,
        repeatable: bool = False,
        needs_memory: bool = True,
    ) -> Json:
        nothing_to_lose = self._stm_length == 0 or not needs_memory
        try:
            return self._send(method, suffix, body=body, params=params, repeatable=repeatable)
        except SessionLost as error:
            if not self.auto_recreate_session:
                raise
            self._session_id = None
            held = "what it remembered" if self._stm_length is None else f"its memory of {self._stm_length} events"
            self._stm_length = 0
            self._wire.statistics.sessions_recreated += 1
            if not nothing_to_lose:
                raise SessionLost(f"{error}; {held} is gone, the next call opens a new session") from error
        return self._send(method, suffix, body=body, params=params, repeatable=repeatable)

    def _send(
        self,
        method: str,
        suffix: str,
        *,
        body: Mapping[str, Any] | None,
        params: Mapping[str, str | int] | None,
        repeatable: bool,
    ) -> Json:
        path = f"/sessions/{quote(self.session_id, safe='')}{suffix}"
        try:
            return self._wire.call(method, path, body=body, params=params, repeatable=repeatable)
        except LostAnswer:
            if not repeatable:
                self._stm_length = None
            raise
