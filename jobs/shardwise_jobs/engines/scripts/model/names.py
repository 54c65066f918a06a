"""Names made from file names: a job's id, its title and its output folder."""

from __future__ import annotations

PREFIX = "train_"
_ID_LETTERS = str.maketrans({"'": None, "(": None, ")": None, "/": "_", "&": "and", " ": "_"})


def id_of(text: str) -> str:
    """Return the id that the original makes of a file's stem or of a job's name."""
    return text.lower().translate(_ID_LETTERS)


def title_of(stem: str) -> str:
    """Return a script's name for people: `train_brain_mri` is `Brain Mri`."""
    return stem.removeprefix(PREFIX).replace("_", " ").title().strip() or stem


def output_of(stem: str) -> str:
    """Return the folder of a script's results: `train_als` writes to `als_results`."""
    return f"{stem.removeprefix(PREFIX)}_results"
