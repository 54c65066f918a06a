"""The package of docs/write-an-engine.md, exactly as it stands there: installed for a test, and in an image."""

from __future__ import annotations

import re
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

from images.sources import Image

PAGE = (Path(__file__).parents[2] / "docs" / "write-an-engine.md").read_text(encoding="utf-8")
_WHEEL = "dist/wordcount-0.1.0-py3-none-any.whl"


def code(language: str) -> list[str]:
    """Return the page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.M | re.S)


ENGINE, TEST = code("python")
(MANIFEST,) = code("yaml")


def package(folder: Path) -> Path:
    """Put the package into a folder, as pip installs it, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wordcount.py").write_text(ENGINE, encoding="utf-8")
    project = tomllib.loads(code("toml")[0])["project"]
    information = folder / f"wordcount-{project['version']}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: wordcount\nVersion: {project['version']}\n")
    points = project["entry-points"]["shardwise.engines"]
    (information / "entry_points.txt").write_text(
        "[shardwise.engines]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    return folder


def image(folder: Path) -> Image:
    """Describe the page's image of the package; `folder` is for its files. Its base is the worker's image."""
    installed = package(folder / "package")
    wheel = folder / _WHEEL
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in sorted(path for path in installed.rglob("*") if path.is_file()):
            # The same bytes each time, and so the same tag.
            archive.writestr(zipfile.ZipInfo(str(file.relative_to(installed))), file.read_bytes())
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(code("dockerfile")[0], encoding="utf-8")
    return Image(
        name="wordcount", repository="shardwise.test/wordcount", dockerfile=dockerfile, context={_WHEEL: wheel}
    )


def counted(text: str) -> str:
    """Return what the word count is to write of a text."""
    words = Counter(text.split())
    return "".join(f"{word}\t{number}\n" for word, number in sorted(words.items()))
