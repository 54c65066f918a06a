"""Paths and URIs of files and stores: one way to read them, one to write them, one to show them without their secrets.

A text without `scheme://` at its begin is a path, and every character of it belongs to the name: nothing is read as a
pattern, a chain or a home folder. `file://` and `sqlite:///` URIs are paths with percent codes. All others are left to
what opens them; only their schemes and their secrets are looked at here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes

SCHEMES = frozenset({"file", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf"})
"""What may be opened unless an administrator allows more."""
SCHEMES_VARIABLE = "SHARDWISE_URI_SCHEMES"
CREDENTIALS_VARIABLE = "SHARDWISE_URL_CREDENTIALS"
"""Holds what http(s) servers ask for, as URLs with white space between: https://user:password@host, https://host/?token=…"""
BY_VARIABLE = (
    f"does not belong in a manifest: put the server's URL with it into the variable {CREDENTIALS_VARIABLE}, as "
    "https://user:password@host or https://host/?token=…; in a cluster from a Secret, by spec.worker.env or envFrom"
)
_FILES = ("file", "sqlite")
_HIDDEN = "***"
_NUL = "has a NUL character, which no name can have"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*"
_URI = re.compile(rf"(?:{_SCHEME}::)*{_SCHEME}://|file:/")
_CHAIN = re.compile(rf"::(?={_SCHEME}(?:://|::))")
_LOCALHOST = "//localhost/"
_HOST = r"(?:\[[0-9A-Fa-f:.%]*\]|[^:,\[\]]*)(?::[0-9]*)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_AMBIGUOUS = re.compile(r"@|%(?![0-9A-Fa-f]{2})")
SECRET_OPTION = "pass(word|wd|phrase)|secret|token|credentials?|signature|(api|access|account|secret)[-_.]?key"  # noqa: S105
"""How the name of a URI's option ends that holds a secret for certain, as a pattern that RE2 reads too."""
WHOLE_SECRET_OPTION = "sig|pwd|auth(orization)?"  # noqa: S105
"""Names of such options as a whole."""
_REFUSED_OPTION = re.compile(f".*({SECRET_OPTION})|{WHOLE_SECRET_OPTION}", re.IGNORECASE | re.DOTALL)
_SIGNED_OPTION = re.compile(r"x-(amz|goog)-.*|sig|signature|(aws|google)access(keyid|id)", re.IGNORECASE)
"""What a presigned URL consists of. It opens one file until it expires, and no Secret could hold one for each input."""
_SECRET_KEY = re.compile(r"pass|secret|token|credential|signature|^sig$|key$|^code$|^auth", re.IGNORECASE)


class BadUri(ValueError):
    """A path or URI that can't be used; the text says why, without a secret of it."""


def is_uri(text: str) -> bool:
    """Say whether a text is a URI; anything else is a path, whatever its characters."""
    return _URI.match(text) is not None


def scheme_of(text: str) -> str:
    """Return the scheme of a URI, of a chain that of its first part; empty for a path."""
    return re.split("::|:", text, maxsplit=1)[0].lower() if is_uri(text) else ""


def local_path(text: str) -> Path | None:
    """Return the path that a plain path or a `file://` URI names, None for a URI of another scheme.

    Raises:
        BadUri: it has a NUL, or a query or fragment, which would be left unheeded.
    """
    if not is_uri(text):
        return Path(_checked(text))
    if scheme_of(text) != "file" or text[4:6] == "::":
        return None
    rest = text[len("file:") :]
    if rest.lower().startswith(_LOCALHOST):
        rest = rest[len(_LOCALHOST) - 1 :]
    return _decoded(text, rest.removeprefix("//"))


def file_uri(path: str | Path) -> str:
    """Return the `file://` URI of a path; a relative path stays relative."""
    return f"file://{_encoded(path)}"


