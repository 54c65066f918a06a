"""What an engine is written with: `BlockEngine`, the sources it reads and the stores its blocks are kept in.

Nothing is loaded before it is asked for, so that a worker loads what its engine needs and no more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .block_engine import Block, BlockEngine, Ledger, Summary
    from .errors import BadConfiguration, BadInput, Temporary, Unavailable, WorkError
    from .files import OutputFolder, open_input
    from .sources.base import Item, Source, Survey
    from .sources.files import CsvSource, LineSource, WholeFileSource
    from .sources.library import HubSource, ParquetSource
    from .sources.ranges import RangeSource
    from .spec import EngineSpec, Uri
    from .sql_store import SqlBlockStore
    from .stores import BlockRecord, BlockStore, FileBlockStore

_MODULES = {
    ".block_engine": ("Block", "BlockEngine", "Ledger", "Summary"),
    ".errors": ("BadConfiguration", "BadInput", "Temporary", "Unavailable", "WorkError"),
    ".files": ("OutputFolder", "open_input"),
    ".sources.base": ("Item", "Source", "Survey"),
    ".sources.files": ("CsvSource", "LineSource", "WholeFileSource"),
    ".sources.library": ("HubSource", "ParquetSource"),
    ".sources.ranges": ("RangeSource",),
    ".spec": ("EngineSpec", "Uri"),
    ".sql_store": ("SqlBlockStore",),
    ".stores": ("BlockRecord", "BlockStore", "FileBlockStore"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BadConfiguration",
    "BadInput",
    "Block",
    "BlockEngine",
    "BlockRecord",
    "BlockStore",
    "CsvSource",
    "EngineSpec",
    "FileBlockStore",
    "HubSource",
    "Item",
    "Ledger",
    "LineSource",
    "OutputFolder",
    "ParquetSource",
    "RangeSource",
    "Source",
    "SqlBlockStore",
    "Summary",
    "Survey",
    "Temporary",
    "Unavailable",
    "Uri",
    "WholeFileSource",
    "WorkError",
    "open_input",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
