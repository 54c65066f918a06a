"""Files by URI through fsspec: with limits on every wait, and each failure sorted by whether another try may mend it.

Settings come as fsspec and its file systems read them: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on, or FSSPEC_S3_….
"""

from __future__ import annotations

import errno
import functools
import importlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeVar, cast
from urllib.parse import urlsplit

from shardwise_api.proxies import BadProxy, proxy_for
from shardwise_api.uris import allowed_schemes, parts_of, problem_of, redacted, scheme_of

from .backoff import retrying
from .credentials import with_credentials
from .errors import BadConfiguration, Unavailable, WorkError
from .http_client import adapt_to_hub
from .secrets import remember

T = TypeVar("T")

ATTEMPTS = 3
_LONGEST_WAIT_SECONDS = 4.0
_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_BUFFER = 1 << 16
_EXTRAS = {"s3": "s3", "s3a": "s3", "http": "kato", "https": "kato"}
_CREDENTIALS = (
    "credentials come as environment variables, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, by "
    "spec.output.secretRef or spec.worker.envFrom; they must allow to read, write and list"
)
_HOPELESS = frozenset(
    {"ParamValidationError", "UnknownEndpointError", "InvalidEndpointConfigurationError", "InvalidRegionError"}
)
_UNTOLD = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "CredentialRetrievalError"}
)


@functools.cache
def library() -> Any:
    """Return fsspec, imported on first use: a worker on local files does without."""
    import fsspec
    from fsspec.config import conf

    # Only where nobody has said otherwise. Without these a lost packet is waited for a minute, five times.
    s3 = conf.setdefault("s3", {}).setdefault("config_kwargs", {})
    for name, value in (
        ("connect_timeout", _CONNECT_SECONDS),
        ("read_timeout", _READ_SECONDS),
        ("retries", {"max_attempts": 1}),
    ):
        s3.setdefault(name, value)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and _is_asked_directly(endpoint):
        # Its own reading of NO_PROXY knows no networks.
        s3.setdefault("proxies", {})
    try:
        aiohttp = importlib.import_module("aiohttp")
    except ImportError:
        return fsspec
    # No limit to the whole: a file is read for as long as it takes to learn it.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
    for scheme in ("http", "https"):
        conf.setdefault(scheme, {}).setdefault("client_kwargs", {}).setdefault("timeout", timeout)
    return fsspec


def _is_asked_directly(url: str) -> bool:
    try:
        return proxy_for(url) is None
    except BadProxy:
        return False


def open_stream(uri: str, *, field: str) -> IO[bytes]:
    """Open a file for reading its bytes from its begin to its end.

    Raises:
        BadConfiguration: it can't be opened.
        Unavailable: its place can't be reached.
    """

    def opened() -> IO[bytes]:
        with translated(field=field, uri=uri):
            place, path = _place_of(uri)
            # A stream that can't go back has no lines by itself.
            return cast("IO[bytes]", io.BufferedReader(place.open(path, "rb"), _BUFFER))

    return _tried(opened)


def _place_of(uri: str) -> tuple[Any, str]:
    """Return the file system that a URI is of, and the path there; to fsspec each `::` would begin another."""
    remember(uri)
    if (problem := problem_of(uri, schemes=allowed_schemes())) is not None:
        raise ValueError(problem)
    uri = "::".join(map(with_credentials, parts_of(uri)))
    if len(parts_of(uri)) > 1:
        place, path = library().core.url_to_fs(uri)
        return place, path
    if scheme_of(uri) == "hf":
        adapt_to_hub()
    kind = library().get_filesystem_class(scheme_of(uri))
    place = kind(**kind._get_kwargs_from_urls(uri))
    return place, place._strip_protocol(uri)


def read(uri: str, *, field: str) -> bytes | None:
    """Return a file's content, None when there is no such file. Raises as `open_stream`."""

    def content() -> bytes | None:
        with translated(field=field, uri=uri):
            place, path = _place_of(uri)
            try:
                return bytes(place.cat_file(path))
            except FileNotFoundError:
                return None

    return _tried(content)


def matching(uri: str, *, field: str) -> list[str]:
    """Return the URIs of the files whose names match a pattern, in order of their names. Raises as `open_stream`."""

    def found() -> list[str]:
        with translated(field=field, uri=uri):
            place, path = _place_of(uri)
            return [str(place.unstrip_protocol(name)) for name in sorted(place.glob(path))]

    return _tried(found)


def write(uri: str, content: bytes, *, field: str) -> None:
    """Write a file with one request, so that it appears whole or not at all. Raises as `open_stream`."""

    def written() -> None:
        with translated(field=field, uri=uri):
            place, path = _place_of(uri)
            place.pipe_file(path, content)

    _tried(written)