def sqlite_path(uri: str) -> Path:
    """Return the file of `sqlite:///relative.db` or `sqlite:////absolute.db` (as SQLAlchemy reads them).

    Raises:
        BadUri: it names no file, has a NUL, or has options, which would be left unheeded.
    """
    rest = uri.removeprefix("sqlite://")
    if rest == uri or not rest.startswith("/") or not rest.strip("/"):
        raise BadUri("write sqlite:///file.db (relative) or sqlite:////dir/file.db (absolute)")
    return _decoded(uri, rest[1:])


def sqlite_uri(path: str | Path) -> str:
    """Return the `sqlite:///` URI of a file."""
    return f"sqlite:///{_encoded(path)}"


def folder_of(uri: str) -> str:
    """Return the path or URI of a folder without slashes at its end, unless it is the root."""
    stripped = uri.rstrip("/")
    if not stripped:
        return uri[:1]
    return uri if stripped.endswith(":") and is_uri(uri) else stripped


def joined(folder: str, name: str) -> str:
    """Return the path or URI of `name`, as it is on a disk or in a bucket, within a folder."""
    named = _encoded(name) if scheme_of(folder) == "file" else name
    return f"{folder}{named}" if folder.endswith("/") else f"{folder}/{named}"


def resolved(text: str, *, base: Path) -> str:
    """Return a path, or the URI of one, absolute and without `.` and `..`, as seen from `base`; other URIs as they are.

    Raises:
        BadUri: as `local_path` and `sqlite_path`.
    """
    if not is_uri(text):
        return absolute(text, base=base)
    if scheme_of(text) == "sqlite" and not text.startswith("sqlite::"):
        return sqlite_uri(absolute(sqlite_path(text), base=base))
    path = local_path(text)
    return text if path is None else file_uri(absolute(path, base=base))


def absolute(path: str | Path, *, base: Path) -> str:
    """Return a path as seen from `base`, without `.` and `..`. Raises BadUri when it has a NUL."""
    return os.path.normpath(base / _checked(os.fspath(path)))


def parts_of(uri: str) -> list[str]:
    """Return the URIs of a chain, as `zip://a.jsonl` and `https://host/x.zip`; of any other text itself."""
    return _CHAIN.split(uri) if is_uri(uri) else [uri]


