"""Which proxy a URL is asked through: one reading of the environment's variables for every client that we make.

Clients differ in what they make of `NO_PROXY`, and some fail on what others understand, before anything is sent. Here
a loopback address is asked directly in any case, `NO_PROXY` may name hosts, domains, addresses and networks, with or
without a port, and a proxy that can't be used is said by the name of its variable.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from .uris import redacted

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEMES = ("http", "https", "socks5", "socks5h")
_PROXIES = (("http_proxy", "HTTP_PROXY"), ("https_proxy", "HTTPS_PROXY"), ("all_proxy", "ALL_PROXY"))
_NO_PROXY = ("no_proxy", "NO_PROXY")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class BadProxy(ValueError):
    """A variable names a proxy that can't be used; the text names the variable."""


def proxy_for(url: str, *, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the URL of the proxy that a URL is asked through, None when it is asked directly.

    Raises:
        BadProxy: the proxy's URL is none, or needs a package that is missing.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if not host or _is_loopback(host) or _is_exempt(parts, host, environment):
        return None
    for names in ((f"{parts.scheme}_proxy", f"{parts.scheme.upper()}_PROXY"), ("all_proxy", "ALL_PROXY")):
        name, value = _first(names, environment)
        if value:
            return _checked(name, value)
    return None


def adapt_environment(url: str, *, environment: MutableMapping[str, str] = os.environ) -> None:
    """Make the variables such that a library's own client reads them as `proxy_for` does for this URL.

    Raises:
        BadProxy: as `proxy_for`.
    """
    direct = proxy_for(url, environment=environment) is None
    name, value = _first(_NO_PROXY, environment)
    entries = [entry for entry in map(_plain_entry, value.split(",")) if entry]
    if direct and (proxies := [found for names in _PROXIES if (found := _first(names, environment))[1]]):
        try:
            for proxy in proxies:
                _checked(*proxy)
            entries.append((urlsplit(url).hostname or "").rstrip("."))
        except BadProxy:
            # Clients are made with all proxies at once, and would fail on one that they never use.
            entries = ["*"]
    if ",".join(entries) != value:
        environment[name] = ",".join(dict.fromkeys(entries))


def _first(names: tuple[str, str], environment: Mapping[str, str]) -> tuple[str, str]:
    """Return name and value of the variable that counts: in small letters before capitals, empty for unset."""
    name = names[0] if names[0] in environment else names[1]
    return name, environment.get(name, "").strip()


def _checked(name: str, value: str) -> str:
    url = value if "://" in value else f"http://{value}"
    # As curl and others spell it.
    url = f"socks5{url[5:]}" if url.startswith("socks:") else url
    shown = redacted(url)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise BadProxy(f"{name}: {shown!r} is no proxy as http://host:port or socks5://host:port")
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise BadProxy(
            f"{name}: {shown!r}: a SOCKS proxy needs a package that is missing here (pip install 'httpx[socks]'); "
            "name an HTTP proxy, or exempt the host by NO_PROXY"
        )
    return url


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def _is_exempt(parts: SplitResult, host: str, environment: Mapping[str, str]) -> bool:
    _, value = _first(_NO_PROXY, environment)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    return any(_matches(entry.strip().lower(), host=host, port=port) for entry in value.split(","))


def _matches(entry: str, *, host: str, port: int | None) -> bool:
    if not entry or entry == "*":
        return entry == "*"
    name, wanted = _name_and_port(entry.rpartition("://")[2])
    if wanted is not None and wanted != port:
        return False
    address = _address(host)
    if address is not None:
        with suppress(ValueError):
            return address in ipaddress.ip_network(name, strict=False)
        return False
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _name_and_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        # Of a network the length comes after the bracket, or before it.
        name += rest if rest.startswith("/") else ""
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        name, port = entry, ""
    return name, int(port) if port.isdecimal() else None


def _plain_entry(entry: str) -> str:
    """Return an entry in a form that every client can read; empty where there is none."""
    entry = entry.strip()
    name, port = _name_and_port(entry)
    address = _address(name)
    if address is not None and port is None:
        return str(address)
    return "" if "[" in entry or "]" in entry or entry.count(":") > 1 else entry


def _address(host: str) -> Address | None:
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return getattr(address, "ipv4_mapped", None) or address
    return None