def create(uri: str, content: bytes, *, field: str) -> bool:
    """Write a file with one request unless there is one; say whether this call wrote it. Raises as `open_stream`.

    Where a place can't write on a condition, the last of two writers at the same moment wins.
    """

    def created() -> bool:
        with translated(field=field, uri=uri):
            place, path = _place_of(uri)
            try:
                place.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            except Exception as error:
                # What a refused condition raises is each place's own, and an answer may be lost.
                place.invalidate_cache()
                if place.exists(path):
                    return False
                if not _knows_no_conditions(error):
                    raise
                place.pipe_file(path, content)
            return True

    return _tried(created)


def _knows_no_conditions(error: Exception) -> bool:
    return isinstance(error, NotImplementedError | TypeError | ValueError) or "NotImplemented" in str(error)


def names(uri: str, *, field: str) -> list[str]:
    """Return the names of what is in a folder, none when there is no such folder. Raises as `open_stream`."""

    def listed() -> list[str]:
        with translated(field=field, uri=uri):
            place, path = _place_of(uri)
            # Others write there too.
            place.invalidate_cache()
            try:
                return [name.rstrip("/").rpartition("/")[2] for name in place.ls(path, detail=False)]
            except FileNotFoundError:
                return []

    return _tried(listed)


def read_all(uris: list[str], *, field: str) -> list[bytes]:
    """Return the content of several files of one place, asked for at once where it can be. Raises as `open_stream`."""

    def contents() -> list[bytes]:
        with translated(field=field, uri=uris[0]):
            place, _ = _place_of(uris[0])
            paths = [place._strip_protocol(uri) for uri in uris]
            # A single one would come without its name.
            found = place.cat(paths) if len(paths) > 1 else {paths[0]: place.cat_file(paths[0])}
            return [bytes(found[path]) for path in paths]

    return _tried(contents) if uris else []


def remove(uri: str, *, field: str) -> None:
    """Remove a file. Raises as `open_stream`."""
    with translated(field=field, uri=uri):
        place, path = _place_of(uri)
        place.rm_file(path)


def name_of(uri: str) -> str:
    """Return the name of the file that a URI leads to, without a query."""
    path = urlsplit(uri).path if scheme_of(uri) in ("http", "https") else uri
    return path.rstrip("/").rpartition("/")[2]


@contextmanager
def translated(*, field: str, uri: str) -> Iterator[None]:
    """Raise what fsspec's file systems raise as an error that names the field and the way out."""
    try:
        yield
    except WorkError:
        raise
    except Exception as error:
        explained = _explained(error, where=f"{field}: {redacted(uri)}", scheme=scheme_of(uri))
        if explained is None:
            raise
        raise explained from error


def _explained(error: Exception, *, where: str, scheme: str) -> WorkError | None:
    error = _behind(error)
    kind, module, said = type(error).__name__, _module(error), _line(error)
    if isinstance(error, ImportError):
        extra = _EXTRAS.get(scheme)
        need = f"pip install 'shardwise[{extra}]'" if extra else said
        return BadConfiguration(f"{where}: {scheme}:// needs a package that is missing here: {need}")
    if isinstance(error, FileNotFoundError):
        return BadConfiguration(f"{where}: no such {'bucket or file' if scheme.startswith('s3') else 'file'}")
    if isinstance(error, PermissionError) or kind in _UNTOLD:
        return BadConfiguration(f"{where}: access refused ({said}); {_CREDENTIALS}")
    status = getattr(error, "status", None)
    if module == "aiohttp" and isinstance(status, int):
        what = f"{where}: answered {status} {getattr(error, 'message', '')}"
        passing = status >= 500 or status in (408, 429)
        return Unavailable(what) if passing else BadConfiguration(what)
    if kind in _HOPELESS or (isinstance(error, OSError) and error.errno == errno.EINVAL):
        return BadConfiguration(f"{where}: {said}")
    if isinstance(error, OSError) or module in ("aiohttp", "botocore", "aiobotocore"):
        return Unavailable(f"{where}: can't be reached: {said or kind}")
    return BadConfiguration(f"{where}: {said}") if isinstance(error, ValueError) else None


def _tried(call: Callable[[], T]) -> T:
    return retrying(call, on=Unavailable, attempts=ATTEMPTS, longest_seconds=_LONGEST_WAIT_SECONDS)


def _behind(error: Exception) -> Exception:
    """Return what is behind "not found", fsspec's word for whatever goes wrong with a web server's first answer."""
    found: BaseException | None = error
    while isinstance(found, FileNotFoundError):
        found = found.__cause__
    return found if isinstance(found, Exception) and _module(found) == "aiohttp" else error


def _module(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]


def _line(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error)).split())[:300]