def allowed_schemes(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return the schemes that may be opened: the usual ones, and what the environment adds."""
    more = environment.get(SCHEMES_VARIABLE, "").replace(",", " ").split()
    return SCHEMES | {scheme.lower().removesuffix("://") for scheme in more}


def problem_of(uri: str, *, schemes: Iterable[str] | None = None) -> str | None:
    """Return why an input or output can't be used as it is written, None when nothing is wrong with it.

    `schemes` are those allowed, None where that is for others to judge.
    """
    try:
        if local_path(uri) is not None:
            return None
    except BadUri as error:
        return str(error)
    if "\0" in uri:
        return _NUL
    if len(parts := parts_of(uri)) > 1 and "::" in "".join(parts):
        return "has :: within a part of a chain"
    for part in parts:
        scheme = part.partition(":")[0].lower()
        if schemes is not None and scheme not in schemes:
            return (
                f"scheme {scheme}:// is not allowed; known are {', '.join(sorted(SCHEMES))}, and what "
                f"{SCHEMES_VARIABLE} adds (in a cluster, the chart's uriSchemes)"
            )
        if scheme in SCHEMES - {"http", "https"} and _has_password(part):
            return "a password does not belong in a manifest: credentials come as environment variables"
    return None


def secret_problem_of(uri: str, *, signed: bool = False) -> str | None:
    """Return why a URI with an http(s) part must not stand in a manifest: it holds a secret. None when none is seen.

    `signed`: signatures of presigned URLs are accepted. The problem names no part of the secret.
    """
    for part in parts_of(uri):
        if scheme_of(part) not in ("http", "https"):
            continue
        before, _, query = part.partition("#")[0].partition("?")
        if _has_password(before):
            return f"a password {BY_VARIABLE}"
        for name, _ in parse_qsl(query, keep_blank_values=True, errors="replace"):
            if _REFUSED_OPTION.fullmatch(name) and not (signed and _SIGNED_OPTION.fullmatch(name)):
                return f"the value of option {name} {BY_VARIABLE}"
    return None


def hosts_of(uri: str) -> str:
    """Return host and port of a database's URI, several with commas between, as they are written.

    Raises:
        BadUri: a character of user name or password makes it ambiguous where these end.
    """
    rest = uri.partition("://")[2]
    authority, _, _ = _cut(rest, "/?#")
    userinfo, at, hosts = authority.rpartition("@")
    path, _, _ = _cut(rest[len(authority) :], "?")
    bracket = "[" in userinfo and uri.startswith("mongodb")
    if bracket or _AMBIGUOUS.search(userinfo) or (not at and ":" in hosts and "@" in path):
        raise BadUri("the user name and password of a URI must be percent-encoded, as %40 for @ and %2F for /")
    return hosts


def redacted(text: str) -> str:
    """Return a path or URI fit to be shown: without user names, passwords, signatures and whatever may be one.

    A password with characters that should have been percent-encoded makes a URI ambiguous. Rather too much is hidden
    then: all that comes before the last `@`.
    """
    return "::".join(map(_redacted_part, parts_of(text))) if is_uri(text) else text


def secrets_of(uri: str) -> set[str]:
    """Return what of a URI must not be shown, as it is written and decoded; each piece that a mistake could cut out."""
    found: set[str] = set()
    for part in parts_of(uri):
        if (userinfo := _userinfo(part)) is not None:
            _, _, password = userinfo.partition(":")
            found |= {password, *re.split(r"[/?#@:&=\[\]%]", password)}
        _, _, query = part.partition("?")
        for pair in query.partition("#")[0].split("&"):
            key, _, value = pair.partition("=")
            if _SECRET_KEY.search(unquote(key)):
                found.add(value)
    return {text for secret in found for text in (secret, unquote(secret)) if text}


def _redacted_part(part: str) -> str:
    scheme, separator, rest = part.partition("://")
    if not separator or scheme.lower() in _FILES:
        return part
    if _userinfo(part) is not None:
        rest = f"{_HIDDEN}@{rest.rpartition('@')[2]}"
    head, mark, _ = _cut(rest, "?#")
    authority, slash, path = _cut(head, "/")
    if _HOSTS.fullmatch(authority.rpartition("@")[2]) is None:
        # A port that is none may be the begin of a password.
        authority = _HIDDEN
    return f"{scheme}://{authority}{slash}{path}{f'{mark}…' if mark else ''}"


def _userinfo(part: str) -> str | None:
    """Return what stands, or may stand, before the host."""
    _, _, rest = part.partition("://")
    authority, _, _ = _cut(rest, "/?#")
    if "@" in rest and ("@" in authority or ":" in authority):
        return rest.rpartition("@")[0]
    return None


def _has_password(part: str) -> bool:
    userinfo = _userinfo(part)
    if userinfo is None or ":" not in unquote(userinfo):
        return False
    authority, _, _ = _cut(part.partition("://")[2], "/?#")
    # With a port that is one, a web server's path may hold an @, as of a package's version.
    return "@" in authority or not (scheme_of(part) in ("http", "https") and _HOSTS.fullmatch(authority))


def _cut(text: str, marks: str) -> tuple[str, str, str]:
    place = next((place for place, letter in enumerate(text) if letter in marks), len(text))
    return text[:place], text[place : place + 1], text[place + 1 :]


def _decoded(uri: str, path: str) -> Path:
    if "?" in path or "#" in path:
        raise BadUri(f"{uri!r}: a file takes no options; in its name write %3F for a question mark, %23 for #")
    # By bytes: a name need not be UTF-8.
    return Path(_checked(os.fsdecode(unquote_to_bytes(os.fsencode(_checked(path))))))


def _encoded(path: str | Path) -> str:
    return quote(os.fsencode(path), safe="/")


def _checked(path: str) -> str:
    if "\0" in path:
        raise BadUri(_NUL)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise BadUri("has half a surrogate pair, which no name can have") from None
    return path
