"""Calls to an API server: kr8s below, plain documents above, and every failure in words."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardwise_api import API_VERSION, GROUP
from shardwise_api.proxies import BadProxy, adapt_environment

from .errors import ApiError, ClientError, Unreachable, explain
from .kubeconfig import Target

if TYPE_CHECKING:
    import httpx
    from kr8s import ServerError
    from kr8s.asyncio import Api

FIELD_MANAGER = "shardwise"
PAGE = 500
_CONNECT_SECONDS = 15
_CALL_SECONDS = 60
_BUSY_TRIES = 5
_LONGEST_RETRY_SECONDS = 10.0
_METHODS = {"apply": "PATCH", "patch": "PATCH", "delete": "DELETE"}
_CONTENT = {"apply": "application/apply-patch+yaml", "patch": "application/merge-patch+json"}

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind as paths and roles spell it."""

    version: str
    plural: str

    def __str__(self) -> str:
        return f"{self.plural}.{GROUP}" if self.version == API_VERSION else self.plural


PODS = Resource(version="v1", plural="pods")


class Client:
    """An API server, and the namespace that is meant where none is said."""

    def __init__(self, api: Api, target: Target) -> None:
        self._api = api
        self.target = target
        self.namespace = target.namespace

    async def call(
        self, verb: str, resource: Resource, *, namespace: str | None, name: str = "", body: Any = None,
        params: Mapping[str, str] | None = None,
    ) -> Document:  # fmt: skip
        """Make one call and return the answer.

        `verb` is RBAC's (get, list, patch, delete) or `apply` for a server-side apply.

        Raises:
            ApiError: refused.
            Unreachable: no answer.
        """
        attempt = 1
        while True:
            try:
                return await self._call(verb, resource, namespace=namespace, name=name, body=body, params=params)
            except ApiError as error:
                if error.retry_after is None or attempt == _BUSY_TRIES:
                    raise
                attempt += 1
                await asyncio.sleep(error.retry_after)

    async def _call(
        self, verb: str, resource: Resource, *, namespace: str | None, name: str, body: Any,
        params: Mapping[str, str] | None,
    ) -> Document:  # fmt: skip
        with self._in_words(verb, resource, name=name, namespace=namespace):
            async with self._api.call_api(
                _METHODS.get(verb, "GET"),
                version=resource.version,
                namespace=namespace,
                url=f"{resource.plural}/{name}" if name else resource.plural,
                params=dict(params or {}),
                content=None if body is None else json.dumps(body),
                headers={"content-type": _CONTENT.get(verb, "application/json")},
            ) as response:
                answer: Document = response.json()
            return answer

    async def list(
        self, resource: Resource, *, namespace: str | None, params: Mapping[str, str] | None = None
    ) -> tuple[list[Document], str]:
        """Return all objects of a kind, and the version to watch from."""
        items: list[Document] = []
        query = {**(params or {}), "limit": str(PAGE)}
        while True:
            answer = await self.call("list", resource, namespace=namespace, params=query)
            items.extend(answer.get("items") or [])
            metadata = answer.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion") or "")
            query["continue"] = metadata["continue"]

    async def lines(
        self, verb: str, resource: Resource, *, namespace: str | None, name: str = "",
        params: Mapping[str, str] | None = None, quiet_seconds: float,
    ) -> AsyncGenerator[str, None]:  # fmt: skip
        """Yield the lines of an answer that goes on; `quiet_seconds` without any is taken for a lost connection.

        Raises:
            ApiError: refused.
            Unreachable: no answer, or none any more.
        """
        with self._in_words(verb, resource, name=name, namespace=namespace):
            async with self._api.call_api(
                "GET",
                version=resource.version,
                namespace=namespace,
                url=f"{resource.plural}/{name}" if name else resource.plural,
                params=dict(params or {}),
                stream=True,
                timeout=_timeout(quiet_seconds),
            ) as response:
                async for line in _split(response.aiter_text()):
                    yield line

    @contextmanager
    def _in_words(self, verb: str, resource: Resource, *, name: str, namespace: str | None) -> Iterator[None]:
        import httpx
        import kr8s

        try:
            yield
        except kr8s.ServerError as error:
            object_name, _, subresource = name.partition("/")
            asked = f"{resource}/{subresource}" if subresource else str(resource)
            spoken = "patch" if verb == "apply" else verb
            raise _explained(error, spoken, asked, name=object_name, namespace=namespace) from error
        except (httpx.TransportError, kr8s.APITimeoutError, OSError) as error:
            raise unreachable(self.target, error) from error


