"""An API server in memory, for what a real one can't be made to do on demand: lost answers, conflicts, refusals.

It keeps what the operator relies on: uids that are never used again, versions that only grow, generations that count
changes of a spec, a status that only its subresource writes, server-side apply that keeps what others own, merge
patches, preconditions, label and field selectors. Everything that happened is in `log`, for a test to deliver as a
watch would, or not.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shardwise_api.runs import KINDS
from shardwise_operator.shell.api import Api, ApiError, Document

from .virtual_time import T0

RUN_KINDS = {model.plural: kind for kind, model in KINDS.items()}
_KINDS = {
    **RUN_KINDS,
    "jobs": "Job",
    "pods": "Pod",
    "configmaps": "ConfigMap",
    "serviceaccounts": "ServiceAccount",
    "networkpolicies": "NetworkPolicy",
    "services": "Service",
    "events": "Event",
    "workloads": "Workload",
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that reached the server."""

    at: float
    verb: str
    """get, list, create, replace, apply, merge or delete."""
    kind: str
    name: str
    body: Document | None

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.verb not in ("get", "list")


@dataclass(kw_only=True)
class Refusal:
    """Calls that don't go well, until it is taken from the list or used up."""

    error: ApiError
    kind: str | None = None
    verb: str | None = None
    times: int | None = None
    done_all_the_same: bool = False
    """The call is carried out and only its answer lost."""

    def takes(self, call: Call) -> bool:
        """Say whether a call is refused, and count it."""
        if self.kind not in (None, call.kind) or self.verb not in (None, call.verb) or self.times == 0:
            return False
        self.times = None if self.times is None else self.times - 1
        return True


def unreachable() -> ApiError:
    """Return the error of a call without an answer."""
    return ApiError(status=0, reason="Unreachable", message="timed out")


def forbidden(message: str) -> ApiError:
    """Return what a server says that won't."""
    return ApiError(status=403, reason="Forbidden", message=message)


