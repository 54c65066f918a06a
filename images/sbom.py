"""An image's list of contents (SBOM), read from the built image: its Python packages and its Debian packages.

What a build was asked for is not what it holds: the base brings packages of its own. So it is the files that count,
as a container sees them, and not the lock.
"""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.component_evidence import ComponentEvidence, Occurrence
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from .archive import image_id, visible
from .pins import normalized

_DEBIAN_PACKAGES = "var/lib/dpkg/status"
_SYSTEM = "usr/lib/os-release"
_PYTHON_PACKAGE = re.compile(r"(.*/)?[^/]+\.dist-info/METADATA")
# Some packages have a licence's whole text where others have its name.
_LONGEST_LICENCE = 100


def sbom(archive: Path, *, ref: str, base: str) -> str:
    """Return what is in an image's archive as CycloneDX 1.6 JSON, under the image's full name and with its id."""
    files = visible(archive, lambda path: path in (_DEBIAN_PACKAGES, _SYSTEM) or bool(_PYTHON_PACKAGE.fullmatch(path)))
    repository, _, tag = ref.rpartition(":")
    image = Component(
        type=ComponentType.CONTAINER,
        name=repository,
        version=tag,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image_id(archive))],
        properties=[Property(name="shardwise:base-image", value=base)],
        bom_ref=ref,
    )
    components = [*_python_packages(files), *_debian_packages(files)]
    metadata = BomMetaData(component=image, tools=ToolRepository(components=[this_component()]))
    bom = Bom(metadata=metadata, components=components)
    bom.register_dependency(image, components)
    return str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"


def _python_packages(files: dict[str, bytes]) -> Iterator[Component]:
    for path, content in sorted(files.items()):
        if _PYTHON_PACKAGE.fullmatch(path):
            # As text: of bytes beyond ASCII, the parser would make no string.
            about = email.message_from_string(content.decode(errors="replace"))
            licence = about["License-Expression"] or about["License"] or ""
            yield Component(
                name=about["Name"],
                version=about["Version"],
                licenses=[LicenseFactory().make_from_string(licence)] if 0 < len(licence) <= _LONGEST_LICENCE else (),
                purl=PackageURL("pypi", name=normalized(about["Name"]), version=about["Version"]),
                evidence=ComponentEvidence(occurrences=[Occurrence(location=f"/{path}")]),
                # The same package may be there twice, in the base and in ours.
                bom_ref=f"/{path}",
            )


def _debian_packages(files: dict[str, bytes]) -> Iterator[Component]:
    system = dict(re.findall(r'^(ID|VERSION_ID)="?(.*?)"?$', files.get(_SYSTEM, b"").decode(), flags=re.M))
    for about in _stanzas(files.get(_DEBIAN_PACKAGES, b"").decode()):
        if about["Status"].endswith(" installed"):
            kind = system.get("ID", "debian")
            qualifiers = {"arch": about["Architecture"]}
            if "VERSION_ID" in system:
                qualifiers["distro"] = f"{kind}-{system['VERSION_ID']}"
            purl = PackageURL(
                "deb", namespace=kind, name=about["Package"], version=about["Version"], qualifiers=qualifiers
            )
            yield Component(name=about["Package"], version=about["Version"], purl=purl, bom_ref=str(purl))


def _stanzas(status: str) -> Iterator[Message]:
    for stanza in status.split("\n\n"):
        if stanza.strip():
            yield email.message_from_string(stanza)
