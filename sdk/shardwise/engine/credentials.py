"""What http(s) servers ask for, kept out of manifests: a variable's URLs say it, each for its own server alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from shardwise_api.uris import CREDENTIALS_VARIABLE

from .errors import BadConfiguration

_PORTS = {"http": 80, "https": 443}
_FORM = f"{CREDENTIALS_VARIABLE}: URLs with white space between are needed, as https://user:password@host"


def credentials_for(
    url: str, *, environment: Mapping[str, str] = os.environ
) -> tuple[tuple[str, str] | None, dict[str, str]]:
    """Return user name and password, if any, and the options that the server of a URL is to be sent beside its own.

    What the URL itself says goes first. A server is scheme, host and port: nothing goes to any other.

    Raises:
        BadConfiguration: the variable can't be read; nothing of it is repeated.
    """
    entries = environment.get(CREDENTIALS_VARIABLE, "").split()
    if not entries or not url.startswith(("http://", "https://")):
        return None, {}
    try:
        asked = urlsplit(url)
        server = _server(asked)
    except ValueError:
        # Its client says so, in words of its own.
        return None, {}
    user: tuple[str, str] | None = None
    options: dict[str, str] = {}
    for entry in _parsed(entries):
        if _server(entry) == server:
            options |= dict(parse_qsl(entry.query, keep_blank_values=True))
            if entry.username is not None:
                user = unquote(entry.username), unquote(entry.password or "")
    given = dict(parse_qsl(asked.query, keep_blank_values=True))
    return None if "@" in asked.netloc else user, {name: value for name, value in options.items() if name not in given}


def with_credentials(url: str) -> str:
    """Return a URL with what its server asks for; any other text as it is. Raises as `credentials_for`."""
    user, options = credentials_for(url)
    if user is None and not options:
        return url
    parts = urlsplit(url)
    if user is not None:
        parts = parts._replace(netloc=f"{':'.join(map(_quoted, user))}@{parts.netloc}")
    if options:
        parts = parts._replace(query="&".join(filter(None, (parts.query, urlencode(options)))))
    return parts.geturl()


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _parsed(entries: list[str]) -> Iterator[SplitResult]:
    for entry in entries:
        try:
            parts = urlsplit(entry)
            scheme, host, _ = _server(parts)
        except ValueError:
            scheme = host = ""
        if scheme not in _PORTS or not host or parts.path not in ("", "/") or parts.fragment:
            raise BadConfiguration(_FORM)
        yield parts


def _server(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme)