class FakeApi(Api):
    """See the module. `objects` may be changed by a test through `put` and `remove`, as by somebody else."""

    def __init__(self, *, time: Callable[[], datetime] = lambda: T0) -> None:  # no client: nothing leaves the process
        self._time = time
        self._version = 0
        self._uids = 0
        self.objects: dict[str, Document] = {}
        self.log: list[tuple[str, str, Document]] = []
        """(ADDED | MODIFIED | DELETED, kind, body) in order."""
        self.calls: list[Call] = []
        self.refusals: list[Refusal] = []
        self.fault: Callable[[Call], Refusal | None] = lambda call: None
        self.on_status: Callable[[Document, Document], None] = lambda before, after: None
        self.latency: Callable[[], float] = lambda: 0.0
        self.admit: Callable[[Document], Document] = lambda made: made
        """What admission webhooks make of an object that the operator makes."""

    # What tests ask.

    def body(self, kind: str, name: str) -> Document | None:
        """Return an object by kind and name."""
        return next((body for body in self.of(kind) if body["metadata"]["name"] == name), None)

    def of(self, kind: str) -> list[Document]:
        """Return all objects of a kind, oldest first."""
        return [copy.deepcopy(body) for body in self.objects.values() if body["kind"] == kind]

    def written(self, *, verb: str | None = None, kind: str | None = None) -> list[Call]:
        """Return the calls that change something."""
        return [call for call in self.calls if call.writes and verb in (None, call.verb) and kind in (None, call.kind)]

    # What others do.

    def put(self, path: str, body: Document) -> Document:
        """Create or replace an object, status and all, as whoever may."""
        known = self.objects.get(path)
        body = copy.deepcopy(body)
        metadata = body["metadata"]
        if known is None:
            self._uids += 1
            metadata.setdefault("uid", f"uid-{self._uids}")
            metadata.setdefault("creationTimestamp", self._now())
            metadata.setdefault("generation", 1)
        else:
            if body == known:
                return copy.deepcopy(known)
            metadata["uid"] = known["metadata"]["uid"]
            metadata["generation"] = known["metadata"]["generation"] + (body.get("spec") != known.get("spec"))
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self.objects[path] = body
        self._tell("ADDED" if known is None else "MODIFIED", body)
        return copy.deepcopy(body)

    def change(self, kind: str, name: str, **parts: Any) -> Document:
        """Merge parts into an object, as whoever may."""
        path = next(p for p, b in self.objects.items() if b["kind"] == kind and b["metadata"]["name"] == name)
        return self.put(path, _merged(self.objects[path], parts))

    def remove(self, path: str) -> None:
        """Delete an object at once."""
        body = self.objects.pop(path)
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", body)

    def collect_garbage(self) -> int:
        """Remove what has no owner left; return how much that was."""
        gone = 0
        while True:
            uids = {body["metadata"]["uid"] for body in self.objects.values()}
            orphans = [
                path
                for path, body in self.objects.items()
                if (owners := body["metadata"].get("ownerReferences")) and not any(o["uid"] in uids for o in owners)
            ]
            if not orphans:
                return gone
            gone += len(orphans)
            for path in orphans:
                self.remove(path)

    # What the operator calls.

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Document | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Document:
        await asyncio.sleep(self.latency())
        verb, kind, name = _meaning(method, path, headers or {})
        call = Call(at=asyncio.get_running_loop().time(), verb=verb, kind=kind, name=name, body=copy.deepcopy(body))
        self.calls.append(call)
        refusal = next((one for one in self.refusals if one.takes(call)), None) or self.fault(call)
        if refusal is not None and not refusal.done_all_the_same:
            raise refusal.error
        answer = self._answer(verb, path, body or {}, params or {})
        await asyncio.sleep(self.latency())
        if refusal is not None:
            raise refusal.error
        return answer

    def _answer(self, verb: str, path: str, body: Document, params: Mapping[str, str]) -> Document:
        if verb == "list":
            return self._list(path, params)
        if verb == "create":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise ApiError(status=409, reason="AlreadyExists", message=f"{path} already exists")
            return self.put(path, body)
        target = path.removesuffix("/status")
        known = self.objects.get(target)
        if known is None and verb != "apply":
            raise ApiError(status=404, reason="NotFound", message=f"{target} not found")
        if verb == "get":
            assert known is not None
            return copy.deepcopy(known)
        if verb == "apply":
            self._check(body)
            return self.put(target, self.admit(copy.deepcopy(body)) if known is None else _merged(known, body))
        assert known is not None
        if verb == "merge":
            return self._merge(target, known, body)
        if verb == "replace":
            return self._replace_status(target, known, body)
        return self._delete(target, known, body)

    def _list(self, path: str, params: Mapping[str, str]) -> Document:
        head, _, plural = path.rpartition("/")
        base, _, namespace = head.partition("/namespaces/")
        kind = _KINDS[plural]
        labels, fields = params.get("labelSelector", ""), params.get("fieldSelector", "")
        items = [
            body
            for body in self.of(kind)
            if (not namespace or body["metadata"]["namespace"] == namespace)
            and _selected(body["metadata"].get("labels", {}), labels)
            and all(str(_field(body, key)) == value for key, _, value in (f.partition("=") for f in fields.split(",")))
        ]
        return {"kind": f"{kind}List", "apiVersion": base, "metadata": {}, "items": items}

    def _merge(self, path: str, known: Document, body: Document) -> Document:
        if known["kind"] == "Job":
            self._check_size(known.get("spec", {}), _merged(known, body).get("spec", {}))
        if body.get("metadata", {}).get("uid", known["metadata"]["uid"]) != known["metadata"]["uid"]:
            raise ApiError(
                status=422, reason="Invalid", message=f'{path} is invalid: metadata.uid: Invalid value: "…": immutable'
            )
        return self.put(path, _merged(known, body))

    def _replace_status(self, path: str, known: Document, body: Document) -> Document:
        metadata = body["metadata"]
        if metadata["uid"] != known["metadata"]["uid"] or (
            metadata["resourceVersion"] != known["metadata"]["resourceVersion"]
        ):
            raise ApiError(status=409, reason="Conflict", message="the object has been modified")
        after = {**known, "status": body["status"]}
        self.on_status(copy.deepcopy(known), copy.deepcopy(after))
        return self.put(path, after)

    def _delete(self, path: str, known: Document, body: Document) -> Document:
        for key, value in body.get("preconditions", {}).items():
            if known["metadata"][key] != value:
                raise ApiError(status=409, reason="Conflict", message=f"Precondition failed: {key} is not {value}")
        assert body.get("propagationPolicy") == "Background"
        self.remove(path)
        return {"kind": "Status", "status": "Success"}

    def _check(self, body: Document) -> None:
        spec = body.get("spec", {})
        if body["kind"] == "Job" and spec["maxFailedIndexes"] > spec["completions"]:
            message = "spec.maxFailedIndexes: Invalid value: must be less than or equal to completions"
            raise ApiError(status=422, reason="Invalid", message=message)

    def _check_size(self, before: Document, after: Document) -> None:
        if before.get("completions") != after.get("completions") != after.get("parallelism"):
            message = "spec.completions: Invalid value: can only be modified in tandem with spec.parallelism"
            raise ApiError(status=422, reason="Invalid", message=message)

    def _now(self) -> str:
        return self._time().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _tell(self, type_: str, body: Document) -> None:
        self.log.append((type_, body["kind"], copy.deepcopy(body)))


def _meaning(method: str, path: str, headers: Mapping[str, str]) -> tuple[str, str, str]:
    parts = path.removesuffix("/status").split("/")
    if parts[-1] in _KINDS:
        return {"GET": "list", "POST": "create"}[method], _KINDS[parts[-1]], ""
    verb = {"GET": "get", "PUT": "replace", "DELETE": "delete", "PATCH": "apply"}[method]
    if headers.get("Content-Type") == "application/merge-patch+json":
        verb = "merge"
    return verb, _KINDS[parts[-2]], parts[-1]


def _merged(known: Any, patch: Any) -> Any:
    if not isinstance(known, dict) or not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = {key: copy.deepcopy(value) for key, value in known.items() if patch.get(key, "") is not None}
    for key, value in patch.items():
        if value is not None:
            merged[key] = _merged(known.get(key), value)
    return merged


def _selected(labels: Mapping[str, str], selector: str) -> bool:
    key, equals, value = selector.partition("=")
    return not selector or (labels.get(key) == value if equals else key in labels)


def _field(body: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        body = body.get(part, {})
    return "" if isinstance(body, dict) else body
