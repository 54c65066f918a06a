"""What a store says of itself, read with suspicion: a later program may have made the table, or somebody edited it."""

from __future__ import annotations

from collections.abc import Mapping

from .base import StoreMismatch, VectorModel, check_version


def model_of(meta: Mapping[str, str], *, where: str) -> VectorModel:
    """Return the model that table ingest_meta names, when it is of this program's version.

    Raises:
        StoreMismatch: it is of another version, or not one of ours.
    """
    version = meta.get("schema_version", "0")
    if not version.isdecimal():
        raise StoreMismatch(f"{where}: its schema has version {version!r}, which is none of this program's")
    check_version(where=where, found=int(version))
    try:
        return VectorModel(name=meta["embed_model"], dimension=int(meta["dimension"]))
    except (KeyError, ValueError) as error:
        raise StoreMismatch(f"{where}: its table ingest_meta is not one of this program's: {error}") from error
