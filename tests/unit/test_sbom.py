"""Lists of contents: what they hold of an image, and that each image that is built gets one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from images import build as building
from images.builders import Docker, Order, archive_path
from images.sbom import sbom
from images.sources import Image

_CONFIGURATION = b'{"config": {}}'
_STATUS = """\
Package: apt
Status: install ok installed
Architecture: amd64
Version: 2.6.1
Description: commandline package manager
 of several lines

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
_SITE = "opt/shardwise/lib/python3.13/site-packages"
_BASE_LAYER = {
    "var/lib/dpkg/status": _STATUS,
    "usr/lib/os-release": 'NAME="Debian"\nVERSION_ID="12"\nID=debian\n',
    "usr/local/lib/pip-24.0.dist-info/METADATA": "Name: pip\nVersion: 24.0\n",
    "usr/local/lib/old-1.dist-info/METADATA": "Name: old\nVersion: 1\n",
}
_OUR_LAYER = {
    "usr/local/lib/.wh.old-1.dist-info": "",
    f"./{_SITE}/Typing_Extensions-4.0.dist-info/METADATA": "Name: Typing_Extensions\nVersion: 4.0\nLicense: Ünsaid\n",
    f"{_SITE}/six-1.dist-info/METADATA": "Name: six\nVersion: 1\nLicense-Expression: MIT\n\nVersion: 2\n",
    f"{_SITE}/six-1.dist-info/RECORD": "",
}


class _Builder:
    """Builds the same image whatever is asked for."""

    default_base = "base:1"

    def has(self, ref: str) -> bool:
        return archive_path(ref).exists()

    def build(self, order: Order) -> None:
        _write(archive_path(order.ref))

    def archive(self, ref: str) -> Path:
        return archive_path(ref)

    def forget(self, repository: str, *, but: str) -> None:
        Docker().forget(repository, but=but)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of images, and a builder that needs no other program."""
    monkeypatch.setenv("SHARDWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BASE_IMAGE", raising=False)
    monkeypatch.setattr(building, "choose", _Builder)
    return tmp_path / "cache" / "images"


@pytest.fixture
def sample(tmp_path: Path) -> Image:
    """An image of one file."""
    (tmp_path / "Dockerfile").touch()
    return Image(name="sample", repository="shardwise/sample", dockerfile=tmp_path / "Dockerfile", context={})


def test_a_list_has_what_a_container_sees_of_python_and_debian(tmp_path: Path) -> None:
    found = json.loads(sbom(_write(tmp_path / "image.tar"), ref="example/sample:1.0", base="base:1"))

    assert {entry["purl"] for entry in found["components"]} == {
        "pkg:deb/debian/apt@2.6.1?arch=amd64&distro=debian-12",
        "pkg:pypi/pip@24.0",
        "pkg:pypi/six@1",
        "pkg:pypi/typing-extensions@4.0",
    }
    (six,) = (entry for entry in found["components"] if entry["name"] == "six")
    assert six["licenses"] == [{"license": {"id": "MIT"}}]
    assert six["evidence"]["occurrences"] == [{"location": f"/{_SITE}/six-1.dist-info/METADATA"}]


def test_a_list_names_its_image_and_no_other(tmp_path: Path) -> None:
    found = json.loads(sbom(_write(tmp_path / "image.tar"), ref="registry.invalid:5000/sample:1.0", base="base:1"))

    image: dict[str, Any] = found["metadata"]["component"]
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert (image["name"], image["version"]) == ("registry.invalid:5000/sample", "1.0")
    assert image["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(_CONFIGURATION).hexdigest()}]
    assert image["properties"] == [{"name": "shardwise:base-image", "value": "base:1"}]


def test_an_image_that_is_built_has_its_list_beside_it(cache: Path, sample: Image) -> None:
    with building.alone():
        built = building.build([sample])["sample"]
        assert built.sbom.parent == cache
        assert json.loads(built.sbom.read_text())["metadata"]["component"]["bom-ref"] == built.ref

        # An image of before there were lists.
        built.sbom.unlink()
        assert building.build([sample])["sample"].sbom.exists()


def test_the_list_of_an_image_that_is_gone_goes_with_it(cache: Path, sample: Image) -> None:
    with building.alone():
        old = building.build([sample])["sample"]
        sample.dockerfile.write_text("changed")
        new = building.build([sample])["sample"]

    assert {path for path in cache.iterdir() if path.name != ".lock"} == {new.archive, new.sbom}
    assert old.ref != new.ref


@pytest.mark.parametrize(("base", "told"), [("python:3.13-slim", True), (f"python:3.13-slim@sha256:{'0' * 64}", False)])
def test_a_base_without_digest_is_told(
    cache: Path, sample: Image, capsys: pytest.CaptureFixture[str], base: str, told: bool
) -> None:
    with building.alone():
        building.build([sample], base=base)

    assert ("is named without its digest" in capsys.readouterr().err) is told


def test_another_digest_of_the_same_base_is_another_image(sample: Image) -> None:
    bases = [f"python:3.13-slim@sha256:{digit * 64}" for digit in "01"]

    assert len({sample.tag(base=base) for base in bases}) == 2


def _write(path: Path) -> Path:
    """Write an image of two layers as `docker save` does."""
    with tarfile.open(path, "w") as archive:
        _add(archive, "base.tar", _tar(_BASE_LAYER))
        _add(archive, "ours.tar", _tar(_OUR_LAYER))
        _add(archive, "config.json", _CONFIGURATION)
        manifest = [{"Config": "config.json", "Layers": ["base.tar", "ours.tar"]}]
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def _tar(files: dict[str, str]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as layer:
        for path, text in files.items():
            _add(layer, path, text.encode())
    return written.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
