"""Calls to the API server: few verbs on plain documents, every one with a time limit and one kind of error.

Plain documents, because what a manifest hands through (`worker.volumes`, …) may be newer than any client's models, and
must not lose a field on its way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import kr8s
import kr8s.asyncio

from shardwise_api.proxies import adapt_environment

FIELD_MANAGER = "shardwise-operator"
TIMEOUT_SECONDS = 15.0
_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
Document = dict[str, Any]


class ApiError(Exception):
    """A call that did not go well; status 0 and reason Unreachable when there was no answer."""

    def __init__(self, *, status: int, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    """The API server as kubeconfig or service account name it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._client.timeout = TIMEOUT_SECONDS

    @classmethod
    async def connect(cls) -> Api:
        """Return a connection to the cluster that this process belongs to, else to the kubeconfig's."""
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        try:
            adapt_environment(f"https://{f'[{host}]' if ':' in host else host}")
            return cls(await kr8s.asyncio.api())
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError, kr8s.APITimeoutError) as error:
            raise ApiError(status=0, reason="Unreachable", message=str(error) or type(error).__name__) from error

    async def get(self, path: str, *, params: Mapping[str, str] | None = None, accept: str | None = None) -> Document:
        """Return an object or a list."""
        headers = {} if accept is None else {"Accept": accept}
        return await self._call("GET", path, params=params, headers=headers)

    async def create(self, path: str, body: Document) -> Document:
        """Create an object in a collection."""
        return await self._call("POST", path, body=body)

    async def replace(self, path: str, body: Document) -> Document:
        """Replace an object; a `metadata.resourceVersion` that is not the newest is a Conflict."""
        return await self._call("PUT", path, body=body)

    async def apply(self, path: str, body: Document) -> Document:
        """Apply an object server-side, as its sole owner of these fields."""
        return await self._call(
            "PATCH",
            path,
            body=body,
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    async def merge(self, path: str, body: Document) -> Document:
        """Merge a part into an object (RFC 7386)."""
        return await self._call(
            "PATCH",
            path,
            body=body,
            params={"fieldManager": FIELD_MANAGER},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def delete(self, path: str, body: Document | None = None) -> bool:
        """Delete an object, and say whether it is gone: finalizers may keep it. `body` holds DeleteOptions."""
        try:
            answer = await self._call("DELETE", path, body=body)
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return True
        # One that stays for a while is shown; of one that is gone only that it is.
        return answer.get("kind") == "Status"

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Document | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Document:
        _, base, rest = path.split("/", 2)
        try:
            # Errors are told apart below: the client would take a 403 for an outdated login and close its connections.
            async with self._client.call_api(
                method,
                base=f"/{base}",
                version="",
                url=rest,
                raise_for_status=False,
                params=dict(params or {}),
                headers={**_bearer(), **(headers or {})},
                content=None if body is None else json.dumps(body).encode(),
            ) as response:
                return _answer(response)
        except (httpx.HTTPError, OSError, RuntimeError, kr8s.APITimeoutError) as error:
            raise ApiError(status=0, reason="Unreachable", message=str(error) or type(error).__name__) from error


def _bearer() -> dict[str, str]:
    # The kubelet renews the token within its file; whoever reads it once is locked out an hour later.
    try:
        return {"Authorization": f"Bearer {_TOKEN.read_text(encoding='ascii').strip()}"}
    except OSError:
        return {}


def _answer(response: httpx.Response) -> Document:
    try:
        document = response.json()
    except ValueError:
        document = {}
    if response.is_success:
        return document  # type: ignore[no-any-return]
    raise ApiError(
        status=response.status_code,
        reason=document.get("reason") or response.reason_phrase,
        message=document.get("message") or response.text[:500],
    )