def _explained(error: ServerError, verb: str, resource: str, *, name: str, namespace: str | None) -> ApiError:
    response = error.response
    if response is None:
        return ApiError(str(error), code=0)
    try:
        answer = response.json()
    except ValueError:
        answer = response.text
    found = explain(
        code=response.status_code, answer=answer, verb=verb, resource=resource, name=name, namespace=namespace
    )
    waits = response.headers.get("Retry-After", "")
    if found.code == 429 and waits.isdigit():
        found.retry_after = min(float(waits), _LONGEST_RETRY_SECONDS)
    return found


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Client]:
    """Connect to an API server.

    Raises:
        ClientError: kr8s is missing, the credentials can't be had, or nobody answers.
    """
    with private_files():
        api = await _open(target)
        api.timeout = _timeout(_CALL_SECONDS)
        try:
            yield Client(api, target)
        finally:
            session = api._session
            if session is not None:
                await session.aclose()


async def _open(target: Target) -> Api:
    try:
        import httpx
        import kr8s.asyncio
    except ImportError as error:
        raise ClientError(
            f"the commands for a cluster need the package {error.name}: pip install 'shardwise[client]'"
        ) from error
    try:
        if not target.proxied:
            adapt_environment(target.server)
        # kr8s warns of API servers newer than itself; nothing here depends on their version.
        with warnings.catch_warnings(action="ignore"):
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await kr8s.asyncio.api(
                    kubeconfig=target.kubeconfig, context=target.context, namespace=target.namespace
                )
    except kr8s.ServerError as error:
        raise _explained(error, "get", "/version", name="", namespace=None) from error
    except (httpx.TransportError, kr8s.APITimeoutError, TimeoutError) as error:
        raise unreachable(target, error) from error
    except (BadProxy, ImportError, httpx.InvalidURL) as error:
        # Of a kubeconfig's own proxy it is the client that says what is missing.
        raise ClientError(f"no way to {target}: {error}") from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        # A credential plugin that is missing or fails, or a certificate that isn't one.
        raise ClientError(f"no credentials for {target}: {str(error) or type(error).__name__}") from error


@contextmanager
def private_files() -> Iterator[None]:
    """Give temporary files a folder that goes: kr8s writes the kubeconfig's private key to one and leaves it there."""
    folder, before = tempfile.mkdtemp(prefix="shardwise-client-"), tempfile.tempdir
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def unreachable(target: Target, error: BaseException) -> Unreachable:
    """Return what to tell when nobody answers."""
    why = str(error) or {"TimeoutError": "no answer in time"}.get(type(error).__name__, type(error).__name__)
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return Unreachable(
            f"{target} shows a certificate that the kubeconfig's authority has not signed: is the kubeconfig of an "
            f"earlier cluster? ({why})"
        )
    return Unreachable(
        f"no connection to {target}: {why}\nis the cluster up, and the context right? kubectl cluster-info; "
        "kubectl config get-contexts"
    )


def _timeout(seconds: float) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(seconds, connect=_CONNECT_SECONDS)


async def _split(chunks: AsyncIterator[str]) -> AsyncIterator[str]:
    """Cut at line feeds alone: httpx's own lines also end at U+2028 and its like, which a log may hold in a line."""
    rest = ""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split("\n")
        for line in whole:
            yield line
    if rest:
        yield rest
