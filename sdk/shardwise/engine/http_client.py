"""What all HTTP clients of ours have in common: through which proxy they ask, and by which certificates they judge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from shardwise_api.proxies import BadProxy, adapt_environment, proxy_for

from .credentials import credentials_for
from .errors import BadConfiguration

_HUB = "https://huggingface.co"


def client_options(url: str) -> dict[str, Any]:
    """Return the arguments of an `httpx` client for one server.

    Raises:
        BadConfiguration: a variable names a proxy that can't be used, or the credentials' variable can't be read.
    """
    import httpx

    try:
        proxy = proxy_for(url)
    except BadProxy as error:
        raise BadConfiguration(str(error)) from error
    user, options = credentials_for(url)
    asked_for: dict[str, Any] = {"params": options} if options else {}
    if user is not None:
        asked_for["auth"] = user
    # Only https has certificates to check, and to read those of the system takes longer than many a call.
    secure = url.startswith("https:") or (proxy or "").startswith("https:")
    # The client's own reading of the variables fails on what others understand; SSL_CERT_FILE still counts.
    verify = httpx.create_ssl_context() if secure else False
    return {"proxy": proxy, "trust_env": False, "verify": verify, **asked_for}


def adapt_to_hub(name: str = "") -> None:
    """Make the environment's proxies fit for the libraries that ask the hub by themselves.

    `name` is what they are asked for; a folder needs no hub, and so no proxy. Raises as `client_options`.
    """
    try:
        adapt_environment(os.environ.get("HF_ENDPOINT") or _HUB)
    except BadProxy as error:
        if not name or not Path(name).is_dir():
            raise BadConfiguration(str(error)) from error
