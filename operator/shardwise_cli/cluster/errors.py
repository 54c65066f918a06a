"""What goes wrong between a person and a cluster, each with the way out: nobody should have to read a traceback."""

from __future__ import annotations

from typing import Any

from shardwise_api import GROUP

NOT_INSTALLED = (
    f"this cluster doesn't know {GROUP}: Shardwise is not installed there. Install its chart, or at least its "
    "definitions: kubectl apply --server-side -f crds/"
)


class ClientError(Exception):
    """Something that a person can mend; its text is all that is shown."""

    exit_code = 1


class UsageProblem(ClientError):
    """The command itself asks for something that can't be."""

    exit_code = 2


class Unreachable(ClientError):
    """No answer from the API server; another try may get one."""


class ApiError(ClientError):
    """The API server has answered, and its answer is no."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after: float | None = None
        """Seconds after which it wants to be asked again."""

    @property
    def passing(self) -> bool:
        """Whether another try may go well."""
        return self.code == 429 or self.code >= 500


def explain(*, code: int, answer: Any, verb: str, resource: str, name: str | None, namespace: str | None) -> ApiError:
    """Return what to tell of a refusal.

    `answer` is the decoded body: a Status object, or text where something else than Kubernetes has answered.
    `resource` is spelt as in RBAC and for kubectl, as `pods` or `trainingruns.shardwise.dev`.
    """
    status = answer if isinstance(answer, dict) else {}
    message = str(status.get("message") or answer or "").strip()
    scope = f" in namespace {namespace}" if namespace else " in all namespaces"
    if code == 401:
        return ApiError(
            "the API server doesn't accept the credentials of the kubeconfig: log in again, or choose another "
            "--context",
            code=code,
        )
    if code == 403:
        where = f"-n {namespace}" if namespace else "--all-namespaces"
        return ApiError(
            f"not allowed to {verb} {resource}{scope}: {message}\n"
            f"ask for a role with verb `{verb}` on `{resource}`; to check: "
            f"kubectl auth can-i {verb} {resource} {where}",
            code=code,
        )
    if code == 404 and not status:
        return ApiError(NOT_INSTALLED if GROUP in resource else f"no {resource} on this API server", code=code)
    if code == 404 and (status.get("details") or {}).get("kind") == "namespaces":
        return ApiError(
            f"there is no namespace {namespace}: kubectl create namespace {namespace}, or choose one with -n", code=code
        )
    if code == 422:
        return _invalid(status, message)
    if code == 409 and "conflict" in message:
        return ApiError(f"somebody else has set the same field: {message}\n--force-conflicts takes it over", code=code)
    shown = message or f"HTTP {code}"
    target = f"{resource} {name}" if name else resource
    return ApiError(f"can't {verb} {target}{scope}: {shown}", code=code)


def _invalid(status: dict[str, Any], message: str) -> ApiError:
    lines = []
    for cause in (status.get("details") or {}).get("causes") or []:
        field, told = str(cause.get("field") or "").removeprefix("<nil>"), _words(str(cause.get("message") or ""))
        lines.append(f"  {field}: {told}" if field else f"  {told}")
    return ApiError("\n".join(["the API server refuses it:", *lines]) if lines else message, code=422)


def _words(message: str) -> str:
    """Return the reason alone: `Invalid value: "object": why` repeats what is at that field already."""
    for start in ('Invalid value: "object": ', 'Invalid value: "string": '):
        message = message.removeprefix(start)
    return message
