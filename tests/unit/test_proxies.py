"""Proxies of the environment: loopback is asked directly, NO_PROXY means what it says, and nothing crashes a client."""

from __future__ import annotations

import httpx
import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise_api.proxies import BadProxy, adapt_environment, proxy_for
from shardwise_jobs.engines.ingest.tmd.ollama_wire import OllamaWire
from shardwise_jobs.engines.kato.http import HttpClient

PROXY = "http://proxy.example:3128"
CASES = {
    "ALL_PROXY": "socks5://127.0.0.1:1",
    "all_proxy": "socks://127.0.0.1:1",
    "NO_PROXY": "localhost,127.0.0.1,[::1]",
    "no_proxy": "fd00::/8,[::1]:8080,::1",
    "HTTP_PROXY": "http://[::1",
    "http_proxy": "ftp://proxy:port",
}
"""Each made every client fail before anything was sent, or sent what was meant for this machine to a proxy."""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "a.localhost", "[::1]", "[::ffff:127.0.0.1]"])
def test_this_machine_is_asked_directly(host: str) -> None:
    assert proxy_for(f"http://{host}:8000/x", environment={"HTTP_PROXY": PROXY, "ALL_PROXY": "nonsense://"}) is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("", "http://h/", False),
        ("*", "http://h/", True),
        ("a,*,b", "http://h/", True),
        ("10.0.0.0/8", "https://10.96.0.1:443/", True),
        ("10.0.0.0/8", "https://11.96.0.1/", False),
        ("10.0.0.1", "https://10.0.0.1/", True),
        ("fd00::/8", "https://[fd00::7]/", True),
        ("[fd00::7]", "https://[fd00::7]/", True),
        ("[fd00::7]:8080", "https://[fd00::7]/", False),
        ("[fd00::7]:443", "https://[fd00::7]/", True),
        ("svc,.cluster.local", "http://kato.svc/", True),
        ("svc, .cluster.local ", "http://kato.svc.cluster.local./", True),
        ("*.cluster.local", "http://a.cluster.local/", True),
        ("example.com", "http://notexample.com/", False),
        ("Example.COM:8000", "http://example.com:8000/", True),
        ("example.com:8000", "http://example.com/", False),
        ("http://example.com", "http://example.com/", True),
        (",,]:[,/,::::", "http://example.com/", False),
    ],
)
def test_no_proxy_names_hosts_domains_addresses_and_networks(no_proxy: str, url: str, direct: bool) -> None:
    environment = {"http_proxy": PROXY, "HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert proxy_for(url, environment=environment) == (None if direct else PROXY)


def test_small_letters_come_first_and_a_schemes_own_before_all() -> None:
    environment = {"http_proxy": "a:1", "HTTP_PROXY": "b:1", "ALL_PROXY": "http://c:1"}
    assert proxy_for("http://h", environment=environment) == "http://a:1"
    assert proxy_for("https://h", environment=environment) == "http://c:1"
    assert proxy_for("http://h", environment={"http_proxy": "", "HTTP_PROXY": "b:1"}) is None


@pytest.mark.parametrize(
    "value", ["ftp://proxy", "http://", "http://h:port", "http://u:S3cr3tPw@h:99999", "http://[::1"]
)
def test_a_proxy_that_is_none_is_named_by_its_variable_without_its_password(value: str) -> None:
    with pytest.raises(BadProxy, match=r"^HTTPS_PROXY: .* is no proxy as http://host:port") as caught:
        proxy_for("https://h", environment={"HTTPS_PROXY": value})
    assert "S3cr3tPw" not in str(caught.value)


@pytest.mark.parametrize("value", ["socks5://h:1", "socks5h://h:1", "socks://h:1"])
def test_a_socks_proxy_says_which_package_it_needs(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(BadProxy, match=r"^ALL_PROXY: .*a SOCKS proxy needs .*httpx\[socks\]"):
        proxy_for("https://h", environment={"ALL_PROXY": value})


@pytest.fixture(params=CASES)
def odd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv(request.param, CASES[request.param])


def test_our_clients_reach_this_machine_whatever_the_variables_say(odd: None) -> None:
    wire = HttpClient(base_url="http://127.0.0.1:1", max_attempts=1)
    assert not wire._http._mounts
    wire.close()
    assert not OllamaWire(endpoint="http://[::1]:1", timeout_seconds=1, connections=1)._http._mounts


def test_a_library_of_its_own_way_reaches_an_exempt_host(odd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    adapt_environment("https://127.0.0.1:6443")
    with httpx.Client() as client:
        transport = client._transport_for_url(httpx.URL("https://127.0.0.1:6443/version"))
        assert transport is client._transport


def test_a_network_exempts_for_every_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,[fd00::1],fd00::/8")
    adapt_environment("https://10.96.0.1:443")
    with httpx.Client() as client:
        assert client._transport_for_url(httpx.URL("https://10.96.0.1/")) is client._transport
        assert client._transport_for_url(httpx.URL("https://[fd00::1]/")) is client._transport
        assert client._transport_for_url(httpx.URL("https://elsewhere.example/")) is not client._transport


def test_variables_that_all_clients_read_alike_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.example,10.0.0.1"}
    adapt_environment("https://b.example", environment=environment)
    assert environment == {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.example,10.0.0.1"}


def test_a_proxy_that_is_needed_and_is_none_is_bad_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://x")
    with pytest.raises(BadConfiguration, match="HTTP_PROXY"):
        HttpClient(base_url="http://kato.example:8000")
    with pytest.raises(BadConfiguration, match="HTTP_PROXY"):
        OllamaWire(endpoint="http://llm.example:11434", timeout_seconds=1, connections=1)
