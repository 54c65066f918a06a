"""What all HTTP clients of ours have in common: through which proxy they ask, and by which certificates they judge."""

from __future__ import annotations

from typing import Any

from shardwise_api.proxies import BadProxy, adapt_environment, proxy_for

from .errors import BadConfiguration


def client_options(url: str) -> dict[str, Any]:
    """Return the arguments of an `httpx` client for one server.

    Raises:
        BadConfiguration: a variable names a proxy that can't be used.
    """
    import httpx

    try:
        proxy = proxy_for(url)
    except BadProxy as error:
        raise BadConfiguration(str(error)) from error
    # Only https has certificates to check, and to read those of the system takes longer than many a call.
    secure = url.startswith("https:") or (proxy or "").startswith("https:")
    # The client's own reading of the variables fails on what others understand; SSL_CERT_FILE still counts.
    return {"proxy": proxy, "trust_env": False, "verify": httpx.create_ssl_context() if secure else False}


def adapt_to(url: str) -> None:
    """Make the environment's proxies fit for a library that asks a URL by itself. Raises as `client_options`."""
    try:
        adapt_environment(url)
    except BadProxy as error:
        raise BadConfiguration(str(error)) from error
