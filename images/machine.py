"""How this machine reaches its package indexes, for a build to use and an image never to keep.

Index addresses, proxies and certificates go in as build secrets: files that a step sees while it runs, in no layer and
in no line of an image's history. A Dockerfile reads them where they are, and does without where they are not.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# pip's option -> the variables by which uv understands the same.
_PIP_OPTIONS = {
    "default-timeout": ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT"),
    "timeout": ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT"),
    "index-url": ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    "extra-index-url": ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
    "trusted-host": ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST"),
    "proxy": ("PIP_PROXY",),
    "retries": ("PIP_RETRIES",),
}
# What pip goes by, the stronger ones later.
_PIP_SECTIONS = ("global", "install", ":env:")
_UV_SETTINGS = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_INDEX_STRATEGY",
    "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT",
    "UV_NATIVE_TLS",
)
_MOUNTED_CERTIFICATES = "/run/secrets/certificates"


def index_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which pip and uv find their indexes, from this environment and from pip's own files."""
    found: dict[str, str] = {}
    for option, value in _pip_configuration(environment).items():
        for variable in _PIP_OPTIONS.get(option, ()):
            # A file may hold several, a line each; variables hold them in one line.
            found[variable] = " ".join(value.split())
    if "UV_INDEX" in found:
        # As pip does it: the best version wins, whichever index has it.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    names = (*_PROXIES, *_UV_SETTINGS)
    return found | {name: environment[name] for name in names if environment.get(name)}


def certificates(environment: Mapping[str, str]) -> Path | None:
    """Return the bundle that this machine was told to trust, if it was."""
    for name in _CERTIFICATES:
        if (value := environment.get(name)) and Path(value).is_file():
            return Path(value)
    return None


def write_secrets(folder: Path, *, environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Write the secrets into a folder and return them by the name that Dockerfiles mount them under."""
    folder.chmod(0o700)
    settings = index_settings(environment)
    secrets: dict[str, Path] = {}
    if bundle := certificates(environment):
        secrets["certificates"] = folder / "certificates"
        secrets["certificates"].write_bytes(bundle.read_bytes())
        settings |= dict.fromkeys(_CERTIFICATES, _MOUNTED_CERTIFICATES)
    secrets["settings"] = folder / "settings"
    secrets["settings"].write_text("".join(f"export {k}={shlex.quote(v)}\n" for k, v in settings.items()))
    return secrets


def _pip_configuration(environment: Mapping[str, str]) -> dict[str, str]:
    """Ask pip itself what it would go by: it alone knows all of its files, and their order."""
    words = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(words, env=dict(environment), capture_output=True, text=True, check=False)
    sections: dict[str, dict[str, str]] = {name: {} for name in _PIP_SECTIONS}
    # `global.index-url='…'`, `install.timeout='…'`, `:env:.index-url='…'`, sorted by name and not by strength.
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in sections and value:
            sections[section][option] = str(ast.literal_eval(value))
    return {option: value for name in _PIP_SECTIONS for option, value in sections[name].items()}
