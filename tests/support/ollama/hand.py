"""The hand by which a test scripts a server that runs, and reads its log."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import httpx

from .script import Fault


class OllamaServer:
    """A running server. All waiting is the server's: it answers when what is waited for holds."""

    def __init__(self, *, url: str, http: httpx.Client) -> None:
        self.url = url
        self._http = http

    def script(self, *faults: Fault) -> None:
        """Add faults to what will go wrong."""
        self._post("faults", [asdict(fault) for fault in faults])

    def settings(self, **changes: float | bool | str) -> None:
        """Change latency_ms, load_ms, hold, thinking, shows, parallel or max_queue."""
        self._post("settings", changes)

    def release(self, count: int | None = None) -> None:
        """Let held calls go on, the oldest first, all of them unless told."""
        self._post("release", {"count": count})

    def reset(self) -> None:
        """Forget faults, log and counters; hold nothing."""
        self._post("reset", {})

    def wait(self, **counters: int) -> dict[str, int]:
        """Return all counters once some have these values, or more where a name ends with `_at_least`."""
        found: dict[str, int] = self._get("wait", counters)
        return found

    def counters(self) -> dict[str, int]:
        """Return the counters: see `Counters`, and `connections` of clients that are open."""
        found: dict[str, int] = self._get("counters")
        return found

    def calls(self) -> list[dict[str, Any]]:
        """Return the log: see `Call`."""
        calls: list[dict[str, Any]] = self._get("calls")
        return calls

    def _get(self, what: str, params: dict[str, int] | None = None) -> Any:
        return self._answer(self._http.get(f"/script/{what}", params=params))

    def _post(self, what: str, body: Any) -> Any:
        # In ASCII, for the client's own JSON holds no half of a surrogate pair.
        content, kind = json.dumps(body), {"content-type": "application/json"}
        return self._answer(self._http.post(f"/script/{what}", content=content, headers=kind))

    def _answer(self, response: httpx.Response) -> Any:
        assert response.status_code == httpx.codes.OK, f"{response.request.url}: {response.text}"
        return response.json()
