"""Names made from file names: a job's id, its title, its output folder, and the form of an id that Kubernetes takes."""

from __future__ import annotations

import hashlib
import re

PREFIX = "train_"
MAX_KUBERNETES_NAME = 63
_DIGEST_DIGITS = 10
_PLAIN = re.compile(r"[a-z0-9]([a-z0-9_]*[a-z0-9])?")
_OTHER = re.compile(r"[^a-z0-9]+")
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


def kubernetes_name(job_id: str) -> str:
    """Return a DNS label for an id, at most 63 characters; two ids never share one.

    `train_als` is `train-als`; an id that says more than `[a-z0-9_]`, or that is too long, ends in digits of its
    SHA-256.
    """
    if _PLAIN.fullmatch(job_id) and len(job_id) <= MAX_KUBERNETES_NAME:
        return job_id.replace("_", "-")
    digest = hashlib.sha256(job_id.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    room = MAX_KUBERNETES_NAME - _DIGEST_DIGITS - 1
    # The digits stand for the rest, so the part for people may be empty.
    readable = _OTHER.sub("-", job_id.lower()).strip("-")[:room].strip("-")
    return f"{readable}-{digest}" if readable else f"job-{digest}"
