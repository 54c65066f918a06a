"""Rows of parquet files, one column of them: what else a file holds is not read, and can be whatever it is."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from shardwise.engine.errors import BadConfiguration, BadInput
from shardwise.engine.files import local_path, open_input
from shardwise.engine.remote import matching, translated
from shardwise_api.uris import redacted

_PATTERN = frozenset("*?[{")
_BATCH = 1000


class ParquetRows:
    """Rows as mappings with the one column, in order of the files; a local name is a name, never a pattern."""

    def __init__(self, *, uris: list[str], column: str, field: str) -> None:
        """Look for the files. Raises BadConfiguration when the library is missing, or a file can't be opened."""
        if importlib.util.find_spec("datasets") is None or importlib.util.find_spec("pyarrow") is None:
            raise BadConfiguration(f"{field}: needs pip install 'shardwise[datasets]'")
        self._column, self._field = column, field
        self._uris = [found for uri in uris for found in self._found(uri)]

    def _found(self, uri: str) -> list[str]:
        if local_path(uri, field=self._field) is not None or not _PATTERN.intersection(uri.rpartition("/")[2]):
            return [uri]
        found = matching(uri, field=self._field)
        if not found:
            raise BadInput(f"{self._field}: {redacted(uri)}: no file has such a name")
        return found

    @property
    def column_names(self) -> list[str]:
        """Columns of the first file."""
        with ExitStack() as stack:
            return list(self._opened(self._uris[0], stack).schema_arrow.names)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for uri in self._uris:
            with ExitStack() as stack:
                file = self._opened(uri, stack)
                names = file.schema_arrow.names
                if self._column not in names:
                    found = ", ".join(map(repr, names))
                    raise BadInput(f"{self._field}: {redacted(uri)}: no column {self._column!r}; columns are {found}")
                for batch in file.iter_batches(batch_size=_BATCH, columns=[self._column]):
                    yield from batch.to_pylist()

    def _opened(self, uri: str, stack: ExitStack) -> Any:
        from pyarrow.parquet import ParquetFile

        stream = stack.enter_context(open_input(uri, field=self._field))
        if not stream.seekable():
            raise BadInput(
                f"{self._field}: {redacted(uri)}: its server gives no parts of a file, which parquet needs: download it"
            )
        stack.enter_context(_Explained(uri, field=self._field))
        return ParquetFile(stream)


class _Explained:
    """Turns what is wrong with a file while it is read into bad input that names it."""

    def __init__(self, uri: str, *, field: str) -> None:
        self._uri, self._field = uri, field

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        from pyarrow.lib import ArrowException

        if not isinstance(error, ArrowException | OSError):
            return
        if isinstance(error, ArrowException) or local_path(self._uri) is not None:
            said = " ".join(str(error).split())[:500]
            raise BadInput(f"{self._field}: {redacted(self._uri)}: not a readable parquet file: {said}") from error
        with translated(field=self._field, uri=self._uri):
            raise error
