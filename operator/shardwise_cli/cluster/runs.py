"""Runs of a cluster: found by name, with what is near when a name is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from difflib import get_close_matches

from .client import Client, Document
from .errors import ApiError, ClientError
from .names import RESOURCES, SHORT, RunName

_SHOWN = 8


class NotFound(ClientError):
    """No run of that name."""


async def find(client: Client, name: RunName) -> Document:
    """Return a run by name, of either kind when none is said.

    Raises:
        NotFound: there is none; says what there is instead.
        ClientError: there are two, or the API server says no.
    """
    found: list[Document] = []
    refusals: list[ApiError] = []
    for kind in name.kinds:
        try:
            found.append(await get(client, kind, name.name))
        except ApiError as error:
            refusals.append(error)
    if len(found) == 1:
        return found[0]
    if found:
        both = " or ".join(f"{SHORT[kind]}/{name.name}" for kind in name.kinds)
        raise ClientError(f"{name.name} is a run of either kind in namespace {client.namespace}: say {both}")
    for refusal in refusals:
        if not _absent(refusal):
            raise refusal
    raise NotFound(await _instead(client, name))


async def find_all(client: Client, names: Sequence[RunName]) -> list[Document]:
    """Return several runs, in the order of the names."""
    return [await find(client, name) for name in names]


async def get(client: Client, kind: str, name: str) -> Document:
    """Return the run of a kind and name."""
    return typed(kind, await client.call("get", RESOURCES[kind], namespace=client.namespace, name=name))


async def list_runs(client: Client, *, namespace: str | None) -> list[Document]:
    """Return the runs of both kinds, by namespace, then oldest first; all namespaces when None."""
    found: list[Document] = []
    for kind, resource in RESOURCES.items():
        items, _ = await client.list(resource, namespace=namespace)
        found.extend(typed(kind, item) for item in items)
    return sorted(found, key=order)


def typed(kind: str, item: Document) -> Document:
    """Return an object with its kind: entries of a list come without."""
    return {"apiVersion": RESOURCES[kind].version, "kind": kind, **item}


def order(run: Document) -> tuple[str, str, str]:
    """Return what runs are sorted by: namespace, age, name."""
    metadata = run["metadata"]
    return str(metadata.get("namespace")), str(metadata.get("creationTimestamp")), str(metadata["name"])


def _absent(refusal: ApiError) -> bool:
    return refusal.code == 404 and "not found" in str(refusal)


async def _instead(client: Client, name: RunName) -> str:
    said = f"there is no run {name} in namespace {client.namespace}"
    here, elsewhere = await asyncio.gather(_names(client, name, client.namespace), _names(client, name, None))
    names = sorted({run["metadata"]["name"] for run in here})
    if other := sorted({r["metadata"]["namespace"] for r in elsewhere if r["metadata"]["name"] == name.name}):
        return f"{said}, but in {', '.join(other[:_SHOWN])}: add -n {other[0]}"
    if close := get_close_matches(name.name, names, n=3, cutoff=0.5):
        return f"{said}; did you mean {' or '.join(close)}?"
    if not names:
        return f"{said}, nor any other: -n NAMESPACE looks elsewhere, `shardwise get -A` everywhere"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{said}; there are {', '.join(names[:_SHOWN])}{more}"


async def _names(client: Client, name: RunName, namespace: str | None) -> list[Document]:
    found: list[Document] = []
    for kind in name.kinds:
        # A hint is not worth an error of its own: who may read one run may not list all.
        try:
            items, _ = await client.list(RESOURCES[kind], namespace=namespace)
        except ClientError:
            continue
        found.extend(items)
    return found
