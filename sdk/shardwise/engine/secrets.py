"""What this process knows and must not tell: passwords, keys and tokens, struck out of all that leaves it.

Whoever builds an error out of a driver's or a server's words can't know what these quote. So nothing depends on care:
log lines, errors, termination messages and progress all pass here.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import Any, TextIO
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

from shardwise_api.uris import secrets_of
from shardwise_api.wire import Environment

HIDDEN = "***"
_SHORTEST = 4
"""A shorter secret protects nothing, and striking it out would cut words to pieces."""
_SECRET_NAME = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|(^|_)(PASS|SECRET|TOKEN|API_?KEY|ACCESS_KEY|ACCOUNT_KEY|CREDENTIALS?|SAS))$|(^|_)SECRET_",
    re.IGNORECASE,
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s]*[@?]")
_DSN_PASSWORD = re.compile(r"password\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))", re.IGNORECASE)
_told: set[str] = set()


def remember(uri: str) -> None:
    """Keep the secrets of a URI that came by another way than the environment, as a command's option."""
    _told.update(secrets_of(uri))


def struck(text: str) -> str:
    """Return a text without any secret that this process knows."""
    pattern = _pattern(frozenset(known()))
    return text if pattern is None else pattern.sub(HIDDEN, text)


def struck_values(value: Any) -> Any:
    """Return plain JSON values without any secret in their texts; keys are ours and stay."""
    if isinstance(value, str):
        return struck(value)
    if isinstance(value, dict):
        return {key: struck_values(item) for key, item in value.items()}
    return [struck_values(item) for item in value] if isinstance(value, list) else value


def known(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Return the secrets of the environment, and those remembered."""
    found = set(_told)
    for name, value in environment.items():
        if name == Environment.STORE_URI:
            found |= {value, *secrets_of(value)} if secrets_of(value) else set()
        elif name == Environment.URL_CREDENTIALS:
            for url in value.split():
                options = parse_qsl(urlsplit(url).query)
                found |= secrets_of(url) | {text for _, option in options for text in (option, quote_plus(option))}
        elif _URI.match(value):
            found |= secrets_of(value)
        elif _SECRET_NAME.search(name):
            found.add(value)
        for quoted, plain in _DSN_PASSWORD.findall(value):
            found.add(quoted or plain)
    return {secret for secret in found if len(secret) >= _SHORTEST}


@functools.lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    # As messages quote them: as they are, percent-encoded, and with what repr() and JSON escape.
    written = {form for secret in secrets for form in (secret, quote(secret, safe=""), repr(secret)[1:-1])}
    if not written:
        return None
    # The longest first: one may be a part of another.
    return re.compile("|".join(re.escape(form) for form in sorted(written, key=lambda form: (-len(form), form))))


class StruckStream:
    """A text stream through which no secret passes; one that is written in two pieces is not recognised."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, struck."""
        self._stream.write(struck(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
